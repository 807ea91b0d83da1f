"""Predictions of chips as a table: one row a chip, for models that answer once for a whole chip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from geoaug.augment.compose import Compose
from geoaug.augment.test_time import Group, TestTime
from geoaug.data.catalog.catalog import Catalog
from geoaug.data.datamodule import as_catalog
from geoaug.data.loading.dataset import TileDataset
from geoaug.data.loading.loader import TileLoader
from geoaug.data.sampling.grid_sampler import GridTileSampler
from geoaug.errors import ConfigurationError
from geoaug.models.networks.bands import check_same_bands
from geoaug.models.networks.card import ModelCard
from geoaug.models.networks.model_file import LoadedModel, load_model
from geoaug.models.predict.answers import Answer, Precision, answering
from geoaug.models.predict.trained_gsd import check_gsd, scene_gsds
from geoaug.models.tasks.registry import find_task

__all__ = ["chip_compose", "chips_for", "predict_chips"]

# Scenes this much larger than what the model was trained on are no chips of its kind.
_MOST_TIMES = 4


def predict_chips(
    model: LoadedModel | str | Path,
    chips: Catalog | str | Path | Sequence[str | Path],
    *,
    sensor: str | None = None,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    test_time: Group = "none",
    passes: int = 0,
    precision: Precision = "float32",
    ignore_gsd: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Predict chips.

    Args:
        model: a model file of `ClassificationTask` or `RegressionTask`, or what `load_model` gave.
        chips: a catalog, a folder, or files; their bands are found by name.
        sensor: of the chips, where the files do not tell.
        batch_size: of chips read together.
        device: to predict on.
        test_time: the views of each chip that are averaged.
        passes: of Monte Carlo dropout for uncertainty, 2 or more; 0 for none.
        precision: that the network multiplies with; "bfloat16" is faster where the processor knows it, and less exact.
        ignore_gsd: whether to predict at another ground sampling distance than that of the training.
        progress: called with the chips done and all of them.

    Returns:
        Columns `chip` (its file), `label` where the folder says, and `class`, `probability` and `p_<class>` of each
        class (of several labels at once, these alone), or `value`; with passes, `entropy` and `mutual_information` over
        their greatest.

    Raises:
        ConfigurationError: a band that the chips lack, another ground sampling distance, scenes that are no chips, or a
            model of maps.
        RasterError: a chip cannot be read.
    """
    loaded = model if isinstance(model, LoadedModel) else load_model(model, device)
    card, network = loaded.card, loaded.network.to(device).eval()
    if card.architecture.decoder != "none" or card.architecture.fusion != "none":
        raise ConfigurationError("this model answers for each pixel, or compares two dates: predict_scene makes maps")
    if passes == 1 or passes < 0 or (passes and not find_task(card.task).has_uncertainty):
        raise ConfigurationError(f"passes={passes}: uncertainty is of classes and needs two passes or more, 0 for none")
    catalog = as_catalog(chips, **({} if sensor is None else {"sensor": sensor}))
    answer = Answer(network, card, TestTime(test_time), passes)
    found: list[Tensor] = []
    positions: list[int] = []
    where = {name: position for position, name in enumerate(catalog.ids)}
    with answering(precision, device), chips_for(card, catalog) as dataset:
        compose = chip_compose(card, dataset, ignore_gsd=ignore_gsd)
        for batch in TileLoader(dataset, GridTileSampler(dataset), batch_size):
            found.append(answer(compose(batch)["image"].to(device)).cpu())
            positions += [where[name] for name in batch["scene"]]
            if progress is not None:
                progress(len(positions), len(catalog))
    answers = torch.cat(found).numpy()[np.argsort(positions)]
    kept = catalog.select(np.sort(positions))
    return _table(card, kept, answers, passes)


def chips_for(card: ModelCard, catalog: Catalog) -> TileDataset:
    """Chips with the bands of a model.

    Raises:
        ConfigurationError: a band that they lack.
    """
    wanted = list(card.sensor.band_names)
    try:
        return TileDataset(catalog, bands=wanted)
    except ConfigurationError as error:
        raise ConfigurationError(f"the model takes {' '.join(wanted)} of '{card.sensor.name}': {error}") from error


def chip_compose(card: ModelCard, dataset: TileDataset, *, ignore_gsd: bool = False) -> Compose:
    """What stands before the network for chips: scaled as they are stored, enlarged and normalised as in training.

    Raises:
        ConfigurationError: bands of the same name that are others, another ground sampling distance unless
            `ignore_gsd`, or scenes that are no chips.
    """
    check_same_bands(card.sensor, dataset.sensor, "the chips")
    data = dict(card.training.get("configuration") or {}).get("data") or {}
    fit = data.get("fit", "crop")
    side = max(dataset.size)
    if card.tile_size is not None and side > _MOST_TIMES * card.tile_size:
        raise ConfigurationError(
            f"scenes of {side} pixels, and the model answers once for a chip of {card.tile_size}: cut them into chips, "
            "or train a SegmentationTask for maps"
        )
    size = card.tile_size if fit == "resize" else None
    if not ignore_gsd:
        for path, gsd in zip(dataset.catalog.column("path").tolist(), scene_gsds(dataset, size), strict=True):
            check_gsd(gsd, card.gsd_m, path, "give chips of that size (gdalwarp -tr)")
    return Compose(
        [], dataset.sensor, size, fit=fit, normalize=(card.mean, card.std), out_units=card.units,
        ignore_index=card.ignore_index,
    ).eval()  # fmt: skip


def _table(card: ModelCard, catalog: Catalog, answers: np.ndarray[Any, Any], passes: int) -> pa.Table:
    columns: dict[str, Any] = {"chip": catalog.column("path").tolist()}
    labels = catalog.table.column("label")
    if labels.null_count < len(catalog):
        columns["label"] = labels
    return pa.table({**columns, **find_task(card.task).chip_columns(card, answers, uncertainty=passes > 0)})
