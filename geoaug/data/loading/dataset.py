"""`TileDataset`: tiles of a catalog's scenes as training samples, for torch's own `DataLoader` or `TileLoader`.

What a tile holds is settled here: bands, grid, labels, what is left out, and what becomes of a tile that cannot be
read. The options are in `options`; pixels are read in `geoaug.data.raster.reading`, orders of tiles made in the
samplers.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import Dataset

from geoaug.data.catalog.arrow_arrays import to_numpy
from geoaug.data.catalog.band_choice import choose_bands_of
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.labels.opening import open_labels
from geoaug.data.labels.tile_labels import TileLabels
from geoaug.data.loading.options import Size, TileKeywords, TileMemory, TileOptions
from geoaug.data.raster.bands import band_list
from geoaug.data.raster.files import controlled_grid
from geoaug.data.raster.grid import Grid, target_grid
from geoaug.data.raster.reading import Assembly, BatchBuffers, Reader, Task, empty_batch
from geoaug.data.raster.record import SceneRecord, TileRef
from geoaug.data.raster.view import MOST_STACKED, WARPED_BLOCK, SceneView, scene_view
from geoaug.data.raster.window import Window
from geoaug.data.sampling.tile_source import SceneGrids, ground_area_m2
from geoaug.errors import ConfigurationError, GeoaugError, RasterError
from geoaug.keywords import shares_options
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
        """The targets in a column, by default "label"; None where no scene has a label.

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

Batch = dict[str, Any]

_MOST_ATTEMPTS = 32
_MOST_VIEWS = 2**15  # of a few kilobytes each
_NAMED_ONCE = 20


class TooLittleValidError(GeoaugError):
    """A tile with too few valid pixels: no fault, but left out."""


class SampleList(list[dict[str, Any]]):
    """Samples that are views of one batch, which `collate_tiles` takes without a copy."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        count = len(batch["scene"])
        super().__init__({name: value[number] for name, value in batch.items()} for number in range(count))


def collate_tiles(samples: Sequence[dict[str, Any]]) -> Batch:
    """The batch of samples that `TileDataset` gave; a `collate_fn` for `torch.utils.data.DataLoader`."""
    if isinstance(samples, SampleList):
        return samples.batch
    batch: Batch = {}
    for name in samples[0]:
        values = [sample[name] for sample in samples]
        batch[name] = torch.stack(values) if isinstance(values[0], Tensor) else values
    return batch


@shares_options(TileOptions)
class TileDataset(Dataset[dict[str, Any]]):
    """Tiles of the scenes of a catalog, each cut from its scene's own grid.

    `dataset[i]` is the i-th tile of a grid that covers all scenes; samplers ask for any others by `TileRef`. A sample
    is a dict as `Compose` takes it: `image` (C, H, W) as stored, `valid` (1, H, W), `transform` (6,), `crs`, `scene`,
    `band_resampling` (how bands that are coarser than the tile came to its pixels), `window` (row, column, height,
    width), and where there are such, `mask` (H, W), `label` and `key`.

    Args:
        catalog: of the scenes; `Catalog.split` gives those of a split.
        size: see `TileOptions`.
        **options: the other fields of `TileOptions`.

    Raises:
        ConfigurationError: the scenes do not make a dataset; the message says why.
    """

    def __init__(self, catalog: Catalog, size: Size | None = None, **options: Unpack[TileKeywords]) -> None:
        self._open(catalog, TileOptions.of("TileDataset", {"size": size, **options}))

    @classmethod
    def with_options(cls, catalog: Catalog, options: TileOptions) -> Self:
        """The dataset of a catalog with options that were put together elsewhere."""
        made = cls.__new__(cls)
        made._open(catalog, options)
        return made

    def _open(self, catalog: Catalog, options: TileOptions) -> None:
        self.options = options
        bands = None if options.bands is None else [str(name) for name in band_list(options.bands) or ()]
        self._choice = choose_bands_of(catalog, bands, options.dtype, skip=options.on_error == "skip")
        self.skipped: Counter[str] = Counter(f"scene '{scene}': {why}" for scene, why in self._choice.left_out.items())
        for line in list(self.skipped)[:_NAMED_ONCE]:
            _log.warning("left out: %s", line)
        self.catalog = catalog if len(self._choice.kept) == len(catalog) else catalog.select(self._choice.kept)
        self.ids = self.catalog.ids
        self._crs_of_scenes = self.catalog.column("crs")
        self._grids = self._all_grids()
        self.size = self._tile_size()
        threads = usable_processors() if options.threads is None else options.threads
        self.memory = TileMemory.of(options.memory_mb, self._block_bytes(), threads)
        self.reader = Reader(self.memory.chunks, threads, self.memory.gdal)
        self._views: dict[int, SceneView] = {}
        self.labels = self._open_labels()
        self.targets = ChipTargets.of(self.catalog, options.target)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_views": {}}

    @property
    def ignore_index(self) -> int:
        """Where there is no label."""
        return self.options.ignore_index

    @property
    def min_valid(self) -> float:
        """The least share of valid pixels, 0 to 1."""
        return self.options.min_valid

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
        if own.crs is None and self.options.crs is not None:
            return controlled_grid(self.catalog[scene].bands[0].path, self.options.crs, self.options.gsd_m)
        return target_grid(own, self.options.crs, self.options.gsd_m)

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

    def start(self, batches: Sequence[Sequence[TileRef]], *, pinned: bool = False) -> "Reading":
        """Begin to read batches; `Reading.batch` gives each. `pinned`: into memory that a GPU copies from meanwhile."""
        return Reading(self, batches, pinned=pinned)

    def make_room(self, batch_bytes: int) -> int:
        """Leave memory for more batches than usual, at the cost of blocks that are kept.

        Returns:
            The `memory_mb` in which they would have room; what it is, where they have.
        """
        self.reader.keep_at_most(self.memory.chunks_beside(batch_bytes))
        wanted = self.options.memory_mb
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
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        found: TileRef = next(iter(self._cover.between(position, position + 1)))
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
            resampling=self.options.resampling,
            most_stacked=min(self.reader.budget // 16, MOST_STACKED),
        )
        if len(self._views) >= _MOST_VIEWS:
            self._views.clear()
        self._views[scene] = view
        return view

    def leave_out(self, scene: int, error: GeoaugError) -> None:
        """Count a tile that is left out, name its cause once in the log; raise it unless errors are to be skipped."""
        little = isinstance(error, TooLittleValidError)
        if self.options.on_error == "raise" and not little:
            raise error
        name = self.ids[scene]
        line = str(error) if error.scene is not None else f"scene '{name}': {error}"
        self.skipped[line] += 1
        if self.skipped[line] == 1 and not little:
            _log.warning("left out: %s", line)

    def _all_grids(self) -> SceneGrids:
        choice = self._choice
        if self.options.crs is None and self.options.gsd_m is None:
            area = ground_area_m2(self._crs_of_scenes, choice.transform, choice.height, choice.width)
            return SceneGrids(choice.height, choice.width, area, choice.block_height, choice.block_width)
        grids = [self.grid(scene) for scene in range(len(self.catalog))]
        height, width = np.array([grid.height for grid in grids]), np.array([grid.width for grid in grids])
        area = np.array([(grid.gsd_m or 1.0) ** 2 for grid in grids])
        return SceneGrids(height, width, area, np.minimum(height, WARPED_BLOCK), np.minimum(width, WARPED_BLOCK))

    def _tile_size(self) -> tuple[int, int]:
        if (shape := self.options.shape) is not None:
            return shape
        sizes = np.unique(np.stack([self._grids.height, self._grids.width], axis=1), axis=0)
        if len(sizes) > 1:
            raise ConfigurationError(
                f"the scenes are of {len(sizes)} sizes, from {sizes[0][0]} x {sizes[0][1]} to {sizes[-1][0]} x "
                f"{sizes[-1][1]} pixels: give the size of a tile"
            )
        return int(sizes[0][0]), int(sizes[0][1])

    def _open_labels(self) -> TileLabels | None:
        labels, allowed = self.options.labels, self.options.class_ids
        first = None
        if labels is None:
            paths = self.catalog.table.column("mask_path")
            known = np.flatnonzero(to_numpy(paths.is_valid()))
            if not len(known):
                return None
            first = self.catalog[int(known[0])]
            source = None
        elif isinstance(labels, str | Path):
            source = open_labels(labels, field=self.options.label_field, ignore_index=self.ignore_index)
        else:
            source = labels
        return TileLabels(source, classes=allowed, ignore_index=self.ignore_index, first=first)


def _torch_dtype(dtype: Any) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype=dtype)).dtype


class Reading:
    """Batches of a dataset that are being read.

    Args:
        dataset: of the tiles.
        batches: the tiles of each.
        pinned: whether images lie in pinned memory.
    """

    def __init__(self, dataset: TileDataset, batches: Sequence[Sequence[TileRef]], *, pinned: bool = False) -> None:
        self.dataset = dataset
        self.refs = [list(refs) for refs in batches]
        height, width = dataset.size
        labels = dataset.labels
        dataset.prepare(ref.scene for refs in self.refs for ref in refs)
        self._masks: list[Tensor | None] = []
        buffers, others = [], []
        order = 0
        for number, refs in enumerate(self.refs):
            windows = [(ref.scene, Window(ref.row, ref.col, height, width)) for ref in refs]
            bands = len(dataset.band_names)
            buffers.append(empty_batch(dataset.reader, windows, bands, (height, width), dataset.dtype, pinned=pinned))
            if labels is None:
                self._masks.append(None)
                continue
            mask = dataset.reader.empty((len(refs), height, width), dataset.mask_dtype, pinned=pinned)
            self._masks.append(mask)
            for slot, (scene, window) in enumerate(windows):
                order += 1
                work = _LabelWork(dataset, scene, window, refs[slot].counted, mask[slot].numpy())
                others.append(Task(order, [(number, slot)], work))
        self._assembly: Assembly = dataset.reader.start(buffers, dataset.view, others)

    def batch(self, number: int, replacement: Callable[[int, int], TileRef] | None = None) -> Batch:
        """A batch once it is read, smaller than asked for where tiles are left out. Each is given once.

        Args:
            number: of the batch.
            replacement: gives another tile for the one at a slot of the batch, at the n-th attempt from 1, so that the
                batch stays whole.

        Raises:
            RasterError: a tile cannot be read, unless the dataset skips errors.
        """
        buffers = self._assembly.take(number)
        left_out = self._left_out(buffers)
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            if not left_out or replacement is None:
                break
            left_out = self._replace(number, buffers, {slot: replacement(slot, attempt) for slot in left_out})
        return self._finished(number, buffers, [slot for slot in range(len(buffers.windows)) if slot not in left_out])

    def cancel(self) -> None:
        """Drop what has not begun, and wait for what has."""
        self._assembly.cancel()

    def _left_out(self, buffers: BatchBuffers) -> list[int]:
        """The slots of a batch whose tiles are left out, once each is counted."""
        dataset = self.dataset
        failed = dict(buffers.failed)
        if dataset.min_valid > 0:
            least = dataset.min_valid * dataset.size[0] * dataset.size[1]
            for slot, valid in enumerate(buffers.validity):
                if np.count_nonzero(valid) < least:
                    failed.setdefault(slot, TooLittleValidError(f"less than {dataset.min_valid:g} of a tile is valid"))
        for slot in sorted(failed):
            dataset.leave_out(buffers.windows[slot][0], failed[slot])
        return sorted(failed)

    def _replace(self, number: int, target: BatchBuffers, refs: dict[int, TileRef]) -> list[int]:
        """Read other tiles into slots; returns those whose new tile is left out, too."""
        others = Reading(self.dataset, [list(refs.values())])
        source = others._assembly.take(0)
        again = others._left_out(source)
        mask, other_mask = self._masks[number], others._masks[0]
        for other, (slot, ref) in enumerate(refs.items()):
            if other in again:
                continue
            target.pixels[slot], target.validity[slot] = source.pixels[other], source.validity[other]
            target.windows[slot] = source.windows[other]
            self.refs[number][slot] = ref
            if mask is not None and other_mask is not None:
                mask[slot] = other_mask[other]
        slots = list(refs)
        return [slots[other] for other in again]

    def _finished(self, number: int, buffers: BatchBuffers, keep: list[int]) -> Batch:
        dataset, mask = self.dataset, self._masks[number]
        self._masks[number] = None
        refs = [self.refs[number][slot] for slot in keep]
        image, valid = buffers.image, buffers.valid
        if len(keep) < len(self.refs[number]):
            chosen = torch.tensor(keep, dtype=torch.int64)
            image, valid = _rows(image, chosen), valid[chosen]
            mask = None if mask is None else mask[chosen]
        grids = [dataset.view(ref.scene).grid for ref in refs]
        batch: Batch = {
            "image": image,
            "valid": valid,
            "transform": _transforms(grids, refs),
            "crs": [grid.crs for grid in grids],
            "band_resampling": [dataset.view(ref.scene).band_resampling for ref in refs],
            "scene": [dataset.ids[ref.scene] for ref in refs],
            "window": torch.tensor([[ref.row, ref.col, *dataset.size] for ref in refs]).reshape(-1, 4),
        }
        if mask is not None:
            batch["mask"] = mask
        if dataset.targets is not None:
            batch["label"] = dataset.targets.values[[ref.scene for ref in refs]]
        keys = [ref.key for ref in refs]
        if all(key is not None for key in keys):
            batch["key"] = torch.tensor(keys, dtype=torch.int64)
        return batch


class _LabelWork:
    """Reading the labels of one tile, but for those that other tiles count."""

    def __init__(
        self, dataset: TileDataset, scene: int, window: Window, counted: Sequence[Window], out: npt.NDArray[Any]
    ) -> None:
        self.dataset, self.scene, self.window, self.counted, self.out = dataset, scene, window, counted, out

    def __call__(self) -> None:
        labels, view = self.dataset.labels, self.dataset.view(self.scene)
        assert labels is not None
        labels.check_place(view.record, view.grid)
        labels.read(view.record, view.grid.crop(self.window), self.out)
        for part in self.counted:
            rows = slice(max(part.row - self.window.row, 0), max(part.row_stop - self.window.row, 0))
            columns = slice(max(part.col - self.window.col, 0), max(part.col_stop - self.window.col, 0))
            self.out[rows, columns] = self.dataset.ignore_index


def _transforms(grids: Sequence[Grid], refs: Sequence[TileRef]) -> Tensor:
    """(B, 6), of tiles that begin at rows and columns of grids."""
    a, b, c, d, e, f = np.array([grid.transform[:6] for grid in grids]).reshape(-1, 6).T
    row, col = np.array([(ref.row, ref.col) for ref in refs], dtype=np.float64).reshape(-1, 2).T
    return torch.from_numpy(np.stack([a, b, a * col + b * row + c, d, e, d * col + e * row + f], axis=1))


def _rows(image: Tensor, chosen: Tensor) -> Tensor:
    """Rows of a tensor of any type; torch indexes no uint16 on some versions."""
    return torch.from_numpy(image.numpy()[chosen.numpy()])
