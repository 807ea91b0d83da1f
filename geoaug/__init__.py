"""Realistic augmentation, tiled data loading and fine-tuning for multiband satellite imagery.

The names below and the packages are imported on first use, so that `import geoaug` and `geoaug --help` stay quick.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoaug import audit, augment, cli, data, io, models, sensors
    from geoaug.augment.compose import Compose
    from geoaug.augment.recipe import load_recipe
    from geoaug.models.stress import stress
    from geoaug.rng.draws import sample_keys
    from geoaug.sensors import Sensor, get_sensor

__all__ = [
    "Compose",
    "Sensor",
    "audit",
    "augment",
    "cli",
    "data",
    "get_sensor",
    "io",
    "load_recipe",
    "models",
    "sample_keys",
    "sensors",
    "stress",
]

_HOMES = {
    "Compose": "geoaug.augment.compose",
    "Sensor": "geoaug.sensors",
    "get_sensor": "geoaug.sensors",
    "load_recipe": "geoaug.augment.recipe",
    "sample_keys": "geoaug.rng.draws",
    "stress": "geoaug.models.stress",
}

_PACKAGES = ("audit", "augment", "cli", "data", "io", "models", "sensors")

try:
    __version__ = version("geoaug")
except PackageNotFoundError:
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"geoaug.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'geoaug' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
