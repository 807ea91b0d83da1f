"""How pictures are made for the eye: white balance, tone, sharpening, and the JPEG file that they are kept in.

Tone, sharpening and JPEG act on display values, so their kernels go along the sensor's curve and back; the white
balance of a camera acts on light. Images that hold reflectance go through none of it, and are refused.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geoaug.augment.kernels.stencils import Taps
from geoaug.augment.operations.base import (
    RadiometricOperation,
    RadiometricOptions,
    StencilOperation,
    TileShape,
    as_range,
)
from geoaug.augment.physics.air import wavelengths_nm
from geoaug.augment.physics.display import display_of, light_of
from geoaug.augment.physics.jpeg import UNIT, compressed
from geoaug.augment.physics.planck import relative_radiance
from geoaug.augment.planning.plan import Params
from geoaug.augment.planning.segments import StencilKernel
from geoaug.augment.planning.terms import Terms
from geoaug.rng.draws import Draws
from geoaug.sensors import rgb_bands
from geoaug.small_arrays import constant

_HIGHEST = 255.0
# Sun and sky together (CIE illuminant D55).
_DAYLIGHT_MIRED = 1e6 / 5500
# Neighbours beyond three deviations of a Gaussian weigh nothing.
_LARGEST_RADIUS = 3.0


class RandomWhiteBalance(RadiometricOperation):
    """A white balance for other light than there was: warmer or cooler colours, greener or more purple ones.

    A camera divides its bands by what a white card has under the light it takes for granted. Where that is a black body
    of another temperature, the bands are off by the quotient of two curves of Planck: red and blue in opposite
    directions, the near infrared further than red. The mean over the bands stays: brightness is that of
    `RandomIllumination`.

    Args:
        mired: range of the error, in a million over kelvin: of daylight of 5500 K, 20 makes 4950 K or 6180 K.
            Photographers tell 10 apart; automatic balance is off by more.
        tint: range of the gain of green over that of the others, less 1: the direction that no temperature has.
        **options: see `RadiometricOptions`.
    """

    needs_sensor = True
    for_pictures = True
    neutral: ClassVar = {"mired": 0.0, "tint": 0.0}

    def __init__(
        self,
        mired: float | Sequence[float] = (-20.0, 20.0),
        tint: float | Sequence[float] = (-0.03, 0.03),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.mired = as_range(mired, "mired", low=-100, high=200)
        self.tint = as_range(tint, "tint", low=-0.5, high=0.5)
        self.flags = {"mired": self.mired, "tint": self.tint}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {"mired": draws.uniform(*self.mired), "tint": draws.uniform(*self.tint)}

    def terms(self, params: Params, shape: TileShape) -> Terms:
        sensor = shape.sensor
        assert sensor is not None  # check_sensor has refused its absence
        mired, tint = params["mired"].double(), params["tint"].double()
        gain = relative_radiance(wavelengths_nm(sensor, mired.device), _DAYLIGHT_MIRED + mired, _DAYLIGHT_MIRED)
        colours = rgb_bands(sensor)
        if colours is not None:
            green = tuple(float(number == colours[1]) for number in range(len(sensor)))
            gain = gain * (1 + tint[:, None] * constant(green, torch.float64, mired.device))
        gain = gain / gain.log().mean(1, keepdim=True).exp()
        black = constant(tuple(band.black for band in sensor.bands), torch.float64, mired.device)
        return Terms(gain, (1 - gain) * black)


@dataclass(frozen=True, slots=True)
class PictureKernel(StencilKernel):
    """A kernel on display values of 0 to 1, whatever the sensor: `display = curve(x * gain + offset) * scale + shift`.

    Attributes:
        gain, offset: from reflectance to light, or to what is stored, where there is no curve.
        scale, shift: from there to a share of 255.
        curved: whether the curve of sRGB lies between.
    """

    gain: Float[Tensor, "r c"]
    offset: Float[Tensor, "r c"]
    scale: Float[Tensor, "r c"]
    shift: Float[Tensor, "r c"]
    curved: bool

    def apply(self, values: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"]) -> Float[Tensor, "r c h w"]:
        gain, offset, scale, shift = (
            part.float()[..., None, None] for part in (self.gain, self.offset, self.scale, self.shift)
        )
        light = torch.where(valid, values, 0.0) * gain + offset
        shown = (display_of(light) if self.curved else light) * scale + shift
        changed = (self.changed(shown, valid) - shift) / scale
        return ((light_of(changed) if self.curved else changed) - offset) / gain

    @abstractmethod
    def changed(self, shown: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"]) -> Float[Tensor, "r c h w"]:
        """The changed display values; anything where invalid."""


def _as_shown(shape: TileShape) -> dict[str, Any]:
    """What a kernel is told of how the sensor shows reflectance; values without a sensor are display values."""
    sensor, shared = shape.sensor, (shape.batch, shape.bands)
    bands = () if sensor is None else sensor.bands
    curved = sensor is not None and sensor.transfer is not None
    if curved:
        columns = [
            (1 / (band.white - band.black), band.black / (band.black - band.white), band.quantification, -band.offset)
            for band in bands
        ]
    else:
        columns = [(band.quantification, -band.offset, 1.0, 0.0) for band in bands]
    columns = columns or [(_HIGHEST, 0.0, 1.0, 0.0)]
    numbers = [(gain, offset, scale / _HIGHEST, shift / _HIGHEST) for gain, offset, scale, shift in columns]
    gain, offset, scale, shift = (
        constant(column, torch.float64, shape.device).expand(shared) for column in zip(*numbers, strict=True)
    )
    return {"gain": gain, "offset": offset, "scale": scale, "shift": shift, "curved": curved}


@dataclass(frozen=True, slots=True)
class ToneCurve(PictureKernel):
    """`v = u^gamma`, then `v - contrast sin(2 pi v) / (2 pi)`, which leaves black, middle grey and white where they
    are; what lies beyond black and white stays as far beyond."""

    gamma: Float[Tensor, " r"]
    contrast: Float[Tensor, " r"]

    def changed(self, shown: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"]) -> Float[Tensor, "r c h w"]:
        gamma, contrast = (part.float()[:, None, None, None] for part in (self.gamma, self.contrast))
        inside = shown.clamp(0, 1)
        bent = inside**gamma
        bent = bent - contrast / (2 * torch.pi) * torch.sin(2 * torch.pi * bent)
        return bent + (shown - inside)


class RandomTone(StencilOperation):
    """Another tone curve: midtones lighter or darker, contrast stronger or weaker; black and white stay.

    Whoever delivers aerial pictures balances and stretches them for the eye, each in a way of their own. All bands go
    through one curve, so grey stays grey.

    Args:
        gamma: range of the exponent of display values; below 1 lightens. Its logarithm is uniform.
        contrast: range of the slope at middle grey, less 1; 0.3 is a strong S-curve, below 0 flattens.
        **options: see `RadiometricOptions`.
    """

    for_pictures = True
    neutral: ClassVar = {"gamma": 1.0, "contrast": 0.0}

    def __init__(
        self,
        gamma: float | Sequence[float] = (0.85, 1.18),
        contrast: float | Sequence[float] = (-0.15, 0.3),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.gamma = as_range(gamma, "gamma", low=0.2, high=5)
        # Beyond 1 the curve would fall at its ends.
        self.contrast = as_range(contrast, "contrast", low=-0.9, high=0.9)
        self.flags = {"gamma": self.gamma, "contrast": self.contrast}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {"gamma": draws.log_uniform(*self.gamma), "contrast": draws.uniform(*self.contrast)}

    def weakened(self, params: Params, strength: Float[Tensor, " b"]) -> Params:
        stronger = super().weakened(params, strength)
        return {
            "gamma": stronger["gamma"].clamp(0.2, 5.0),
            "contrast": stronger["contrast"].clamp(-0.9, 0.9),
            **{name: value for name, value in params.items() if name not in self.neutral},
        }

    def kernel(self, params: Params, shape: TileShape) -> ToneCurve:
        return ToneCurve(**_as_shown(shape), gamma=params["gamma"].double(), contrast=params["contrast"].double())


@dataclass(frozen=True, slots=True)
class UnsharpMask(PictureKernel):
    """`u + amount (u - blurred u)`, kept within black and white; `weights` are those of the blur, as in `Taps`."""

    weights: Float[Tensor, "r 1 n"]
    amount: Float[Tensor, " r"]

    def changed(self, shown: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"]) -> Float[Tensor, "r c h w"]:
        detail = shown - Taps(self.weights.float()).apply(shown, valid)
        sharper = shown + self.amount.float()[:, None, None, None] * detail
        return torch.maximum(torch.minimum(sharper, shown.clamp_min(1.0)), shown.clamp_max(0.0))


class RandomSharpening(StencilOperation):
    """The sharpening of pictures: an unsharp mask, which adds what a blur takes away, with halos beside edges.

    Args:
        amount: range of the share of the detail that is added.
        radius: range of the standard deviation of the blur, pixels of the tile.
        **options: see `RadiometricOptions`.
    """

    for_pictures = True
    neutral: ClassVar = {"amount": 0.0}

    def __init__(
        self,
        amount: float | Sequence[float] = (0.0, 0.8),
        radius: float | Sequence[float] = (0.5, 1.2),
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.amount = as_range(amount, "amount", low=0, high=10)
        self.radius = as_range(radius, "radius", low=0.2, high=_LARGEST_RADIUS)
        self.flags = {"amount": self.amount, "radius": self.radius}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        return {"amount": draws.uniform(*self.amount), "radius": draws.uniform(*self.radius)}

    def kernel(self, params: Params, shape: TileShape) -> UnsharpMask:
        radius = params["radius"].double()[:, None]
        distance = torch.arange(int(3 * self.radius[1]) + 2, dtype=torch.float64, device=radius.device)
        weights = torch.exp(-((distance / radius) ** 2) / 2)
        weights = weights / (weights[:, :1] + 2 * weights[:, 1:].sum(1, keepdim=True))
        return UnsharpMask(**_as_shown(shape), weights=weights[:, None], amount=params["amount"].double())


@dataclass(frozen=True, slots=True)
class JPEGFile(PictureKernel):
    """A file of JPEG, written and read; invalid pixels have the mean of the valid ones in it.

    Attributes:
        quality: 1 to 100.
        phase: where blocks begin above and left of the tile.
        colours: which bands are red, green and blue; the others are pictures in grey.
    """

    quality: Float[Tensor, " r"]
    phase: Int[Tensor, "r 2"]
    colours: tuple[int, int, int] | None

    def changed(self, shown: Float[Tensor, "r c h w"], valid: Bool[Tensor, "r 1 h w"]) -> Float[Tensor, "r c h w"]:
        known = valid.double()
        total = torch.where(valid, shown.double(), 0.0).sum((-2, -1), keepdim=True)
        mean = (total / known.sum((-2, -1), keepdim=True).clamp_min(1)).float()
        whole = torch.where(valid, shown, mean) * _HIGHEST
        # Gradients pass as if nothing had been rounded.
        lost = compressed(whole.detach(), self.quality.float(), self.phase, self.colours) - whole.detach()
        return (whole + lost) / _HIGHEST


class RandomJPEG(StencilOperation):
    """The losses of a JPEG file: blocks of 8 x 8 whose detail is rounded, and colour at half the resolution.

    Baseline JPEG of the quality that libjpeg counts, with chroma 4:2:0 (`physics.jpeg`); a tile begins anywhere in the
    blocks of the picture that it is cut from. Output is whole numbers of 255 steps. Put it last, as the file comes
    last. Bands beyond red, green and blue are compressed alone, as pictures in grey.

    Args:
        quality: range of the quality, 1 to 100: 95 is hardly seen, at 75 blocks show in flat areas, 50 is poor.
        whole: whether each tile is a file of its own, whose first block begins at its corner, as chips are.
        **options: see `RadiometricOptions`.
    """

    for_pictures = True
    neutral: ClassVar = {"quality": 100.0}

    def __init__(
        self,
        quality: float | Sequence[float] = (70.0, 95.0),
        whole: bool = False,
        **options: Unpack[RadiometricOptions],
    ) -> None:
        super().__init__(**options)
        self.quality = as_range(quality, "quality", low=1, high=100)
        self.whole = whole
        self.flags = {"quality": self.quality, "whole": whole}

    def draw(self, draws: Draws, shape: TileShape) -> Params:
        phase = (draws.uniforms(2) * UNIT).floor().clamp_max(UNIT - 1)
        return {"quality": draws.uniform(*self.quality), "phase": 0 * phase if self.whole else phase}

    def kernel(self, params: Params, shape: TileShape) -> JPEGFile:
        colours = (0, 1, 2) if shape.sensor is None and shape.bands == 3 else None
        if shape.sensor is not None:
            colours = rgb_bands(shape.sensor)
        phase = params["phase"].long()
        return JPEGFile(**_as_shown(shape), quality=params["quality"].double(), phase=phase, colours=colours)
