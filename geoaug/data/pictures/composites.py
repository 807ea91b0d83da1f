"""Multiband arrays as arrays to look at: composites under a common stretch, and masks laid over them.

Arrays in, arrays out, with numpy alone. Which bands make a true or a false colour picture is decided by
`geoaug.sensors`; pictures in files are drawn by `geoaug.data.pictures.contact_sheet`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from geoaug.errors import ConfigurationError

Rgb = NDArray[np.float32]  # (H, W, 3), 0..1
Mask = NDArray[np.integer[Any]]  # (H, W)
Valid = NDArray[np.bool_]  # (H, W), True where the pixel holds data
Colour = tuple[float, float, float]  # red, green, blue in 0..1

# Distinct at a glance and for most colour-blind readers (after Paul Tol's "bright" and "muted" schemes).
_PALETTE: Final = (
    "#4477AA", "#228833", "#EE6677", "#CCBB44", "#66CCEE", "#AA3377", "#EE8866", "#117733",
    "#BBBBBB", "#332288", "#DDCC77", "#882255", "#44AA99", "#999933",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stretch:
    """The values shown as black and as white in each channel of a composite, in the image's own unit."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    def apply(self, channels: NDArray[Any], valid: Valid | None = None) -> Rgb:
        """Turn 1 or 3 channels (C, H, W) into (H, W, 3) in 0..1; invalid pixels become a grey hatching."""
        if len(channels) != len(self.low):
            raise ConfigurationError(f"a stretch for {len(self.low)} channels cannot show {len(channels)} channels")
        low = np.asarray(self.low, dtype=np.float32)[:, None, None]
        high = np.asarray(self.high, dtype=np.float32)[:, None, None]
        with np.errstate(invalid="ignore"):  # NaN is a usual way to mark what is invalid
            scaled = np.clip((channels.astype(np.float32) - low) / (high - low), 0.0, 1.0)
        rgb = np.moveaxis(np.broadcast_to(scaled, (3, *scaled.shape[1:])), 0, -1)
        known = np.isfinite(channels).all(axis=0) if valid is None else valid
        return np.where(known[..., None], rgb, hatching(known.shape)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Composite:
    """A way to show an image: a title for the row, and the 0-based bands, one (grey) or three (red, green,
    blue)."""

    title: str
    bands: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.bands) not in (1, 3):
            raise ConfigurationError(f"composite {self.title!r}: one or three bands, not {len(self.bands)}")


def hatching(shape: tuple[int, int]) -> Rgb:
    """Diagonal stripes of two greys, (H, W, 3): what stands where there is no data."""
    height, width = shape
    period = max(max(height, width) // 24, 4)
    rows, columns = np.mgrid[0:height, 0:width]
    stripes = np.where((rows + columns) % period * 2 < period, 0.62, 0.74).astype(np.float32)
    return np.repeat(stripes[..., None], 3, axis=2)


def measure_stretch(
    channels: NDArray[Any], valid: Valid | None = None, *, low: float = 2.0, high: float = 98.0
) -> Stretch:
    """The `low` and `high` percentiles of the valid pixels of each channel of (C, H, W).

    Where nothing is valid the stretch is 0 to 1; where a channel is constant it is one unit wide.
    """
    if not 0 <= low < high <= 100:
        raise ConfigurationError(f"percentiles {low} and {high}: low must be below high, both in 0 to 100")
    known = np.isfinite(channels).all(axis=0)
    if valid is not None:
        known = known & valid
    if not known.any():
        return Stretch((0.0,) * len(channels), (1.0,) * len(channels))
    bounds = np.percentile(channels[:, known].astype(np.float64), [low, high], axis=1)
    bounds[1] = np.where(bounds[1] > bounds[0], bounds[1], bounds[0] + 1)
    return Stretch(tuple(bounds[0].tolist()), tuple(bounds[1].tolist()))


def stretch(
    image: NDArray[Any],
    valid: Valid | None = None,
    low: float = 2.0,
    high: float = 98.0,
    *,
    reference: Stretch | None = None,
) -> Rgb:
    """Show 1 or 3 channels (C, H, W) as (H, W, 3) in 0..1.

    `reference` is the stretch of another image (see `measure_stretch`): an original and its augmented
    copies are only comparable under one stretch. Without it, the image's own percentiles are taken.
    """
    return (reference or measure_stretch(image, valid, low=low, high=high)).apply(image, valid)


def composite(
    image: NDArray[Any], bands: Sequence[int], valid: Valid | None = None, *, reference: Stretch | None = None
) -> Rgb:
    """Show one or three 0-based `bands` of `image` (C, H, W) as (H, W, 3) in 0..1.

    Raises:
        ConfigurationError: a band that the image does not have, or not one or three of them.
    """
    return stretch(select_bands(image, bands), valid, reference=reference)


def select_bands(image: NDArray[Any], bands: Sequence[int]) -> NDArray[Any]:
    """One or three 0-based `bands` of `image` (C, H, W); `ConfigurationError` for one that it does not
    have."""
    chosen = list(Composite("composite", tuple(bands)).bands)
    if not all(0 <= band < len(image) for band in chosen):
        raise ConfigurationError(f"bands {chosen} (0-based) of an image with {len(image)} bands")
    return image[chosen]


def class_colours(count: int) -> tuple[Colour, ...]:
    """`count` colours that are told apart easily: a fixed palette first, then hues a golden angle apart."""
    colours: list[Colour] = []
    for number in range(count):
        if number < len(_PALETTE):
            text = _PALETTE[number]
            colours.append((int(text[1:3], 16) / 255, int(text[3:5], 16) / 255, int(text[5:7], 16) / 255))
        else:
            hue = (0.11 + number * 0.618034) % 1.0
            value = (0.9, 0.65, 0.8)[number % 3]
            wheel = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
            red, green, blue = (value * (0.25 + 0.75 * wheel)).tolist()
            colours.append((red, green, blue))
    return tuple(colours)


def overlay_mask(
    rgb: Rgb,
    mask: Mask,
    colours: Mapping[int, Colour],
    ignore_index: int | None = 255,
    alpha: float = 0.55,
) -> Rgb:
    """Tint `rgb` (H, W, 3) by class where `mask` (H, W) is neither `ignore_index` nor a class without a
    colour."""
    shown = rgb.copy()
    for number, colour in colours.items():
        if number != ignore_index:
            here = mask == number
            shown[here] = (1 - alpha) * rgb[here] + alpha * np.asarray(colour, dtype=np.float32)
    return shown
