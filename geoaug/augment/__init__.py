"""Augmentation of multiband images: operations, `Compose`, recipes. Needs torch and kornia, no raster library."""

from geoaug.augment.compose import Compose
from geoaug.augment.mixing import RandomCutMix, RandomMixUp, RandomSlideMix
from geoaug.augment.operations.atmosphere import RandomHaze, RandomWaterVapour
from geoaug.augment.operations.clouds import RandomCloud, RandomCloudShadow
from geoaug.augment.operations.detector import (
    RandomBandDropout,
    RandomLineDropout,
    RandomQuantization,
    RandomSaturation,
    RandomStriping,
)
from geoaug.augment.operations.geometric import (
    CenterCrop,
    PadTo,
    RandomAffine,
    RandomCrop,
    RandomD4,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomVerticalFlip,
    Resize,
)
from geoaug.augment.operations.illumination import RandomCalibration, RandomIllumination, RandomSwathBrightness
from geoaug.augment.operations.optics import RandomBandShift, RandomPointSpread, RandomResolution
from geoaug.augment.operations.policies import RandAugment, TrivialAugment
from geoaug.augment.operations.sar import RandomIncidenceAngle, RandomSpeckle, RandomThermalNoise
from geoaug.augment.operations.sensor_noise import RandomSensorNoise
from geoaug.augment.operations.sun import RandomSunElevation, RandomTerrainShading
from geoaug.augment.planning.plan import Plan
from geoaug.augment.recipe import Recipe, available_recipes, load_recipe
from geoaug.augment.test_time import TestTime

__all__ = [
    "CenterCrop",
    "Compose",
    "PadTo",
    "Plan",
    "RandAugment",
    "RandomAffine",
    "RandomBandDropout",
    "RandomBandShift",
    "RandomCalibration",
    "RandomCloud",
    "RandomCloudShadow",
    "RandomCrop",
    "RandomCutMix",
    "RandomD4",
    "RandomHaze",
    "RandomHorizontalFlip",
    "RandomIllumination",
    "RandomIncidenceAngle",
    "RandomLineDropout",
    "RandomMixUp",
    "RandomPointSpread",
    "RandomQuantization",
    "RandomResizedCrop",
    "RandomResolution",
    "RandomRotation",
    "RandomRotation90",
    "RandomSaturation",
    "RandomSensorNoise",
    "RandomSlideMix",
    "RandomSpeckle",
    "RandomStriping",
    "RandomSunElevation",
    "RandomSwathBrightness",
    "RandomTerrainShading",
    "RandomThermalNoise",
    "RandomVerticalFlip",
    "RandomWaterVapour",
    "Recipe",
    "Resize",
    "TestTime",
    "TrivialAugment",
    "available_recipes",
    "load_recipe",
]
