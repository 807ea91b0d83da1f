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
    from geoaug.models.change import siamese_resnet, siamese_unet
    from geoaug.models.dropout import Uncertainty, mc_dropout
    from geoaug.models.ema import averaged_network
    from geoaug.models.losses import ClassLoss, ValueLoss
    from geoaug.models.model_file import LoadedModel, load_model, save_model
    from geoaug.models.predict import predict_scene
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
    from geoaug.models.schedules import Schedule
    from geoaug.models.segmentation import deeplabv3plus, fpn, unet
    from geoaug.models.stages import Stage, load_stages
    from geoaug.models.statistics import (
        IMAGENET_MEAN,
        IMAGENET_STATISTICS,
        IMAGENET_STD,
        BandStatistics,
        measure_statistics,
    )
    from geoaug.models.stem import STEMS, AdaptedStem, adapt_stem
    from geoaug.models.stem_comparison import LabelledImages, StemScore, compare_stems
    from geoaug.models.tasks import ChangeTask, ClassificationTask, RegressionTask, SegmentationTask
    from geoaug.models.training import Training

__all__ = [
    "BACKBONES",
    "IMAGENET_MEAN",
    "IMAGENET_STATISTICS",
    "IMAGENET_STD",
    "STEMS",
    "AdaptedStem",
    "Architecture",
    "BandStatistics",
    "ChangeTask",
    "ClassLoss",
    "ClassName",
    "ClassificationTask",
    "LabelledImages",
    "LoadedModel",
    "ModelCard",
    "RegressionTask",
    "ResNet",
    "Schedule",
    "SegmentationTask",
    "SmallBatchWarning",
    "Stage",
    "StemScore",
    "Training",
    "Uncertainty",
    "ValueLoss",
    "adapt_stem",
    "averaged_network",
    "compare_stems",
    "deeplabv3plus",
    "fpn",
    "freeze_batchnorm",
    "load_model",
    "load_stages",
    "mc_dropout",
    "measure_statistics",
    "predict_scene",
    "read_card",
    "recalibrate_batchnorm",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "save_model",
    "set_batchnorm_momentum",
    "siamese_resnet",
    "siamese_unet",
    "unet",
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
    "siamese_resnet": "change",
    "siamese_unet": "change",
    "Uncertainty": "dropout",
    "mc_dropout": "dropout",
    "averaged_network": "ema",
    "ClassLoss": "losses",
    "ValueLoss": "losses",
    "LoadedModel": "model_file",
    "load_model": "model_file",
    "save_model": "model_file",
    "predict_scene": "predict",
    "ResNet": "resnet",
    "resnet18": "resnet",
    "resnet34": "resnet",
    "resnet50": "resnet",
    "resnet101": "resnet",
    "resnet152": "resnet",
    "resnext50_32x4d": "resnet",
    "wide_resnet50_2": "resnet",
    "Schedule": "schedules",
    "deeplabv3plus": "segmentation",
    "fpn": "segmentation",
    "unet": "segmentation",
    "Stage": "stages",
    "load_stages": "stages",
    "IMAGENET_MEAN": "statistics",
    "IMAGENET_STATISTICS": "statistics",
    "IMAGENET_STD": "statistics",
    "BandStatistics": "statistics",
    "measure_statistics": "statistics",
    "STEMS": "stem",
    "AdaptedStem": "stem",
    "adapt_stem": "stem",
    "LabelledImages": "stem_comparison",
    "StemScore": "stem_comparison",
    "compare_stems": "stem_comparison",
    "ChangeTask": "tasks",
    "ClassificationTask": "tasks",
    "RegressionTask": "tasks",
    "SegmentationTask": "tasks",
    "Training": "training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoaug.models' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geoaug.models.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
