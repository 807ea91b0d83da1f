"""What is learned of a whole chip: its class, several classes, or a number, from a column of the catalog."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from geoaug.data.catalogs.catalog import Catalog
from geoaug.errors import ConfigurationError


@dataclass(frozen=True, slots=True, eq=False)
class ChipTargets:
    """A value for each scene of a catalog.

    Attributes:
        values: (scenes,) int64 ids of classes, or float32 numbers; where chips have several classes, (scenes, classes)
            float32, 1 for those that a chip has and 0 for others.
        classes: names by id, empty for numbers.
    """

    values: Tensor
    classes: tuple[str, ...]

    @property
    def several(self) -> bool:
        """Whether a chip may have several classes, or none."""
        return self.values.ndim == 2

    @staticmethod
    def of(catalog: Catalog, column: str | None) -> "ChipTargets | None":
        """The targets in a column, "label" unless told; None where no scene has a label.

        Raises:
            ConfigurationError: no such column, a scene without a value, or a class that the catalog does not list.
        """
        name = "label" if column is None else column
        found = catalog.column(name)
        missing = np.array([value is None or value != value for value in found])
        if missing.all() and column is None:
            return None
        if missing.any():
            scene = catalog.ids[int(np.flatnonzero(missing)[0])]
            raise ConfigurationError(
                f"scene '{scene}' has no {name}, as {int(missing.sum())} of {len(catalog)}: leave such scenes out"
            )
        if pa.types.is_list(catalog.table.schema.field(name).type):
            return _several(catalog, name, found.tolist())
        if found.dtype.kind in "fiub":
            return ChipTargets(torch.from_numpy(found.astype(np.float32)), ())
        listed = catalog.classes if name == "label" and catalog.classes else tuple(sorted(set(found.tolist())))
        ids = {text: number for number, text in enumerate(listed)}
        strange = sorted(set(found.tolist()) - set(ids))
        if strange:
            raise ConfigurationError(f"the class {strange[0]!r} is not among those of the catalog: {', '.join(listed)}")
        return ChipTargets(torch.tensor([ids[text] for text in found.tolist()]), listed)


def _several(catalog: Catalog, column: str, found: Sequence[Sequence[str]]) -> ChipTargets:
    """Of lists of names, as those of BigEarthNet's patches."""
    held = {name for names in found for name in names}
    if strange := [name for name in held if not isinstance(name, str)]:
        raise ConfigurationError(f"the column '{column}' lists {strange[0]!r}: several labels of a chip are names")
    # All splits count alike where the catalog lists the classes.
    listed = catalog.classes if held <= set(catalog.classes) else tuple(sorted(held))
    if not held:
        raise ConfigurationError(f"no scene has any label in the column '{column}'")
    values = torch.zeros(len(found), len(listed))
    ids = {name: number for number, name in enumerate(listed)}
    for scene, names in enumerate(found):
        values[scene, [ids[name] for name in names]] = 1
    return ChipTargets(values, listed)
