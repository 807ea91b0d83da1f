"""What is learned of a whole chip: its class, or a number, from a column of the catalog."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geoaug.data.catalog import Catalog
from geoaug.errors import ConfigurationError


@dataclass(frozen=True, slots=True, eq=False)
class ChipTargets:
    """A value for each scene of a catalog.

    Attributes:
        values: int64 ids of classes, or float32 numbers.
        classes: names by id, empty for numbers.
    """

    values: Tensor
    classes: tuple[str, ...]

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
        if found.dtype.kind in "fiub":
            return ChipTargets(torch.from_numpy(found.astype(np.float32)), ())
        listed = catalog.classes if name == "label" and catalog.classes else tuple(sorted(set(found.tolist())))
        ids = {text: number for number, text in enumerate(listed)}
        strange = sorted(set(found.tolist()) - set(ids))
        if strange:
            raise ConfigurationError(f"the class {strange[0]!r} is not among those of the catalog: {', '.join(listed)}")
        return ChipTargets(torch.tensor([ids[text] for text in found.tolist()]), listed)
