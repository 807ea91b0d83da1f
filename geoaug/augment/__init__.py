"""Augmentation of multiband images: operations, `Compose`, recipes. Needs torch and kornia, no raster library.

What a user needs is exported here, and so is what an operation of one's own is built on: `GeometricOperation`,
`RadiometricOperation` and `StencilOperation` with their options, `TileShape`, `Draws`, `Params`, `Terms` and
`StencilKernel` (see `docs/extending.md`).

Where to begin: an operation is two short methods (`operations.base`); `compose` has the whole way of a batch, and
`recipe` and `registry` that of a YAML file to a list of operations. The rooms, each of which imports only from those
above it:

- `planning`: what will happen, in numbers: matrices, terms, segments, plans; no pixels;
- `physics`: functions of wavelength, angle and band, and the maps of clouds and slopes;
- `kernels`: what happens to pixels, by one of three executors;
- `operations`: the base classes, which can run alone in kornia's containers, and geoaug's operations (policies also
  import `registry`, to find operations by name).

Nothing here may import rasterio, geopandas or `geoaug.data`.
"""

from geoaug.augment.compose import Compose
from geoaug.augment.mixing import RandomCutMix, RandomMixUp, RandomSlideMix
from geoaug.augment.operations.atmosphere import RandomHaze, RandomWaterVapour
from geoaug.augment.operations.base import (
    GeometricOperation,
    GeometricOptions,
    RadiometricOperation,
    RadiometricOptions,
    StencilOperation,
    TileShape,
    as_range,
)
from geoaug.augment.operations.clouds import RandomCloud, RandomCloudShadow
from geoaug.augment.operations.detector import (
    RandomBandDropout,
    RandomLineDropout,
    RandomQuantization,
    RandomSaturation,
    RandomStriping,
)
from geoaug.augment.operations.display import RandomJPEG, RandomSharpening, RandomTone, RandomWhiteBalance
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
from geoaug.augment.planning.matrices import Size
from geoaug.augment.planning.plan import Params, Plan
from geoaug.augment.planning.segments import StencilKernel
from geoaug.augment.planning.terms import Terms
from geoaug.augment.recipe import Recipe, available_recipes, load_recipe, needed_packages
from geoaug.augment.test_time import TestTime
from geoaug.rng.draws import Draws

__all__ = [
    "CenterCrop",
    "Compose",
    "Draws",
    "GeometricOperation",
    "GeometricOptions",
    "PadTo",
    "Params",
    "Plan",
    "RadiometricOperation",
    "RadiometricOptions",
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
    "RandomJPEG",
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
    "RandomSharpening",
    "RandomSlideMix",
    "RandomSpeckle",
    "RandomStriping",
    "RandomSunElevation",
    "RandomSwathBrightness",
    "RandomTerrainShading",
    "RandomThermalNoise",
    "RandomTone",
    "RandomVerticalFlip",
    "RandomWaterVapour",
    "RandomWhiteBalance",
    "Recipe",
    "Resize",
    "Size",
    "StencilKernel",
    "StencilOperation",
    "Terms",
    "TestTime",
    "TileShape",
    "TrivialAugment",
    "as_range",
    "available_recipes",
    "load_recipe",
    "needed_packages",
]
