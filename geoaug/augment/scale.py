"""Digital numbers and reflectance: how stored values, reflectance, output units and terms fold into coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geoaug.augment.kernels.portable import Coefficients
from geoaug.augment.terms import Terms
from geoaug.sensors import Sensor


@dataclass(frozen=True, slots=True)
class PixelScale:
    """`reflectance = (value + offset) / quantification`, per band; one number stands for all bands."""

    quantification: tuple[float, ...]
    offset: tuple[float, ...]

    @staticmethod
    def reflectance() -> PixelScale:
        """Values that are reflectance already."""
        return PixelScale((1.0,), (0.0,))

    @staticmethod
    def of(sensor: Sensor | None) -> PixelScale:
        """The digital numbers of a sensor."""
        if sensor is None:
            return PixelScale.reflectance()
        return PixelScale(tuple(sensor.quantification), tuple(sensor.offset))


def stage_coefficients(
    terms: Terms,
    source: PixelScale,
    target: PixelScale,
    normalize: tuple[Sequence[float], Sequence[float]] | None,
    dates: int,
) -> Coefficients:
    """Coefficients on values in the scale of `source` that give values in the scale of `target`, normalised.

    All is folded in float64, so that the identity between equal scales is exactly the identity.

    Args:
        terms: in reflectance, (b, dates * bands).
        source: scale of the stage's input.
        target: scale of its output.
        normalize: (mean, std) per band in the target's units.
        dates: how often the bands repeat.
    """
    device = terms.gain.device

    def row(numbers: Sequence[float]) -> Tensor:
        values = torch.tensor(list(numbers), dtype=torch.float64)
        return (values if len(values) == 1 else values.repeat(dates)).to(device, non_blocking=True)

    q_in, off_in = row(source.quantification), row(source.offset)
    q_out, off_out = row(target.quantification), row(target.offset)
    ratio = q_out / q_in
    gain = terms.gain * ratio
    offset = terms.gain * off_in * ratio - off_out + terms.offset * q_out
    mean, std = (row(part) for part in normalize) if normalize is not None else (row((0.0,)), row((1.0,)))
    gain, offset = gain / std, (offset - mean) / std
    if not terms.noisy:
        return Coefficients(gain.float(), offset.float())
    floor, slope = terms.variance()
    power = (q_out / std).square()
    return Coefficients(
        gain.float(),
        offset.float(),
        (power * (floor + slope * off_in / q_in)).float(),
        (power * slope / q_in).float(),
    )
