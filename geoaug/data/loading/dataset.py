"""`TileDataset`: tiles of a catalog's scenes as training samples, for torch's own `DataLoader` or `TileLoader`.

What a tile holds is settled here: bands, grid, labels, what is left out. Pixels are read in
`geoaug.data.raster.reading`, orders of tiles made in the samplers.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import CRSError
from torch import Tensor
from torch.utils.data import Dataset

from geoaug.data.catalog.arrow_arrays import to_numpy
from geoaug.data.catalog.band_choice import choose_bands_of
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.labels.label_source import LabelSource, open_labels
from geoaug.data.labels.tile_labels import TileLabels, checked_class_ids
from geoaug.data.loading.batches import Batch, Reading, TooLittleValidError
from geoaug.data.loading.tile_memory import TileMemory
from geoaug.data.raster.bands import band_list
from geoaug.data.raster.grid import Grid, target_grid
from geoaug.data.raster.reading import Reader
from geoaug.data.raster.record import SceneRecord, TileRef
from geoaug.data.raster.view import MOST_STACKED, WARPED_BLOCK, SceneView, scene_view
from geoaug.data.sampling.tile_source import SceneGrids, ground_area_m2
from geoaug.errors import ConfigurationError, GeoaugError, RasterError
from geoaug.processors import usable_processors
from geoaug.sensors import Sensor


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


_log = logging.getLogger("geoaug")

_MOST_VIEWS = 2**15  # of a few kilobytes each
_NAMED_ONCE = 20


class SampleList(list[dict[str, Any]]):
    """Samples that are views of one batch, which `collate_tiles` takes without a copy."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        count = len(batch["scene"])
        super().__init__({name: value[place] for name, value in batch.items()} for place in range(count))


def collate_tiles(samples: Sequence[dict[str, Any]]) -> Batch:
    """The batch of samples that `TileDataset` gave; a `collate_fn` for `torch.utils.data.DataLoader`."""
    if isinstance(samples, SampleList):
        return samples.batch
    batch: Batch = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        batch[name] = torch.stack(values) if isinstance(values[0], Tensor) else values
    return batch


class TileDataset(Dataset[dict[str, Any]]):
    """Tiles of the scenes of a catalog, each cut from its scene's own grid.

    `dataset[i]` is the i-th tile of a grid that covers all scenes; samplers ask for any others by `TileRef`. A sample
    is a dict as `Compose` takes it: `image` (C, H, W) as stored, `valid` (1, H, W), `transform` (6,), `crs`, `scene`,
    `window` (row, column, height, width), and where there are such, `mask` (H, W), `label` and `key`.

    Args:
        catalog: of the scenes; `Catalog.split` gives those of a split.
        size: of a tile in pixels, one number or (height, width); None for chips, which are taken whole.
        bands: names or aliases; those of the first scene, unless told.
        labels: a raster or vector file with the classes of all scenes; where it is None, the labels that the catalog
            knows: the raster of each scene, or the class of each chip.
        label_field: attribute of a vector file that holds the class.
        classes: the ids that labels may hold besides `ignore_index`: a list, or a number n for 0 to n - 1; any, unless
            told.
        target: a column of the catalog to learn, in place of "label": numbers for regression, names of classes, or
            lists of names, which come as 0 and 1 for each class.
        ignore_index: where there is no label.
        crs: to warp all scenes to; each keeps its own, unless told.
        gsd_m: ground sampling distance of the tiles in metres; that of the finest wanted band, unless told.
        resampling: GDAL's name, for what has to be warped (labels always take the nearest).
        dtype: numpy's name of the type of the tiles; the stored one, unless told.
        min_valid: tiles with a smaller share of valid pixels are left out, and counted in `skipped`.
        on_error: "raise", or "skip": what cannot be read is left out, named once in the log and counted in `skipped`.
        memory_mb: by which the process grows while it reads: decoded pixels, GDAL's own cache (unless GDAL_CACHEMAX is
            set), batches on their way, and up to 128 MB for libraries and allocators. They take about 100 MB of any
            budget, so that one below 256 is overstepped.
        threads: that decode at once; as many as this process may use cores, unless told.

    Raises:
        ConfigurationError: the scenes do not make a dataset; the message says why.
    """

    def __init__(
        self,
        catalog: Catalog,
        size: int | tuple[int, int] | None = None,
        *,
        bands: Sequence[str] | str | None = None,
        labels: str | Path | LabelSource | None = None,
        label_field: str | None = None,
        classes: Sequence[int] | int | None = None,
        target: str | None = None,
        ignore_index: int = 255,
        crs: str | None = None,
        gsd_m: float | None = None,
        resampling: str = "bilinear",
        dtype: str | None = None,
        min_valid: float = 0.0,
        on_error: Literal["raise", "skip"] = "raise",
        memory_mb: int = 2048,
        threads: int | None = None,
    ) -> None:
        _check_options(crs, gsd_m, resampling, min_valid, on_error, memory_mb, threads)
        wanted = None if bands is None else [str(name) for name in band_list(bands) or ()]
        self._choice = choose_bands_of(catalog, wanted, dtype, skip=on_error == "skip")
        self.skipped: Counter[str] = Counter(f"scene '{scene}': {why}" for scene, why in self._choice.left_out.items())
        for line in list(self.skipped)[:_NAMED_ONCE]:
            _log.warning("left out: %s", line)
        self.catalog = catalog if len(self._choice.kept) == len(catalog) else catalog.select(self._choice.kept)
        self.crs, self.gsd_m, self.resampling = crs, gsd_m, resampling
        self.ignore_index, self.min_valid, self.on_error = ignore_index, min_valid, on_error
        self.memory_mb = memory_mb
        self.ids = self.catalog.ids
        self._crs_of_scenes = self.catalog.column("crs")
        self._grids = self._all_grids()
        self.size = self._tile_size(size)
        threads = usable_processors() if threads is None else threads
        self.memory = TileMemory.of(memory_mb, self._block_bytes(), threads)
        self.reader = Reader(self.memory.chunks, threads, self.memory.gdal)
        self._views: dict[int, SceneView] = {}
        self.labels = self._open_labels(labels, label_field, classes)
        self.targets = ChipTargets.of(self.catalog, target)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_views": {}}

    @property
    def sensor(self) -> Sensor:
        """The sensor with the bands of the tiles, scaled as they are; for `Compose`."""
        return self._choice.sensor

    @property
    def band_names(self) -> tuple[str, ...]:
        return self.sensor.band_names

    @property
    def dtype(self) -> torch.dtype:
        """Of the image."""
        return _torch_dtype(self._choice.dtype)

    @property
    def mask_dtype(self) -> torch.dtype:
        """Of the mask; uint8 where there is none."""
        return _torch_dtype("uint8" if self.labels is None else self.labels.dtype)

    @property
    def grids(self) -> SceneGrids:
        """Sizes of the scenes' grids, from which samplers draw."""
        return self._grids

    @property
    def tile_bytes(self) -> int:
        """Of a tile's image, validity and labels."""
        pixel = len(self.band_names) * self.dtype.itemsize + 1
        pixel += 0 if self.labels is None else self.labels.dtype.itemsize
        return self.size[0] * self.size[1] * pixel

    def grid(self, scene: int) -> Grid:
        """The grid that the tiles of a scene are cut from."""
        own = self._choice.grid(scene, self._crs_of_scenes[scene])
        return target_grid(own, self.crs, self.gsd_m)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._cover)

    def __getitem__(self, index: int | TileRef) -> dict[str, Any]:
        """One tile; raises `RasterError` where it was left out."""
        before = self.skipped.copy()
        batch = self.read([index])
        if not len(batch["scene"]):
            raise RasterError(f"tile {index} is left out: {next(iter(self.skipped - before))}")
        return SampleList(batch)[0]

    def __getitems__(self, indexes: Sequence[int | TileRef]) -> SampleList:
        """Tiles of one batch: each block of a file that they touch is decoded once.

        Raises:
            RasterError: all of them were left out. Torch's loader would go on with a batch of nothing.
        """
        before = self.skipped.copy()
        batch = self.read(indexes)
        if not len(batch["scene"]) and len(indexes):
            why = "; ".join(self.skipped - before)
            raise RasterError(
                f"all {len(indexes)} tiles of a batch are left out ({why[:500]}): TileLoader puts others in their "
                "place, and samplers pass by what geoaug stats --update-catalog found to be invalid"
            )
        return SampleList(batch)

    def read(self, indexes: Sequence[int | TileRef]) -> Batch:
        """A batch of tiles; smaller than asked for where some are left out."""
        return self.start([[self._ref(index) for index in indexes]]).batch(0)

    def start(self, batches: Sequence[Sequence[TileRef]], *, pinned: bool = False) -> Reading:
        """Begin to read batches; `Reading.batch` gives each. `pinned`: into memory that a GPU copies from meanwhile."""
        return Reading(self, batches, pinned=pinned)

    def make_room(self, batch_bytes: int) -> int:
        """Leave memory for more batches than usual, at the cost of blocks that are kept.

        Returns:
            The `memory_mb` in which they would have room; what it is, where they have.
        """
        self.reader.keep_at_most(self.memory.chunks_beside(batch_bytes))
        wanted = self.memory_mb
        while TileMemory.of(wanted, self._block_bytes(), self.reader.threads).most_for_batches < batch_bytes:
            wanted = wanted * 9 // 8 + 1
        return wanted

    def close(self) -> None:
        """Close all files and stop all threads; the next read starts anew."""
        self.reader.close()
        if self.labels is not None:
            self.labels.close()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by id, as far as they are known."""
        if self.targets is not None and self.targets.classes:
            return self.targets.classes
        return self.catalog.classes

    @property
    def _cover(self) -> Any:
        from geoaug.data.sampling.grid_sampler import GridTileSampler

        if "_grid_sampler" not in self.__dict__:
            self._grid_sampler = GridTileSampler(self)
        return self._grid_sampler

    def _ref(self, index: int | TileRef) -> TileRef:
        if isinstance(index, TileRef):
            if not 0 <= index.scene < len(self.catalog):
                raise IndexError(f"scene {index.scene} of {len(self.catalog)}")
            return index
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        found: TileRef = next(iter(self._cover.refs(place, place + 1)))
        # A key made without an epoch would augment a tile alike in every epoch: Compose draws one.
        return found._replace(key=None)

    def view(self, scene: int) -> SceneView:
        """How the files of a scene appear on the grid of its tiles. From any thread."""
        # Single steps on a dict need no lock, which a fork could copy while it is held.
        known = self._views.get(scene)
        return self._make_view(scene, self.catalog[scene]) if known is None else known

    def prepare(self, scenes: Iterable[int]) -> None:
        """Make the views of scenes that are about to be read, sooner than `view` one by one."""
        missing = [scene for scene in dict.fromkeys(scenes) if scene not in self._views]
        for scene, record in zip(missing, self.catalog.records(missing), strict=True):
            with suppress(GeoaugError):  # which `view` raises where it concerns a tile
                self._make_view(scene, record)

    def _block_bytes(self) -> int:
        choice = self._choice
        return int((choice.block_height * choice.block_width).max()) * len(choice.names) * self.dtype.itemsize

    def _make_view(self, scene: int, record: SceneRecord) -> SceneView:
        view = scene_view(
            self._choice.select(record, scene),
            self.grid(scene),
            dtype=self._choice.dtype,
            shift=self._choice.shift(scene),
            resampling=self.resampling,
            most_stacked=min(self.reader.budget // 16, MOST_STACKED),
        )
        if len(self._views) >= _MOST_VIEWS:
            self._views.clear()
        self._views[scene] = view
        return view

    def leave_out(self, scene: int, error: GeoaugError) -> None:
        """Count a tile that is left out, name its cause once in the log; raise it unless errors are to be skipped."""
        little = isinstance(error, TooLittleValidError)
        if self.on_error == "raise" and not little:
            raise error
        name = self.ids[scene]
        line = str(error) if f"'{name}'" in str(error) else f"scene '{name}': {error}"
        self.skipped[line] += 1
        if self.skipped[line] == 1 and not little:
            _log.warning("left out: %s", line)

    def _all_grids(self) -> SceneGrids:
        choice = self._choice
        if self.crs is None and self.gsd_m is None:
            area = ground_area_m2(self._crs_of_scenes, choice.transform, choice.height, choice.width)
            return SceneGrids(choice.height, choice.width, area, choice.block_height, choice.block_width)
        grids = [self.grid(scene) for scene in range(len(self.catalog))]
        height, width = np.array([grid.height for grid in grids]), np.array([grid.width for grid in grids])
        area = np.array([(grid.gsd_m or 1.0) ** 2 for grid in grids])
        return SceneGrids(height, width, area, np.minimum(height, WARPED_BLOCK), np.minimum(width, WARPED_BLOCK))

    def _tile_size(self, size: int | tuple[int, int] | None) -> tuple[int, int]:
        if size is not None:
            pair = tuple(size) if isinstance(size, list | tuple) else (size, size)
            if len(pair) != 2 or any(isinstance(side, bool) or not isinstance(side, Integral) for side in pair):
                raise ConfigurationError(f"size is {size!r}: it is a number of pixels, or two (height, width)")
            if min(pair) < 1:
                raise ConfigurationError(f"a tile of {pair[0]} x {pair[1]} pixels: it must have one at least")
            return int(pair[0]), int(pair[1])
        sizes = np.unique(np.stack([self._grids.height, self._grids.width], axis=1), axis=0)
        if len(sizes) > 1:
            raise ConfigurationError(
                f"the scenes are of {len(sizes)} sizes, from {sizes[0][0]} x {sizes[0][1]} to {sizes[-1][0]} x "
                f"{sizes[-1][1]} pixels: give the size of a tile"
            )
        return int(sizes[0][0]), int(sizes[0][1])

    def _open_labels(
        self, labels: str | Path | LabelSource | None, field: str | None, classes: Sequence[int] | int | None
    ) -> TileLabels | None:
        allowed = checked_class_ids(classes)
        first = None
        if labels is None:
            paths = self.catalog.table.column("mask_path")
            known = np.flatnonzero(to_numpy(paths.is_valid()))
            if not len(known):
                return None
            first = self.catalog[int(known[0])]
            source = None
        elif isinstance(labels, str | Path):
            source = open_labels(labels, field=field, ignore_index=self.ignore_index)
        else:
            source = labels
        return TileLabels(source, classes=allowed, ignore_index=self.ignore_index, first=first)


def _torch_dtype(dtype: Any) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype=dtype)).dtype


def _check_options(
    crs: str | None,
    gsd_m: float | None,
    resampling: str,
    min_valid: float,
    on_error: str,
    memory_mb: int,
    threads: int | None,
) -> None:
    if on_error not in ("raise", "skip"):
        raise ConfigurationError(f"on_error is {on_error!r}: it must be 'raise' or 'skip'")
    if resampling not in Resampling.__members__:
        raise ConfigurationError(
            f"resampling {resampling!r} is not known; GDAL has {', '.join(Resampling.__members__)}"
        )
    if not 0 <= min_valid <= 1:
        raise ConfigurationError(f"min_valid is {min_valid}: it is a share from 0 to 1")
    if gsd_m is not None and not 0 < gsd_m < math.inf:
        raise ConfigurationError(f"gsd_m is {gsd_m:g}: it is a distance in metres, above 0")
    if crs is not None:
        try:
            CRS.from_user_input(crs)
        except CRSError as error:
            raise ConfigurationError(f"crs {crs!r} is not known ({error})") from error
    if memory_mb < 1:
        raise ConfigurationError(f"memory_mb is {memory_mb}: it must be at least 1")
    if threads is not None and threads < 1:
        raise ConfigurationError(f"threads is {threads}: it must be at least 1")
