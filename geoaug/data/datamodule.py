"""`TileDataModule`: a catalog as the data of a training, for Lightning or a loop of one's own.

It chooses and connects: splits, datasets, samplers, loaders, statistics, augmentation. Each is made elsewhere.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import nn

from geoaug.augment.compose import Compose
from geoaug.augment.planning.scale import NormalizeBy, normalization
from geoaug.augment.recipe import Recipe, load_recipe
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.loading.dataset import Batch, TileDataset
from geoaug.data.loading.loader import TileLoader
from geoaug.data.loading.options import Size, TileKeywords, TileOptions
from geoaug.data.raster.inputs import is_remote
from geoaug.data.registry import SAMPLERS
from geoaug.data.sampling.counted_once import CountedOnce
from geoaug.data.sampling.grid_sampler import GridTileSampler
from geoaug.data.sampling.sampler import TileSampler
from geoaug.data.sampling.splits import (
    split_by_attribute,
    split_by_blocks,
    split_by_chance,
    split_by_date,
    split_by_folder,
    split_into_folds,
)
from geoaug.data.sampling.survey import catalog_statistics
from geoaug.data.sampling.tile_ground import TileGround
from geoaug.errors import ConfigurationError
from geoaug.keywords import shares_options
from geoaug.sensors import Sensor
from geoaug.statistics import Statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SAVED = (".parquet", ".geoparquet")
_METHODS: dict[str, Callable[..., Catalog]] = {
    "blocks": split_by_blocks,
    "kfold": split_into_folds,
    "attribute": split_by_attribute,
    "date": split_by_date,
    "folder": split_by_folder,
    "random": split_by_chance,
}


def is_saved_catalog(source: object) -> bool:
    """Whether a source names the file of a catalog."""
    return isinstance(source, str | Path) and Path(source).suffix.lower() in _SAVED


def as_catalog(source: Catalog | str | Path | Sequence[str | Path], **options: Any) -> Catalog:
    """The catalog that a source is or names.

    Args:
        source: a catalog, its file (`.parquet`), or a folder, files or globs, whose headers are read now.
        **options: for indexing; see `geoaug.data.catalog.index.index_files`.

    Raises:
        ConfigurationError: nothing there, or options for a catalog that exists.
    """
    if isinstance(source, Catalog) or is_saved_catalog(source):
        if options:
            raise ConfigurationError(f"{', '.join(options)}: for indexing files, and this catalog is made already")
        return source if isinstance(source, Catalog) else Catalog.open(source)  # type: ignore[arg-type]
    if isinstance(source, str | Path):
        if not is_remote(str(source)) and Path(source).is_dir():
            return Catalog.from_folder(source, **options)
        source = [source]
    return Catalog.from_files(source, **options)


def split_as(catalog: Catalog, how: Mapping[str, Any] | Callable[[Catalog], Catalog]) -> Catalog:
    """The catalog with splits.

    Args:
        catalog: to split.
        how: a method ("blocks", which is the default, "kfold", "attribute", "date", "folder" or "random") with the
            arguments of its function in `geoaug.data.sampling.splits`: {"method": "blocks", "buffer_m": 1000}; or a
            function of the catalog.

    Raises:
        ConfigurationError: no such method, or it has other arguments.
    """
    if callable(how):
        return how(catalog)
    arguments = dict(how)
    method = arguments.pop("method", "blocks")
    if method not in _METHODS:
        raise ConfigurationError(f"splits by {method!r}: methods are {', '.join(_METHODS)}")
    try:
        return _METHODS[method](catalog, **arguments)
    except TypeError as error:
        raise ConfigurationError(f"splits by '{method}': {error}") from error


def statistics_path(catalog_file: Path, train: Catalog, read: Mapping[str, Any]) -> Path:
    """The file of the statistics, beside the catalog's and named by what they are of.

    Args:
        catalog_file: where the catalog is saved.
        train: the scenes to learn from.
        read: the options that they are read with, and that statistics depend on.
    """
    digest = hashlib.blake2b(digest_size=6)
    for name in ("id", "size", "mtime_ns", "region"):
        if name in train.table.column_names:
            digest.update(repr(train.table.column(name).to_pylist()).encode())
    digest.update(json.dumps({name: str(value) for name, value in read.items()}).encode())
    return catalog_file.with_name(f"{catalog_file.stem}.train-{digest.hexdigest()}.stats.yaml")


def open_statistics(path: Path, sensor: Sensor) -> Statistics:
    """Statistics that were measured before, of these bands scaled as they are.

    Raises:
        ConfigurationError: they are of another sensor, of other bands or in another scale.
    """
    found = Statistics.open(path)
    try:
        if found.sensor != sensor.name:
            raise ConfigurationError(f"the statistics are of {found.sensor}, and the data is of {sensor.name}")
        found.normalization(sensor)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{path}: does not fit the training data ({error}): name another statistics_file, in which they are "
            "measured anew, or remove this one"
        ) from error
    return found


Done = Callable[[], int | None]

_KEPT = 64  # batches back to which a state can go


class CountedLoader:
    """Batches of a loader, counted.

    Args:
        loader: of the batches.
        done: how many batches of the epoch training is done with, 0 at its end; None where training does not count, so
            that a batch counts as done when it was given.

    `state_dict` tells where the first batch begins that training is not done with: a step that was broken off is
    taken again. The state at an epoch's end is the beginning of the next one where training counts; where it does not,
    it is the end, after which nothing is left of that epoch.
    """

    batch_sampler = None  # Lightning asks for it

    def __init__(self, loader: TileLoader, done: Done = lambda: None) -> None:
        self.loader, self.done = loader, done
        self._given = self._resumed_at = 0
        self._positions = {0: 0}  # of the loader, by the number of batches given

    @property
    def dataset(self) -> TileDataset:
        return self.loader.dataset

    @property
    def sampler(self) -> Any:
        return self.loader.sampler

    @property
    def batch_size(self) -> int:
        return self.loader.batch_size

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        self._given, self._resumed_at = self._resumed_at, 0
        self._positions = {self._given: self._positions.get(self._given, 0)}
        for batch in self.loader:
            self._given += 1
            self._positions[self._given] = self.loader.state_dict()["position"]
            self._positions.pop(self._given - _KEPT, None)
            yield batch

    def set_epoch(self, epoch: int) -> None:
        """Which pass over the data comes next; at its start, unless it is the one that is to be resumed."""
        if epoch != self.loader.sampler.epoch:
            self._given = self._resumed_at = 0
            self._positions = {0: 0}
        self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where training stands in the epoch."""
        done = self.done()
        given = done if done is not None and done in self._positions else self._given
        if done is not None and (done == 0 or given >= len(self)):
            given = 0
        position = self._positions[given] if given else 0
        return {**self.loader.state_dict(), "position": position, "batches": given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a state was taken: the next iteration gives the rest of that epoch."""
        self.loader.load_state_dict(state)
        self._given = self._resumed_at = state["batches"]
        self._positions = {self._given: state["position"]}


MakeSampler = Callable[[TileDataset, int, int], TileSampler]
Augment = Compose | Recipe | Mapping[str, Any] | Sequence[nn.Module] | str | Path

_log = logging.getLogger("geoaug")

_EVALUATION_SHARE = 4  # of the memory, one part in so many is for validation, test or prediction
_SPLITS = ("train", "val", "test", "predict")
_STAGES = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}


class LoadingKeywords(TileKeywords, total=False):
    """The fields of `LoadingOptions` but for the size, as keywords; a test holds the two together."""

    batch_size: int
    length: int | None
    sampler: str | type[TileSampler] | MakeSampler
    statistics_file: str | Path | None
    splits: Mapping[str, Any] | Callable[[Catalog], Catalog] | None
    names: Mapping[str, str] | None
    output_size: Size | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class LoadingOptions(TileOptions):
    """What is learned from of a catalog, in which order, and how it is read.

    Args:
        batch_size: tiles in a batch, of each process.
        length: tiles of a training epoch, of all processes together; by default as many as the training ground would
            hold beside each other.
        sampler: order of training tiles: "locality" (random, few blocks decoded), "random", "balanced" (rare classes as
            often as others), "grid", or another name of `geoaug.data.registry.SAMPLERS`; a class of `TileSampler`; or a
            function of (dataset, length, seed). All else is read over a grid.
        statistics_file: where measured statistics are kept; by default beside the catalog's file.
        splits: how to split the catalog, as for `geoaug.data.datamodule.split_as`: {"method": "blocks",
            "buffer_m": 1000}. None: as it is split. A catalog without splits is all for training, and for prediction.
        names: of the splits for "train", "val", "test" and "predict", where they have others: {"train": "fold0-train",
            "val": "fold0"}. By default the whole catalog is predicted.
        output_size: of the tile that `Compose` makes; by default that of the recipe.
        seed: of sampling and augmentation.
        memory_mb: for decoded pixels and batches on their way, of training and evaluation together.
    """

    batch_size: int = 32
    length: int | None = None
    sampler: str | type[TileSampler] | MakeSampler = "locality"
    statistics_file: str | Path | None = None
    splits: Mapping[str, Any] | Callable[[Catalog], Catalog] | None = None
    names: Mapping[str, str] | None = None
    output_size: Size | None = None
    seed: int = 0
    memory_mb: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.sampler, str):
            SAMPLERS.check(self.sampler)
        if unknown := set(self.names or {}) - set(_SPLITS):
            raise ConfigurationError(
                f"names tells of {', '.join(sorted(unknown))}: splits are {', '.join(_SPLITS)}", argument="names"
            )
        if self.length is not None and self.length < 1:
            raise ConfigurationError(f"length is {self.length}: an epoch has one tile at least", argument="length")


@shares_options(LoadingOptions)
class TileDataModule(LightningDataModule):
    """Training, validation, test and prediction data from a catalog.

    Tiles are read by threads, cross to the device as they are stored, and are augmented there: `Compose` augments in
    training and only scales and normalises in validation, test and prediction. What is learned follows from the
    labels: `batch["mask"]` of label files or of the catalog's rasters, `batch["label"]` of chips in folders of classes
    or of a column (`target`), numbers or names.

    In a loop of one's own, call `setup`, take the loaders, and pass each batch through `prepare`.

    Args:
        source: a catalog, its file, or a folder, files or globs, which are indexed then.
        size: of a tile as it is read, in pixels; None for chips, which are taken whole.
        augment: a recipe (name, file, mapping), operations, or a `Compose`, which is taken as it is. None: none.
        normalize: (mean, std), statistics or their file, as for `Compose`; or "measure": those of the training split,
            measured when they are first needed. None: pixels are reflectance.
        drop_last: whether a last training batch that is not full is left out.
        pin_memory: None: where there is a GPU.
        **options: the other fields of `LoadingOptions`.

    Raises:
        ConfigurationError: the arguments do not fit together.
    """

    def __init__(
        self,
        source: Catalog | str | Path | Sequence[str | Path],
        size: Size | None = None,
        *,
        augment: Augment | None = None,
        normalize: NormalizeBy | Literal["measure"] | None = None,
        drop_last: bool = False,
        pin_memory: bool | None = None,
        **options: Unpack[LoadingKeywords],
    ) -> None:
        super().__init__()
        if unknown := set(options) - set(LoadingOptions.option_names()):
            raise ConfigurationError(
                f"TileDataModule has no option {', '.join(sorted(unknown))}; besides its own it takes those of "
                f"TileDataset: {', '.join(sorted(set(TileOptions.option_names()) - {'size', 'memory_mb'}))}"
            )
        self.options = LoadingOptions(size=size, **options)
        if isinstance(augment, Compose) and (normalize is not None or self.options.output_size is not None):
            raise ConfigurationError("augment is a Compose: give it normalize and size itself")
        self.source, self.augment, self.normalize = source, augment, normalize
        self.names = dict(self.options.names or {})
        self.batch_size, self.drop_last = self.options.batch_size, drop_last
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._catalog: Catalog | None = None
        self._composed: dict[str, Compose] = {}
        self._statistics: Statistics | None = None
        self._datasets: dict[str, TileDataset] = {}
        self._train: CountedLoader | None = None
        self._state: Mapping[str, Any] | None = None

    @property
    def catalog(self) -> Catalog:
        """The catalog, split as it was asked for; opened or indexed when it is first needed."""
        if self._catalog is None:
            catalog = as_catalog(self.source)
            if self.options.splits is not None:
                catalog = split_as(catalog, self.options.splits)
            self._catalog = catalog
        return self._catalog

    @property
    def sensor(self) -> Sensor:
        """The sensor with the bands of the tiles."""
        return self.dataset(self._first).sensor

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by id, as far as they are known."""
        return self.dataset(self._first).classes

    @property
    def statistics(self) -> Statistics | None:
        """Those that are normalised by; None where numbers were given, or none."""
        if self._statistics is None:
            if self.normalize == "measure":
                self._statistics = self._measured()
            elif isinstance(self.normalize, str | Path | Statistics):
                self._statistics = Statistics.open(self.normalize)
        return self._statistics

    def compose(self, split: str) -> Compose:
        """What is done on the device to batches of a split: "train" is augmented, others are not.

        All come out in one scaling, also where the scenes of a split are stored with other offsets.
        """
        if split not in self._composed:
            self._composed[split] = self._make_compose(split).train(split == "train")
        return self._composed[split]

    def dataset(self, split: str) -> TileDataset:
        """The tiles of "train", "val", "test" or "predict".

        Raises:
            ConfigurationError: there is no such split.
        """
        if split not in self._datasets:
            whole = self.options.memory_mb
            share = whole // _EVALUATION_SHARE
            memory = max(whole - share if split == "train" else share, 1)
            options = self.options.tile(memory_mb=memory)
            self._datasets[split] = TileDataset.with_options(self._part(split), options)
        return self._datasets[split]

    def has_split(self, split: str) -> bool:
        """Whether there is data for "train", "val", "test" or "predict"."""
        name, known = self._split_name(split), self.catalog.split_names
        if name is not None and name not in known and split in self.names:
            raise ConfigurationError(
                f"the catalog has no split {name!r}, which names (--split) has for '{split}': its splits are "
                f"{', '.join(known) or 'none'}"
            )
        return name is None or name in known

    def prepare_data(self) -> None:
        """Measure the statistics once, where they are kept in a file."""
        if self.normalize == "measure" and self._kept_at() is not None:
            self._measured()

    def setup(self, stage: str | None = None) -> None:
        """Open what a stage ("fit", "validate", "test", "predict"; None for the first) needs.

        Raises:
            ConfigurationError: what was asked for does not fit together, or the trainer has `overfit_batches`.
        """
        if stage == "fit" and self.trainer is not None and self.trainer.overfit_batches:  # type: ignore[attr-defined]
            raise ConfigurationError(
                "overfit_batches needs torch's own DataLoader: give TileDataModule sampler='grid' and the Trainer "
                "limit_train_batches, which take the same tiles in every epoch"
            )
        for split in _STAGES[stage or "fit"]:
            if split != "val" or stage == "validate" or self.has_split(split):
                self.compose(split)  # what does not fit together is an error before anything is trained

    def train_dataloader(self) -> CountedLoader:
        """Batches of the training split, the same loader each time."""
        if self._train is None:
            dataset = self.dataset("train")
            sampler = self._training_sampler(dataset)
            self._train = self._loader(dataset, sampler, done=self._done, drop_last=self.drop_last)
            if self._state is not None:
                self._train.load_state_dict(dict(self._state))
                self._state = None
        return self._train

    def val_dataloader(self) -> CountedLoader | list[Any]:
        """Batches of the validation split; empty where there is none."""
        return self._over_grid("val") if self.has_split("val") else []

    def test_dataloader(self) -> CountedLoader:
        """Batches of the test split."""
        return self._over_grid("test")

    def predict_dataloader(self) -> CountedLoader:
        """Batches that cover what is to be predicted."""
        return self._over_grid("predict")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment, scale and normalise on the device, as the trainer's state asks for."""
        trainer = self.trainer
        if trainer is None or trainer.training:
            return self._apply(batch, "train")
        return self._apply(batch, "test" if trainer.testing else "predict" if trainer.predicting else "val")

    def prepare(self, batch: Batch, device: torch.device | str = "cpu", *, split: str = "train") -> Batch:
        """A batch of a split on a device, augmented (if "train"), scaled and normalised: for a loop of one's own."""
        moved = {
            name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }
        return self._apply(moved, split)

    def teardown(self, stage: str | None = None) -> None:
        """Close files and stop threads; they open again when they are needed."""
        for dataset in self._datasets.values():
            dataset.close()

    def state_dict(self) -> dict[str, Any]:
        """Where training stands in its epoch."""
        return {} if self._train is None else {"train": self._train.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where a state was taken, at the same tile."""
        state = state_dict.get("train")
        if state is None:
            return
        if self._train is None:
            self._state = state
        else:
            self._train.load_state_dict(state)

    def plot(
        self, batch: Batch, predictions: torch.Tensor | None = None, *, count: int = 12, title: str = ""
    ) -> "Figure":
        """A picture of a batch as it came from a loader, or as `Compose` made it: images, labels, predictions.

        Args:
            batch: of tiles.
            predictions: class ids (B, H, W) or (B,), scores by class (B, K, ...), or numbers (B,).
            count: tiles to show at most.
            title: above the picture.
        """
        from geoaug.data.pictures.batch_picture import draw_batch

        return draw_batch(
            batch,
            self.sensor,
            predictions=predictions,
            classes=self.classes,
            ignore_index=self.dataset(self._first).ignore_index,
            count=count,
            title=title,
        )

    def _split_name(self, split: str) -> str | None:
        """The catalog's name of a split; None for the whole catalog."""
        if split == "predict" or (split == "train" and not self.catalog.split_names):
            return self.names.get(split)
        return self.names.get(split, split)

    def _part(self, split: str) -> Catalog:
        name = self._split_name(split)
        return self.catalog if name is None else self.catalog.split(name)

    @property
    def _first(self) -> str:
        """The split that others are scaled as: training, where there is such."""
        return next(split for split in _SPLITS if self.has_split(split))

    def _make_compose(self, split: str) -> Compose:
        dataset, first = self.dataset(split), self.dataset(self._first)
        other = _scaling(dataset.sensor) != _scaling(first.sensor)
        if isinstance(self.augment, Compose):
            if other:
                raise ConfigurationError(
                    f"the scenes of split '{split}' are stored with other offsets than those of '{self._first}', which "
                    "one Compose cannot scale alike: give augment as a recipe or a list of operations"
                )
            return self.augment
        arguments: dict[str, Any] = {"sensor": dataset.sensor, "ignore_index": dataset.ignore_index}
        if self.options.output_size is not None:
            arguments["size"] = self.options.output_size
        if self.normalize is not None:
            by = self.statistics if self.normalize == "measure" else self.normalize
            arguments["normalize"] = normalization(by, first.sensor, "reflectance")
        if isinstance(self.augment, Recipe | Mapping | str | Path):
            return load_recipe(self.augment).compose(**arguments)
        return Compose(list(self.augment or ()), **arguments)

    def _apply(self, batch: Batch, split: str) -> Batch:
        done: Batch = self.compose(split).train(split == "train")(batch)
        if "mask" in done:
            done["mask"] = done["mask"].long()  # as torch's losses want it
        return done

    def _training_sampler(self, dataset: TileDataset) -> TileSampler:
        length = self.options.length or _tiles_of_ground(dataset)
        wanted = self.options.sampler
        make: Any = SAMPLERS.named(wanted) if isinstance(wanted, str) else wanted
        sampler: TileSampler = (
            make.for_training(dataset, length, seed=self.options.seed, min_valid=dataset.min_valid)
            if hasattr(make, "for_training")
            else make(dataset, length, self.options.seed)
        )
        return sampler

    def _over_grid(self, split: str) -> CountedLoader:
        dataset = self.dataset(split)
        # Without labels nothing is counted.
        order = GridTileSampler if dataset.labels is None else CountedOnce
        return self._loader(dataset, order(dataset, min_valid=dataset.min_valid, seed=self.options.seed))

    def _loader(
        self, dataset: TileDataset, sampler: TileSampler, *, done: Done = lambda: None, drop_last: bool = False
    ) -> CountedLoader:
        loader = TileLoader(dataset, sampler, self.batch_size, drop_last=drop_last, pin_memory=self.pin_memory)
        return CountedLoader(loader, done)

    def _done(self) -> int | None:
        """Batches of the epoch whose step the trainer has made; 0 at its end."""
        if self.trainer is None or self.trainer.state.fn != "fit":
            return None
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        done = int(progress.processed)
        return 0 if done >= self.trainer.num_training_batches else done

    def _measured(self) -> Statistics:
        train = self.dataset("train")
        kept = self._kept_at()
        if kept is not None and kept.is_file():
            return open_statistics(kept, self.dataset(self._first).sensor)
        _log.info("measuring the statistics of %d training scenes", len(train.catalog))
        options = self.options
        measured = catalog_statistics(
            self._part("train"),
            bands=options.bands,
            dtype=options.dtype,
            on_error=options.on_error,
            threads=options.threads,
            memory_mb=options.memory_mb,
        )
        if kept is not None:
            measured.save(kept)
        return measured

    def _kept_at(self) -> Path | None:
        """The file of the measured statistics; None where it is not kept."""
        if self.options.statistics_file is not None:
            return Path(self.options.statistics_file)
        if not is_saved_catalog(self.source):
            return None
        read = {"bands": self.options.bands, "dtype": self.options.dtype}
        return statistics_path(Path(str(self.source)), self._part("train"), read)


def _tiles_of_ground(dataset: TileDataset) -> int:
    """As many tiles as the ground that they are drawn from would hold beside each other."""
    grids, (height, width) = dataset.grids, dataset.size
    ground = TileGround(dataset, min_valid=dataset.min_valid).area_m2
    # A chip smaller than a tile is one, too.
    tile = grids.pixel_area_m2 * np.minimum(height, grids.height) * np.minimum(width, grids.width)
    return max(1, round(float((ground / tile).sum())))


def _scaling(sensor: Sensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return sensor.quantification, sensor.offset
