"""Networks for multiband imagery: pretrained ResNets on any bands, fine-tuned, and predicted back onto the map.

The names below are imported on first use, so that torch and Lightning are loaded only by what needs them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoaug.models.architecture import BACKBONES, Architecture
    from geoaug.models.batchnorm import (
        SmallBatchWarning,
        freeze_batchnorm,
        recalibrate_batchnorm,
        set_batchnorm_momentum,
        unfreeze_batchnorm,
        use_norm,
        warn_of_small_batch,
    )
    from geoaug.models.card import ClassName, ModelCard, read_card
    from geoaug.models.dropout import Uncertainty, mc_dropout
    from geoaug.models.resnet import (
        ResNet,
        resnet18,
        resnet34,
        resnet50,
        resnet101,
        resnet152,
        resnext50_32x4d,
        wide_resnet50_2,
    )
    from geoaug.models.statistics import (
        IMAGENET_MEAN,
        IMAGENET_STATISTICS,
        IMAGENET_STD,
        BandStatistics,
        measure_statistics,
    )
    from geoaug.models.stem import STEMS, AdaptedStem, adapt_stem

__all__ = [
    "BACKBONES",
    "IMAGENET_MEAN",
    "IMAGENET_STATISTICS",
    "IMAGENET_STD",
    "STEMS",
    "AdaptedStem",
    "Architecture",
    "BandStatistics",
    "ClassName",
    "ModelCard",
    "ResNet",
    "SmallBatchWarning",
    "Uncertainty",
    "adapt_stem",
    "freeze_batchnorm",
    "mc_dropout",
    "measure_statistics",
    "read_card",
    "recalibrate_batchnorm",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "set_batchnorm_momentum",
    "unfreeze_batchnorm",
    "use_norm",
    "warn_of_small_batch",
    "wide_resnet50_2",
]

_HOMES = {
    "BACKBONES": "architecture",
    "Architecture": "architecture",
    "SmallBatchWarning": "batchnorm",
    "freeze_batchnorm": "batchnorm",
    "recalibrate_batchnorm": "batchnorm",
    "set_batchnorm_momentum": "batchnorm",
    "unfreeze_batchnorm": "batchnorm",
    "use_norm": "batchnorm",
    "warn_of_small_batch": "batchnorm",
    "ClassName": "card",
    "ModelCard": "card",
    "read_card": "card",
    "Uncertainty": "dropout",
    "mc_dropout": "dropout",
    "ResNet": "resnet",
    "resnet18": "resnet",
    "resnet34": "resnet",
    "resnet50": "resnet",
    "resnet101": "resnet",
    "resnet152": "resnet",
    "resnext50_32x4d": "resnet",
    "wide_resnet50_2": "resnet",
    "IMAGENET_MEAN": "statistics",
    "IMAGENET_STATISTICS": "statistics",
    "IMAGENET_STD": "statistics",
    "BandStatistics": "statistics",
    "measure_statistics": "statistics",
    "STEMS": "stem",
    "AdaptedStem": "stem",
    "adapt_stem": "stem",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoaug.models' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geoaug.models.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
