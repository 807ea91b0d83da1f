"""Tiles of an audit to look at: some originals, and what became of the same ones."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from geoaug.sensors import Sensor

__all__ = ["Example", "Examples"]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A tile to look at: pixels (C, H, W) as stored, and validity (H, W)."""

    image: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Tiles to look at, originals and what became of the same ones.

    Attributes:
        sensor: which tells their colours.
        originals: some untouched tiles.
        changed: the same ones, by the name of the recipe, and "" for the whole of it or the operation's position in it.
        against: the same ground in the other acquisition.
    """

    sensor: Sensor
    originals: tuple[Example, ...]
    changed: Mapping[tuple[str, str], tuple[Example, ...]]
    against: tuple[Example, ...] = ()
