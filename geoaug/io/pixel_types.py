"""Pixel types that augmentation does not compute in: how they are brought to one that it does, and back.

Tiles are always written in the type of their scene. uint8, uint16, int16 and float32 are augmented as they are;
the others take a detour through a wider or a floating type, which is refused where it would change values.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geoaug.errors import RasterError

_AS_STORED = ("uint8", "uint16", "int16", "float32")
_DETOURS = {"int8": "int16", "int32": "float32", "uint32": "float32", "float64": "float32"}
# Whole numbers up to here are exact in float32.
_EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True, slots=True)
class PixelType:
    """The type a scene is stored in with its fill value, and the type it is augmented in."""

    stored: np.dtype[Any]
    fill: float

    @property
    def working(self) -> np.dtype[Any]:
        """numpy's type during augmentation."""
        return self.stored if self.stored.name in _AS_STORED else np.dtype(_DETOURS[self.stored.name])

    @property
    def working_fill(self) -> float:
        """The fill value during augmentation: a pixel's validity, not its value, tells where to put `fill` back."""
        return self.fill if self.working == self.stored else 0.0

    @property
    def note(self) -> str | None:
        """What a person should know of the detour, None where it changes nothing."""
        if self.stored == np.float64:
            return "float64 pixels are augmented with the precision of float32 (7 digits) and written as float64"
        return None

    def to_working(self, image: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """An image (C, H, W) in the working type, values of invalid pixels (H, W) being of no account.

        Raises `RasterError` where valid values would not survive.
        """
        if self.working == self.stored:
            return image
        image = np.where(valid, image, image.dtype.type(0))
        if self.working == np.float32:
            limit = _EXACT_IN_FLOAT32 if self.stored.kind in "iu" else float(np.finfo(np.float32).max)
            largest = max(abs(float(image.max(initial=0))), abs(float(image.min(initial=0))))
            if largest > limit:
                raise RasterError(
                    f"holds {largest:.10g}: {self.stored.name} values beyond {limit:.8g} cannot be augmented without "
                    "loss; rescale them first"
                )
        return image.astype(self.working)

    def from_working(self, image: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
        """An augmented image (C, H, W) in the stored type: rounded, saturated, `fill` where invalid and only there."""
        if self.working == self.stored:
            return image
        if self.stored.kind == "f":
            return np.where(valid, image.astype(self.stored), self.stored.type(self.fill))
        limits = np.iinfo(self.stored)
        values = np.clip(np.rint(image.astype(np.float64)), limits.min, limits.max)
        values[values == self.fill] += 1 if self.fill < limits.max else -1
        return np.where(valid, values, self.fill).astype(self.stored)
