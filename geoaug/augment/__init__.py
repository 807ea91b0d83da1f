"""Augmentation of multiband images: operations, `Compose`, recipes. Needs torch and kornia, no raster library."""

from geoaug.augment.atmosphere import RandomHaze, RandomWaterVapour
from geoaug.augment.bands import RandomBandDropout
from geoaug.augment.clouds import RandomCloud, RandomCloudShadow
from geoaug.augment.compose import Compose
from geoaug.augment.detector import RandomLineDropout, RandomQuantization, RandomSaturation, RandomStriping
from geoaug.augment.geometric import (
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
from geoaug.augment.illumination import RandomCalibration, RandomIllumination, RandomSwathBrightness
from geoaug.augment.mixing import RandomCutMix, RandomMixUp, RandomSlideMix
from geoaug.augment.optics import RandomBandShift, RandomPointSpread, RandomResolution
from geoaug.augment.plan import Plan
from geoaug.augment.policies import RandAugment, TrivialAugment
from geoaug.augment.recipe import Recipe, available_recipes, load_recipe
from geoaug.augment.sar import RandomIncidenceAngle, RandomSpeckle, RandomThermalNoise
from geoaug.augment.sensor_noise import RandomSensorNoise
from geoaug.augment.sun import RandomSunElevation, RandomTerrainShading
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
