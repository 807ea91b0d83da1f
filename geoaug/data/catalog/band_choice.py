"""Which bands of all scenes are wanted, and what makes scenes of different kinds one dataset: one type, one scaling.

Works on the columns of a catalog at once, so that 100,000 scenes are looked over in well under a second.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from affine import Affine

from geoaug.data.catalog.arrow_arrays import text_scalar, to_numpy, whole_numbers
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.raster.advice import LEAVE_OUT, as_type
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.record import SceneRecord
from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor

_SHOWN = 3
_LEVELS = {"toa": "the top of the atmosphere", "surface": "the surface", None: "unknown level"}

_log = logging.getLogger("geoaug")


@dataclass(frozen=True, slots=True, eq=False)
class BandChoice:
    """The wanted bands of the scenes of a catalog.

    Attributes:
        names: as the first scene's sensor has them.
        sensor: with these bands, scaled as the tiles are.
        dtype: numpy's name of the type of the tiles.
        kept: positions of the scenes that have all bands.
        left_out: for each other scene, why.
        height, width, block_height, block_width: of the finest wanted band of each kept scene.
        transform: of the same, (scenes, 6).
        offset: of each band in DN, (scenes, bands).
        band_numbers: of each band among those of its scene, (scenes, bands).
    """

    names: tuple[str, ...]
    sensor: Sensor
    dtype: str
    kept: npt.NDArray[np.int64]
    left_out: dict[str, str]
    height: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    block_height: npt.NDArray[np.int64]
    block_width: npt.NDArray[np.int64]
    transform: npt.NDArray[np.float64]
    offset: npt.NDArray[np.float64]
    band_numbers: npt.NDArray[np.int64]

    def select(self, record: SceneRecord, scene: int) -> SceneRecord:
        """The record of a kept scene with the wanted bands alone."""
        return replace(record, bands=tuple(record.bands[number] for number in self.band_numbers[scene].tolist()))

    def shift(self, scene: int) -> list[int]:
        """What is added to the numbers of each band of a kept scene, so that all have the scaling of `sensor`."""
        return [round(shift) for shift in self.offset[scene] - np.array(self.sensor.offset)]

    def grid(self, scene: int, crs: str | None) -> Grid:
        """The grid of the finest wanted band of a kept scene."""
        return Grid(crs, Affine(*self.transform[scene]), int(self.height[scene]), int(self.width[scene]))


def choose_bands_of(
    catalog: Catalog, wanted: Sequence[str] | None, dtype: str | None, *, skip: bool = False
) -> BandChoice:
    """Look all scenes over for the wanted bands (by default those of the first scene).

    Args:
        catalog: of at least one scene.
        wanted: names or aliases.
        dtype: numpy's name of the type of the tiles; by default the type that all scenes are stored in.
        skip: whether scenes without some band, and those of another type or scaling than most, are left out, not an
            error.

    Raises:
        ConfigurationError: a band is missing in a scene, or the scenes are of different types or scalings.
    """
    if not len(catalog):
        raise ConfigurationError("the catalog holds no scene")
    bands = catalog.table.column("bands").combine_chunks()
    flat = bands.flatten()
    lengths = to_numpy(pc.list_value_length(bands))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    first = catalog[0]
    names = first.band_names if wanted is None else tuple(wanted)
    layout, examples = _layouts(catalog, bands, flat, starts, lengths)
    numbers = np.zeros((len(examples), len(names)), dtype=np.int64)
    lacking: dict[int, str] = {}
    for number, example in enumerate(examples):
        record = catalog[int(example)]
        try:
            chosen = record.select(names).band_names
        except ConfigurationError as error:
            lacking[number] = str(error)
            continue
        numbers[number] = [record.band_names.index(name) for name in chosen]
    kept = np.flatnonzero(~np.isin(layout, list(lacking)))
    if lacking and not skip:
        advice = f"name the bands that all have, or leave such scenes out: {LEAVE_OUT}"
        other = catalog[int(examples[next(iter(lacking))])]
        if other.sensor != first.sensor:
            guesses = f"{other.id} was taken for '{other.sensor}', {first.id} for '{first.sensor}'"
            advice = f"{guesses}: if they are of one sensor, index them with it (sensor=, --sensor); else {advice}"
        raise ConfigurationError(f"{next(iter(lacking.values()))} ({len(layout) - len(kept)} such scenes; {advice})")
    if not len(kept):
        raise ConfigurationError(f"no scene has the bands {' '.join(names)}: {next(iter(lacking.values()))}")
    ids = catalog.ids if skip else []
    left_out = {ids[scene]: lacking[int(layout[scene])] for scene in np.flatnonzero(np.isin(layout, list(lacking)))}
    if skip:
        of_bands = starts[kept, None] + numbers[layout[kept]]
        odd = _odd_ones(to_numpy(flat.field("dtype"))[of_bands], _numbers(flat, "quantification")[of_bands], dtype)
        left_out |= {ids[int(kept[row])]: why for row, why in odd.items()}
        kept = np.delete(kept, list(odd))
    of_bands = starts[kept, None] + numbers[layout[kept]]
    # (scenes, 6) of all bands, and from them the finest.
    transforms = to_numpy(flat.field("transform").flatten()).reshape(-1, 6)[of_bands]
    area = np.abs(transforms[..., 0] * transforms[..., 4] - transforms[..., 1] * transforms[..., 3])
    rows = np.arange(len(kept))
    finest = area.argmin(axis=1)

    def of_finest(field: str) -> npt.NDArray[np.int64]:
        return np.asarray(_numbers(flat, field)[of_bands[rows, finest]].astype(np.int64))

    template = catalog[int(kept[0])].select(names)
    offset = _numbers(flat, "offset")[of_bands]
    _check_quantification(catalog, kept, template, _numbers(flat, "quantification")[of_bands])
    levels = {catalog[int(example)].full_sensor().level for example in examples[np.isin(examples, kept)]}
    if len(levels) > 1:
        quantities = " and ".join(sorted(_LEVELS[level] for level in levels))
        _log.warning("scenes of %s are read together: their reflectance is not of one kind", quantities)
    kind = _one_dtype(catalog, kept, to_numpy(flat.field("dtype"))[of_bands], dtype)
    if np.dtype(kind).kind != "f" and not (offset - offset.min(axis=0) == np.round(offset - offset.min(axis=0))).all():
        raise ConfigurationError(
            f"the scenes' offsets differ by fractions of a number, which float32 holds: {as_type('float32')}"
        )
    return BandChoice(
        names=names,
        sensor=template.full_sensor().with_scaling(offset=list(offset.min(axis=0))),
        dtype=kind,
        kept=kept,
        left_out=left_out,
        height=of_finest("height"),
        width=of_finest("width"),
        block_height=of_finest("block_height"),
        block_width=of_finest("block_width"),
        transform=transforms[rows, finest],
        offset=offset,
        band_numbers=numbers[layout[kept]],
    )


def _layouts(
    catalog: Catalog,
    bands: pa.ListArray,
    flat: pa.StructArray,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A number for each scene, the same where sensor and names of bands are, and a scene of each number."""
    offsets = whole_numbers(np.concatenate([starts, [int(lengths.sum())]]), np.int32)
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, flat.field("name")), text_scalar("\x1f"))
    sensors = catalog.table.column("sensor").combine_chunks()
    coded = pc.binary_join_element_wise(sensors, joined, text_scalar("\x1e")).dictionary_encode()
    layout = to_numpy(coded.indices).astype(np.int64)
    _, examples = np.unique(layout, return_index=True)
    return layout, examples


def _numbers(flat: pa.StructArray, field: str) -> npt.NDArray[Any]:
    return to_numpy(flat.field(field))


def _odd_ones(dtypes: npt.NDArray[Any], quantification: npt.NDArray[np.float64], given: str | None) -> dict[int, str]:
    """The scenes that are not stored as most are (or as most that the given type can hold), and why each is odd."""
    stored = [tuple(dict.fromkeys(row)) for row in dtypes.tolist()]
    most = Counter(stored).most_common(1)[0][0]
    if given is None:
        odd = {
            row: f"is stored as {' '.join(kinds)}, where most scenes are as {' '.join(most)}"
            for row, kinds in enumerate(stored)
            if kinds != most
        }
    else:
        _check_type(given)
        odd = {
            row: f"is stored as {' '.join(kinds)}, which {given} cannot hold"
            for row, kinds in enumerate(stored)
            if not all(np.can_cast(np.dtype(kind), np.dtype(given), casting="safe") for kind in kinds)
        }
        if len(odd) == len(stored):  # the type is what is wrong
            odd = {}
    rows = [tuple(row) for row in quantification.tolist()]
    usual = Counter(one for row, one in enumerate(rows) if row not in odd).most_common(1)[0][0]
    for row, one in enumerate(rows):
        if one != usual and row not in odd:
            band = next(number for number, pair in enumerate(zip(one, usual, strict=True)) if pair[0] != pair[1])
            odd[row] = (
                f"has {one[band]:g} numbers per unit of reflectance in a band where most scenes have {usual[band]:g}"
            )
    return odd


def _check_quantification(
    catalog: Catalog, kept: npt.NDArray[np.int64], template: SceneRecord, quantification: npt.NDArray[np.float64]
) -> None:
    wrong = (quantification != quantification[:1]).any(axis=1)
    if not wrong.any():
        return
    other = int(np.flatnonzero(wrong)[0])
    band = int(np.flatnonzero(quantification[other] != quantification[0])[0])
    raise ConfigurationError(
        f"band '{template.bands[band].name}' has {quantification[0, band]:g} numbers per unit of reflectance in scene "
        f"'{template.id}' and {quantification[other, band]:g} in '{catalog.ids[int(kept[other])]}': scenes of one "
        "dataset are scaled alike; make a catalog for each"
    )


def _check_type(name: str) -> None:
    try:
        known = np.dtype(name).kind in "iuf" and np.dtype(name).itemsize <= np.dtype("float64").itemsize
    except TypeError:
        known = False
    if not known:
        raise ConfigurationError(
            f"dtype {name!r} is no type of pixels: 'uint8', 'int16', 'uint16', 'int32', 'float32'...", argument="dtype"
        )


def _one_dtype(catalog: Catalog, kept: npt.NDArray[np.int64], dtypes: npt.NDArray[Any], given: str | None) -> str:
    found = sorted(set(dtypes.ravel().tolist()))
    if given is not None:
        _check_type(given)
        wrong = [kind for kind in found if not np.can_cast(np.dtype(kind), np.dtype(given), casting="safe")]
        if wrong:
            raise ConfigurationError(f"dtype {given} cannot hold what is stored as {', '.join(wrong)}")
        return str(np.dtype(given))
    if len(found) == 1:
        return str(found[0])
    examples = []
    for kind in found[:_SHOWN]:
        scene = int(np.flatnonzero((dtypes == kind).any(axis=1))[0])
        examples.append(f"{kind} in '{catalog.ids[int(kept[scene])]}'")
    fitting = found[0]
    for kind in found[1:]:
        fitting = str(np.promote_types(fitting, kind))
    raise ConfigurationError(
        f"the scenes are stored in different types ({', '.join(examples)}), all of which {fitting} holds: "
        f"{as_type(fitting)}"
    )
