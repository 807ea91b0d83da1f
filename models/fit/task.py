"""The task of a training that is described in a file: network and task from plain values and the data they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from geoaug.errors import ConfigurationError
from geoaug.models.fit.data import FitAugment, FitData, as_compose
from geoaug.models.networks.architecture import Network
from geoaug.models.networks.bands import check_same_bands
from geoaug.models.networks.batchnorm import Norm, recalibrate_batchnorm
from geoaug.models.networks.model_file import LoadedModel
from geoaug.models.networks.resnet import ResNetOptions, pretrained_resnet
from geoaug.models.networks.segmentation import deeplabv3plus, fpn, unet
from geoaug.models.networks.stem import Stem
from geoaug.models.tasks.base import GeoTask
from geoaug.models.tasks.losses import LossChoice
from geoaug.models.tasks.registry import find_task
from geoaug.models.tasks.training import Training

__all__ = ["NetworkChoice", "build_task", "task_of_model"]

_DECODERS = {"unet": unet, "fpn": fpn, "deeplabv3+": deeplabv3plus}
_NONE = ("", "none", "null")


@dataclass(frozen=True)
class NetworkChoice:
    """A network by plain values.

    Args:
        backbone: "resnet18" and so on.
        decoder: for an answer to each pixel: "unet", "fpn" or "deeplabv3+"; "none" for one to the whole chip.
        weights: a file, a name of torchvision's ("IMAGENET1K_V1", "DEFAULT"), or none.
        sha256: of the file of weights, or its beginning.
        weights_bands: names of the bands of the weights, or of a sensor, where they are not red, green and blue and
            the file does not say.
        stem: how the first layer comes to the bands.
        norm: "batch", "group", "frozen" or "sync".
        bn_momentum: in torch's convention.
        recalibrate: whether batch norm's statistics are taken anew on the training data before it starts.
        dropout: before the last layer.
        block_dropout: of channels, inside the stages.
    """

    backbone: str = "resnet18"
    decoder: Literal["none", "unet", "fpn", "deeplabv3+"] = "none"
    weights: str | None = None
    sha256: str | None = None
    weights_bands: int | list[str] | str | None = None
    stem: Stem = "copy"
    norm: Norm = "batch"
    bn_momentum: float | None = 0.1
    recalibrate: bool = False
    dropout: float = 0.0
    block_dropout: float = 0.0


_NETWORK, _LOSS, _TRAINING = NetworkChoice(), LossChoice(), Training()


def build_task(
    data: FitData,
    task: str,
    network: NetworkChoice = _NETWORK,
    loss: LossChoice = _LOSS,
    training: Training = _TRAINING,
) -> GeoTask:
    """The task, its network adapted to the data.

    Args:
        data: that it is for: bands, statistics, classes.
        task: "classification", "segmentation", "regression", or another that geoaug.models.tasks.registry knows.
        network: see `NetworkChoice`.
        loss: see `LossChoice`.
        training: see `Training`.

    Raises:
        ConfigurationError: they do not fit together; weights of another architecture, or that cannot be had.
    """
    kind = find_task(task)
    if kind.monitored is None:
        raise ConfigurationError(f"task '{task}' is trained in Python, not by geoaug fit: see {kind.__name__}")
    augment = FitAugment(data)
    kind.check_data(data)
    built = _network(network, data, kind.outputs_for(data), data.names_of_classes() if kind.has_classes else ())
    if network.recalibrate:
        recalibrate_batchnorm(built, data.some_batches())
    made: GeoTask = kind.for_data(built, data, as_compose(augment), training, loss)
    return made


def task_of_model(model: LoadedModel, data: FitData) -> GeoTask:
    """The task of a model that is trained, to be evaluated on data."""
    card = model.card
    kind = find_task(card.task)
    if kind.monitored is None:
        raise ConfigurationError(f"a model of task '{card.task}' is evaluated in Python: see {kind.__name__}")
    augment = FitAugment(data)
    check_same_bands(card.sensor, data.sensor, "the data")
    configured = dict(card.training.get("configuration") or {}).get("model") or {}
    loss = LossChoice(**(configured.get("loss") or {}))
    made: GeoTask = kind.for_model(model.network, card, data, as_compose(augment), loss)
    return made


def _network(choice: NetworkChoice, data: FitData, outputs: int, classes: tuple[str, ...]) -> Network:
    weights = None if choice.weights is None or choice.weights.lower() in _NONE else choice.weights
    options: ResNetOptions = {
        "stem": choice.stem,
        "sha256": choice.sha256,
        "weights_bands": choice.weights_bands,
        "norm": choice.norm,
        "bn_momentum": choice.bn_momentum,
        "dropout": choice.dropout,
        "block_dropout": choice.block_dropout,
    }
    if weights is not None:
        options["statistics"] = data.input_statistics()
        options["classes"] = classes or None
    if choice.decoder != "none":
        return _DECODERS[choice.decoder](choice.backbone, weights, data.sensor, outputs, **options)
    return pretrained_resnet(choice.backbone, weights, data.sensor, outputs, **options)
