"""Networks for multiband imagery: pretrained ResNets on any bands, fine-tuned, and predicted back onto the map.

The names below are imported on first use, so that torch and Lightning are loaded only by what needs them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoaug.models.networks.architecture import BACKBONES, Architecture
    from geoaug.models.networks.batchnorm import (
        SmallBatchWarning,
        freeze_batchnorm,
        recalibrate_batchnorm,
        set_batchnorm_momentum,
        unfreeze_batchnorm,
        use_norm,
        warn_of_small_batch,
    )
    from geoaug.models.networks.build import build_network
    from geoaug.models.networks.card import ClassName, ModelCard, read_card
    from geoaug.models.networks.change import siamese_resnet, siamese_unet
    from geoaug.models.networks.dropout import Uncertainty, mc_dropout
    from geoaug.models.networks.model_file import LoadedModel, load_model, save_model
    from geoaug.models.networks.resnet import (
        ResNet,
        resnet18,
        resnet34,
        resnet50,
        resnet101,
        resnet152,
        resnext50_32x4d,
        wide_resnet50_2,
    )
    from geoaug.models.networks.segmentation import deeplabv3plus, fpn, unet
    from geoaug.models.networks.statistics import (
        IMAGENET_MEAN,
        IMAGENET_STATISTICS,
        IMAGENET_STD,
        BandStatistics,
        measure_statistics,
    )
    from geoaug.models.networks.stem import STEMS, AdaptedStem, adapt_stem
    from geoaug.models.networks.stem_comparison import LabelledImages, StemScore, compare_stems
    from geoaug.models.predict.scene import predict_scene
    from geoaug.models.tasks.base import Evidence, GeoTask, MapLayer
    from geoaug.models.tasks.change import ChangeTask
    from geoaug.models.tasks.classes import ClassTask
    from geoaug.models.tasks.classification import ClassificationTask
    from geoaug.models.tasks.losses import ClassLoss, ValueLoss
    from geoaug.models.tasks.registry import find_task, task_names
    from geoaug.models.tasks.regression import RegressionTask
    from geoaug.models.tasks.segmentation import SegmentationTask
    from geoaug.models.tasks.training import Schedule, Stage, Training, averaged_network, load_stages

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
    "ClassTask",
    "ClassificationTask",
    "Evidence",
    "GeoTask",
    "LabelledImages",
    "LoadedModel",
    "MapLayer",
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
    "build_network",
    "compare_stems",
    "deeplabv3plus",
    "find_task",
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
    "task_names",
    "unet",
    "unfreeze_batchnorm",
    "use_norm",
    "warn_of_small_batch",
    "wide_resnet50_2",
]

_HOMES = {
    "BACKBONES": "networks.architecture",
    "Architecture": "networks.architecture",
    "SmallBatchWarning": "networks.batchnorm",
    "freeze_batchnorm": "networks.batchnorm",
    "recalibrate_batchnorm": "networks.batchnorm",
    "set_batchnorm_momentum": "networks.batchnorm",
    "unfreeze_batchnorm": "networks.batchnorm",
    "use_norm": "networks.batchnorm",
    "warn_of_small_batch": "networks.batchnorm",
    "build_network": "networks.build",
    "ClassName": "networks.card",
    "ModelCard": "networks.card",
    "read_card": "networks.card",
    "siamese_resnet": "networks.change",
    "siamese_unet": "networks.change",
    "Uncertainty": "networks.dropout",
    "mc_dropout": "networks.dropout",
    "averaged_network": "tasks.training",
    "ClassLoss": "tasks.losses",
    "ValueLoss": "tasks.losses",
    "LoadedModel": "networks.model_file",
    "load_model": "networks.model_file",
    "save_model": "networks.model_file",
    "predict_scene": "predict.scene",
    "ResNet": "networks.resnet",
    "resnet18": "networks.resnet",
    "resnet34": "networks.resnet",
    "resnet50": "networks.resnet",
    "resnet101": "networks.resnet",
    "resnet152": "networks.resnet",
    "resnext50_32x4d": "networks.resnet",
    "wide_resnet50_2": "networks.resnet",
    "Schedule": "tasks.training",
    "deeplabv3plus": "networks.segmentation",
    "fpn": "networks.segmentation",
    "unet": "networks.segmentation",
    "Stage": "tasks.training",
    "load_stages": "tasks.training",
    "IMAGENET_MEAN": "networks.statistics",
    "IMAGENET_STATISTICS": "networks.statistics",
    "IMAGENET_STD": "networks.statistics",
    "BandStatistics": "networks.statistics",
    "measure_statistics": "networks.statistics",
    "STEMS": "networks.stem",
    "AdaptedStem": "networks.stem",
    "adapt_stem": "networks.stem",
    "LabelledImages": "networks.stem_comparison",
    "StemScore": "networks.stem_comparison",
    "compare_stems": "networks.stem_comparison",
    "ChangeTask": "tasks.change",
    "ClassTask": "tasks.classes",
    "ClassificationTask": "tasks.classification",
    "RegressionTask": "tasks.regression",
    "SegmentationTask": "tasks.segmentation",
    "Evidence": "tasks.base",
    "GeoTask": "tasks.base",
    "MapLayer": "tasks.base",
    "find_task": "tasks.registry",
    "task_names": "tasks.registry",
    "Training": "tasks.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'geoaug.models' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geoaug.models.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
