"""`TileDataset`: tiles of a catalog's scenes as training samples, for torch's own `DataLoader` or `TileLoader`.

What a tile holds is settled here: bands, grid, labels, what is left out. Pixels are read in `geoaug.data.assembly`,
orders of tiles made in the samplers.
"""

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rasterio.enums import Resampling
from torch import Tensor
from torch.utils.data import Dataset

from geoaug.data.assembly import Assembly, BatchBuffers, Reader, Task, empty_batch
from geoaug.data.band_choice import choose_bands_of
from geoaug.data.catalog import Catalog
from geoaug.data.labels import LabelSource, open_labels
from geoaug.data.records import Grid, TileRef
from geoaug.data.targets import ChipTargets
from geoaug.data.tile_labels import TileLabels
from geoaug.data.tile_source import SceneGrids, ground_area_m2
from geoaug.data.views import WARPED_BLOCK, SceneView, scene_view, target_grid
from geoaug.data.windows import Window
from geoaug.errors import ConfigurationError, GeoaugError, RasterError
from geoaug.sensors import Sensor

_log = logging.getLogger("geoaug")

_MOST_VIEWS = 4096
_CACHE_SHARE = 0.5  # of the memory; the rest is for batches on their way
_NAMED_ONCE = 20

Batch = dict[str, Any]


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
        target: a column of the catalog to learn, in place of "label": numbers for regression, or names of classes.
        ignore_index: where there is no label.
        crs: to warp all scenes to; each keeps its own, unless told.
        gsd_m: ground sampling distance of the tiles in metres; that of the finest wanted band, unless told.
        resampling: GDAL's name, for what has to be warped (labels always take the nearest).
        dtype: numpy's name of the type of the tiles; the stored one, unless told.
        min_valid: tiles with a smaller share of valid pixels are left out, and counted in `skipped`.
        on_error: "raise", or "skip": what cannot be read is left out, named once in the log and counted in `skipped`.
        memory_mb: for decoded pixels and batches on their way.
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
        memory_mb: int = 1024,
        threads: int | None = None,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise ConfigurationError(f"on_error is {on_error!r}: it must be 'raise' or 'skip'")
        if resampling not in Resampling.__members__:
            raise ConfigurationError(
                f"resampling {resampling!r} is not known; GDAL has {', '.join(Resampling.__members__)}"
            )
        if not 0 <= min_valid <= 1:
            raise ConfigurationError(f"min_valid is {min_valid}: it is a share from 0 to 1")
        wanted = [name.strip() for name in bands.split(",")] if isinstance(bands, str) else bands
        self._choice = choose_bands_of(catalog, wanted, dtype, skip=on_error == "skip")
        self.skipped: Counter[str] = Counter(f"scene '{scene}': {why}" for scene, why in self._choice.left_out.items())
        for line in list(self.skipped)[:_NAMED_ONCE]:
            _log.warning("left out: %s", line)
        self.catalog = catalog if len(self._choice.kept) == len(catalog) else catalog.select(self._choice.kept)
        self.crs, self.gsd_m, self.resampling = crs, gsd_m, resampling
        self.ignore_index, self.min_valid, self.on_error = ignore_index, min_valid, on_error
        self.memory_mb = memory_mb
        self._crs_of_scenes = self.catalog.column("crs")
        self._grids = self._all_grids()
        self.size = self._tile_size(size)
        self.reader = Reader(int(memory_mb * 2**20 * _CACHE_SHARE), threads)
        self._views: OrderedDict[int, SceneView] = OrderedDict()
        self._lock = threading.Lock()
        self._labels = self._open_labels(labels, label_field, classes)
        self._targets = ChipTargets.of(self.catalog, target)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_views": OrderedDict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

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
        return torch.from_numpy(np.empty(0, dtype=self._choice.dtype)).dtype

    @property
    def grids(self) -> SceneGrids:
        """Sizes of the scenes' grids, from which samplers draw."""
        return self._grids

    @property
    def tile_bytes(self) -> int:
        """Of a tile's image, validity and labels."""
        pixel = len(self.band_names) * self.dtype.itemsize + 1
        pixel += 0 if self._labels is None else self._labels.dtype.itemsize
        return self.size[0] * self.size[1] * pixel

    def grid(self, scene: int) -> Grid:
        """The grid that the tiles of a scene are cut from."""
        own = self._choice.grid(scene, self._crs_of_scenes[scene])
        return target_grid(own, self.crs, self.gsd_m)

    def __len__(self) -> int:
        return len(self._cover)

    def __getitem__(self, index: int | TileRef) -> dict[str, Any]:
        """One tile; raises `RasterError` where it was left out."""
        samples = self.__getitems__([index])
        if not samples:
            raise RasterError(f"tile {index} is left out: {next(reversed(self.skipped))}")
        return samples[0]

    def __getitems__(self, indexes: Sequence[int | TileRef]) -> SampleList:
        """Tiles of one batch: each block of a file that they touch is decoded once."""
        return SampleList(self.read(indexes))

    def read(self, indexes: Sequence[int | TileRef]) -> Batch:
        """A batch of tiles; smaller than asked for where some are left out."""
        refs = [self._ref(index) for index in indexes]
        reading = self.start([refs])
        return self.finish(reading, 0, refs)

    def start(self, batches: Sequence[Sequence[TileRef]]) -> "Reading":
        """Begin to read batches; `finish` gives each."""
        return Reading(self, batches)

    def finish(self, reading: "Reading", place: int, refs: Sequence[TileRef]) -> Batch:
        """A batch that was begun, once it is read; raises `RasterError` unless errors are to be skipped."""
        buffers = reading.assembly.wait(place)
        mask = reading.masks[place]
        keep = self._kept(buffers)
        image, valid = buffers.image, buffers.valid
        if len(keep) < len(refs):
            chosen = torch.tensor(keep, dtype=torch.int64)
            image, valid = _rows(image, chosen), valid[chosen]
            mask = None if mask is None else mask[chosen]
        windows = [buffers.windows[slot] for slot in keep]
        grids = [self._view(place).grid for place, _ in windows]
        ids = self.catalog.table.column("id")
        batch: Batch = {
            "image": image,
            "valid": valid,
            "transform": torch.tensor(
                [
                    list(grid.shifted(window.row, window.col, window.height, window.width).transform)[:6]
                    for grid, (_, window) in zip(grids, windows, strict=True)
                ],
                dtype=torch.float64,
            ).reshape(-1, 6),
            "crs": [grid.crs for grid in grids],
            "scene": [ids[place].as_py() for place, _ in windows],
            "window": torch.tensor([[w.row, w.col, w.height, w.width] for _, w in windows]).reshape(-1, 4),
        }
        if mask is not None:
            batch["mask"] = mask
        if self._targets is not None:
            batch["label"] = self._targets.values[[place for place, _ in windows]]
        keys = [refs[slot].key for slot in keep]
        if all(key is not None for key in keys):
            batch["key"] = torch.tensor(keys, dtype=torch.int64)
        return batch

    def close(self) -> None:
        """Close all files and stop all threads; the next read starts anew."""
        self.reader.close()
        if self._labels is not None:
            self._labels.close()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by id, as far as they are known."""
        if self._targets is not None and self._targets.classes:
            return self._targets.classes
        return self.catalog.classes

    @property
    def _cover(self) -> Any:
        from geoaug.data.samplers import GridTileSampler

        if "_grid_sampler" not in self.__dict__:
            self._grid_sampler = GridTileSampler(self)
        return self._grid_sampler

    def _ref(self, index: int | TileRef) -> TileRef:
        if isinstance(index, TileRef):
            return index
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        found: TileRef = next(iter(self._cover.refs(place, place + 1)))
        # A key made without an epoch would augment a tile alike in every epoch: Compose draws one.
        return found._replace(key=None)

    def _kept(self, buffers: BatchBuffers) -> list[int]:
        failed = dict(buffers.failed)
        if self.min_valid > 0:
            share = buffers.validity.mean(axis=(1, 2))
            for slot in np.flatnonzero(share < self.min_valid).tolist():
                failed.setdefault(slot, _TooLittleError(f"less than {self.min_valid:g} of a tile is valid"))
        for slot, error in failed.items():
            scene = self.catalog.table.column("id")[buffers.windows[slot][0]].as_py()
            if self.on_error == "raise" and not isinstance(error, _TooLittleError):
                raise error
            line = str(error) if f"'{scene}'" in str(error) else f"scene '{scene}': {error}"
            self.skipped[line] += 1
            if self.skipped[line] == 1 and not isinstance(error, _TooLittleError):
                _log.warning("left out: %s", line)
        return [slot for slot in range(len(buffers.windows)) if slot not in failed]

    def _view(self, scene: int) -> SceneView:
        with self._lock:
            if (known := self._views.get(scene)) is not None:
                self._views.move_to_end(scene)
                return known
        record = self._choice.select(self.catalog[scene])
        view = scene_view(
            record,
            self.grid(scene),
            dtype=self._choice.dtype,
            shift=self._choice.shift(scene),
            resampling=self.resampling,
        )
        with self._lock:
            self._views[scene] = view
            if len(self._views) > _MOST_VIEWS:
                self._views.popitem(last=False)
        return view

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
            pair = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
            if min(pair) < 1:
                raise ConfigurationError(f"a tile of {pair[0]} x {pair[1]} pixels: it must have one at least")
            return pair
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
        allowed = list(range(classes)) if isinstance(classes, int) else classes
        first = None
        if labels is None:
            paths = self.catalog.table.column("mask_path")
            known = np.flatnonzero(paths.is_valid().to_numpy())
            if not len(known):
                return None
            first = self.catalog[int(known[0])]
            source = None
        elif isinstance(labels, str | Path):
            source = open_labels(labels, field=field, ignore_index=self.ignore_index)
        else:
            source = labels
        return TileLabels(source, classes=allowed, ignore_index=self.ignore_index, first=first)


class _TooLittleError(GeoaugError):
    """A tile with too few valid pixels: no fault, but left out."""


class Reading:
    """Batches of a dataset that are being read."""

    def __init__(self, dataset: TileDataset, batches: Sequence[Sequence[TileRef]]) -> None:
        height, width = dataset.size
        bands, labels = len(dataset.band_names), dataset._labels
        self.masks: list[Tensor | None] = []
        buffers, others = [], []
        order = 0
        for number, refs in enumerate(batches):
            windows = [(ref.scene, Window(ref.row, ref.col, height, width)) for ref in refs]
            buffers.append(empty_batch(dataset.reader, windows, bands, (height, width), dataset.dtype))
            if labels is None:
                self.masks.append(None)
                continue
            mask = torch.from_numpy(np.empty((len(refs), height, width), dtype=labels.dtype))
            self.masks.append(mask)
            for slot, (scene, window) in enumerate(windows):
                order += 1
                others.append(Task(order, [(number, slot)], _LabelWork(dataset, scene, window, mask[slot].numpy())))
        self.assembly: Assembly = dataset.reader.start(buffers, dataset._view, others)


class _LabelWork:
    """Reading the labels of one tile."""

    def __init__(self, dataset: TileDataset, scene: int, window: Window, out: Any) -> None:
        self.dataset, self.scene, self.window, self.out = dataset, scene, window, out

    def __call__(self) -> None:
        labels, view = self.dataset._labels, self.dataset._view(self.scene)
        assert labels is not None
        w = self.window
        labels.read(view.record, view.grid.shifted(w.row, w.col, w.height, w.width), self.out)


def _rows(image: Tensor, chosen: Tensor) -> Tensor:
    """Rows of a tensor of any type; torch indexes no uint16 on some versions."""
    return torch.from_numpy(image.numpy()[chosen.numpy()])
