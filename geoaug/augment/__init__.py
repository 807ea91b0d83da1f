"""Augmentation of multiband images: operations, `Compose`, recipes. Needs torch and kornia, no raster library."""

from geoaug.augment.atmosphere import RandomHaze
from geoaug.augment.bands import RandomBandDropout
from geoaug.augment.compose import Compose
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
from geoaug.augment.illumination import RandomIllumination
from geoaug.augment.plan import Plan
from geoaug.augment.recipe import Recipe, available_recipes, load_recipe
from geoaug.augment.sensor_noise import RandomSensorNoise

__all__ = [
    "CenterCrop",
    "Compose",
    "PadTo",
    "Plan",
    "RandomAffine",
    "RandomBandDropout",
    "RandomCrop",
    "RandomD4",
    "RandomHaze",
    "RandomHorizontalFlip",
    "RandomIllumination",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomRotation90",
    "RandomSensorNoise",
    "RandomVerticalFlip",
    "Recipe",
    "Resize",
    "available_recipes",
    "load_recipe",
]
