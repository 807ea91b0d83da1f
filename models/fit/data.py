"""The data of a training that a file describes: a `TileDataModule` of plain values, whose batches the task augments.

What is on the device is done by the task, through `FitAugment`, so that mixing and the model's card see one pipeline.
How the values are chosen where only data are given is in `choices`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal, Unpack, cast

import torch
from jaxtyping import Int
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn

from geoaug.augment.compose import Compose
from geoaug.augment.recipe import Recipe, load_recipe
from geoaug.data.datamodule import LoadingKeywords, LoadingOptions, TileDataModule
from geoaug.data.loading.loader import TileLoader
from geoaug.data.sampling.random_sampler import RandomTileSampler
from geoaug.errors import ConfigurationError, RasterError
from geoaug.keywords import shares_options
from geoaug.models.networks.statistics import IMAGENET_MEAN, IMAGENET_STD, BandStatistics, measure_statistics

__all__ = ["FitAugment", "FitData", "class_positions"]

_BATCHES_MEASURED = 8


@shares_options(LoadingOptions, without=("classes",))
class FitData(TileDataModule):
    """Training, validation and test data, from plain values that a YAML file or a command line can hold.

    Args:
        source: a catalog of `geoaug index`, a folder, or files.
        size: of a tile as it is read, pixels; without it chips are taken whole.
        class_ids: ids of the labels, in the order of the network's answers; by default 0, 1, 2... Any other id in the
            labels is an error, but for `ignore_index`.
        class_names: of these; by default from the catalog or the labels.
        recipe: of augmentation: a preset's name or a file; none by default.
        fit: how a tile comes to `output_size`: "crop", which keeps the ground sampling distance, or "resize".
        normalize: "measure" (the statistics of the training split), "imagenet" (for three bands in 0..1), or a file of
            `geoaug stats`.
        mean: of each band in reflectance; together with `std` in place of `normalize`.
        std: of each band.
        **options: the other fields of `LoadingOptions`.

    Raises:
        ConfigurationError: the values do not fit together.
    """

    # Batches leave as they are stored: the task augments them.
    on_after_batch_transfer = LightningDataModule.on_after_batch_transfer

    def __init__(
        self,
        source: str | list[str],
        size: int | None = None,
        *,
        class_ids: list[int] | None = None,
        class_names: list[str] | None = None,
        recipe: str | None = None,
        fit: Literal["crop", "resize"] = "crop",
        normalize: str = "measure",
        mean: list[float] | None = None,
        std: list[float] | None = None,
        **options: Unpack[LoadingKeywords],
    ) -> None:
        if (mean is None) != (std is None):
            raise ConfigurationError("mean and std come together")
        ignored = options.get("ignore_index", LoadingOptions.ignore_index)
        if class_ids is not None and ignored in class_ids:
            raise ConfigurationError(f"class {ignored} is ignore_index, too: name another id for 'no label'")
        if "classes" in options:
            raise ConfigurationError("FitData has no option classes: name them in class_ids", argument="classes")
        options["classes"] = class_ids
        by: Any = normalize
        if mean is not None and std is not None:
            by = (mean, std)
        elif normalize == "imagenet":
            by = (list(IMAGENET_MEAN), list(IMAGENET_STD))
        super().__init__(
            source,
            size,
            augment=None if recipe is None else load_recipe(recipe),
            normalize=by,
            drop_last=True,
            **options,
        )
        self.class_ids, self.class_names, self.fit = class_ids, class_names, fit

    @property
    def recipe(self) -> Recipe | None:
        """Of the augmentation."""
        return self.augment if isinstance(self.augment, Recipe) else None

    @property
    def first_split(self) -> str:
        """The split that others are scaled as."""
        return self._first

    def names_of_classes(self) -> tuple[str, ...]:
        """A name for each answer of a network that learns classes of these labels.

        Raises:
            ConfigurationError: it is not known how many classes there are.
        """
        if self.class_names is not None:
            if self.class_ids is not None and len(self.class_names) != len(self.class_ids):
                raise ConfigurationError(f"{len(self.class_names)} class_names for {len(self.class_ids)} class_ids")
            return tuple(self.class_names)
        known = self.classes
        if self.class_ids is not None:
            return tuple(known[one] if 0 <= one < len(known) else f"class {one}" for one in self.class_ids)
        if not known:
            raise ConfigurationError(
                "nothing says which classes the labels have: name them in class_ids, or class_names, or count them: "
                "geoaug stats --update-catalog"
            )
        return known

    def some_batches(self, count: int = _BATCHES_MEASURED) -> list[dict[str, Any]]:
        """A few training batches as the network is given them without augmentation, by chance, the same each time."""
        dataset = self.dataset("train")
        sampler = RandomTileSampler(
            dataset, count * self.batch_size, seed=self.options.seed, min_valid=dataset.min_valid
        )
        compose = self._make_compose("train").eval()
        return [compose(batch) for batch in TileLoader(dataset, sampler, self.batch_size)]

    def input_statistics(self) -> BandStatistics:
        """Of what the network is given: means, deviations, correlations of bands and of neighbours."""
        return measure_statistics(self.some_batches())

    def _loader(self, dataset: Any, sampler: Any, *, done: Any = lambda: None, drop_last: bool = False) -> Any:
        # A last batch of a sample or two has no statistics to train by; a training of less than a batch is one.
        return super()._loader(dataset, sampler, done=done, drop_last=drop_last and len(sampler) >= self.batch_size)

    def _make_compose(self, split: str) -> Compose:
        compose = super()._make_compose(split)
        compose.fit = self.fit
        return compose


class FitAugment(nn.Module):
    """What stands before the network: `FitData`'s pipelines, each split's own; labels as positions among the classes.

    It takes the place of a `Compose` in a task, and answers for its sensor, normalisation and units.
    """

    def __init__(self, data: FitData) -> None:
        super().__init__()
        # In a tuple, so that the data are no part of the network.
        self._data = (data,)
        self.stage: Literal["val", "test"] = "val"
        if data.class_ids is not None:
            _positions_of(tuple(data.class_ids), data.options.ignore_index)  # says at once what cannot be meant

    @property
    def data(self) -> FitData:
        return self._data[0]

    @property
    def sensor(self) -> Any:
        return self._first.sensor

    @property
    def normalize(self) -> Any:
        return self._first.normalize

    @property
    def out_units(self) -> Any:
        return self._first.out_units

    @property
    def ignore_index(self) -> int:
        return self._first.ignore_index

    @property
    def _first(self) -> Compose:
        return self.data.compose(self.data.first_split)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        split = "train" if self.training or not self.data.has_split(self.stage) else self.stage
        done: dict[str, Any] = self.data.compose(split).train(self.training)(dict(batch))
        if isinstance(done.get("mask"), Tensor):
            done["mask"] = class_positions(done["mask"].long(), self.data.class_ids, self.ignore_index)
        if isinstance(done.get("label"), Tensor) and done["label"].is_floating_point():
            done["target"] = done.pop("label")
        return done


def class_positions(
    ids: Int[Tensor, "*grid"], class_ids: Sequence[int] | None, ignore_index: int
) -> Int[Tensor, "*grid"]:
    """Labels as positions among the classes of a network.

    Args:
        ids: as labels hold them.
        class_ids: the id of each class, in the order of the network's answers; None: ids are positions already.
        ignore_index: stays.

    Raises:
        ConfigurationError: ids of classes that are none.
        RasterError: a label that is not among them.
    """
    if class_ids is None:
        return ids
    table = _positions_of(tuple(class_ids), ignore_index).to(ids.device)
    inside = (ids >= 0) & (ids < len(table))
    found = table[torch.where(inside, ids, torch.zeros_like(ids))]
    strange = (~inside | (found < 0)) & (ids != ignore_index)
    if bool(strange.any()):
        one = int(ids[strange][0])
        raise RasterError(f"the labels hold the id {one}, which is not among the classes {list(class_ids)}")
    return torch.where(ids == ignore_index, ids, found)


@cache
def _positions_of(ids: tuple[int, ...], ignore_index: int) -> Tensor:
    """For each id its position among the classes, -1 where it is none."""
    if len(set(ids)) != len(ids) or min(ids) < 0:
        raise ConfigurationError(f"class_ids are numbers from 0, each once, not {list(ids)}")
    table = torch.full((max(*ids, ignore_index, 0) + 1,), -1, dtype=torch.long)
    for position, one in enumerate(ids):
        table[one] = position
    return table


def as_compose(augment: FitAugment) -> Compose:
    """The pipelines as the `Compose` of a task, which they stand for."""
    return cast(Compose, augment)
