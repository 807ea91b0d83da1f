"""Digital numbers, reflectance, power and normalisation, folded into the segments of a plan.

Scales are factors and offsets a band, so they fold into the first and the last segment and cost nothing per pixel. What
`Compose` normalises by is found here, too: numbers as they are given, or those of a file of `geoaug stats`, by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from geoaug.augment.planning.segments import Affine, Curve, Segment
from geoaug.augment.planning.terms import Terms
from geoaug.augment.planning.tree import map_tensors
from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor
from geoaug.small_arrays import Numbers, constant, kept, several_by_numpy
from geoaug.statistics import Statistics, Units

Quantity = Literal["reflectance", "amplitude", "power", "db"]
Normalize = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, slots=True)
class PixelScale:
    """`quantity = (value + offset) / quantification`, per band; one number stands for all bands.

    Attributes:
        quantity: what the scaled value is. Amplitudes and decibels are turned into power, which radiometry works in.
        light: where the scaled value is a display value, what is left to do after the curve: reflectance is
            `(light + offset) / quantification` with these. None: it is no display value.
    """

    quantification: tuple[float, ...]
    offset: tuple[float, ...]
    quantity: Quantity = "reflectance"
    light: PixelScale | None = None

    @staticmethod
    def reflectance() -> PixelScale:
        """Values that are reflectance (or power) already."""
        return PixelScale((1.0,), (0.0,))

    @staticmethod
    def of(sensor: Sensor | None) -> PixelScale:
        """The digital numbers of a sensor."""
        if sensor is None:
            return PixelScale.reflectance()
        light = None
        if sensor.transfer is not None:
            spans = tuple(band.white - band.black for band in sensor.bands)
            lifts = tuple(band.black / span for band, span in zip(sensor.bands, spans, strict=True))
            light = PixelScale(tuple(1 / span for span in spans), lifts)
        return PixelScale(sensor.quantification, sensor.offset, sensor.quantity or "reflectance", light)

    @property
    def unscaled(self) -> PixelScale:
        """Values that want neither factor nor offset: display values where these are, else reflectance or power."""
        return PixelScale((1.0,), (0.0,), light=self.light)

    @property
    def curved(self) -> bool:
        """Whether more than a factor and an offset lies between the stored values and power."""
        return self.quantity in ("amplitude", "db")


def scaled_segments(
    segments: tuple[Segment, ...],
    source: PixelScale,
    target: PixelScale,
    normalize: Normalize | None,
    rows: int,
    bands: int,
    device: torch.device,
) -> tuple[Segment, ...]:
    """The segments on values in the scale of `source` that give values in the scale of `target`, normalised.

    Factors are folded in float64, so that the identity between equal scales is exactly the identity; what comes back
    is float32. A radar's curved source is decoded by whoever reads the pixels, and counts as power here. Display values
    are resampled as they are, and become light here: overshoot beside an edge stays as small as it looks, and where
    there is no radiometry, what is stored goes through no curve.

    Args:
        segments: in reflectance or power.
        source: scale of the stage's input.
        target: scale of its output.
        normalize: (mean, std) per band in the target's units.
        rows: samples, times the dates of each.
        bands: of one date.
        device: of the segments.
    """
    neutral = PixelScale.reflectance()
    source = neutral if source.curved else source
    if source.light is not None and target.light is not None and segments:
        inward = scaled_segments((), replace(source, light=None), neutral, None, rows, bands, device)
        inner = scaled_segments(segments, source.light, target.light, None, rows, bands, device)
        outward = scaled_segments((), neutral, replace(target, light=None), normalize, rows, bands, device)
        return (*inward, Curve("light"), *inner, Curve("display"), *outward)

    def identity() -> Affine:
        return Affine(Terms.identity(rows, bands, device))

    parts = _seen_as_stored(segments, source) or [identity()]
    if target.quantity in ("amplitude", "db"):
        parts += [Curve(target.quantity), identity()]
    if not isinstance(parts[0], Affine) and source != neutral:
        parts.insert(0, identity())
    if not isinstance(parts[-1], Affine) and (target != neutral or normalize is not None):
        parts.append(identity())
    last = len(parts) - 1
    scaled = tuple(
        _rescaled(
            part,
            source if position == 0 else neutral,
            target if position == last else neutral,
            normalize if position == last else None,
        )
        if isinstance(part, Affine) and position in (0, last)
        else part
        for position, part in enumerate(parts)
    )
    return map_tensors(scaled, lambda tensor: tensor.float() if tensor.dtype == torch.float64 else tensor)


def _seen_as_stored(segments: tuple[Segment, ...], source: PixelScale) -> list[Segment]:
    """The segments, with maps that are made of the tile's pixels told what comes between stored values and theirs."""
    if not any(_looks_at_pixels(part) for part in segments):
        return list(segments)
    parts: list[Segment] = []
    so_far: Terms | None = None
    for part in segments:
        if isinstance(part, Affine):
            terms = Terms(part.terms.gain, part.terms.offset)
            if so_far is None:
                q, offset = (
                    constant(tuple(n), torch.float64, terms.gain.device) for n in (source.quantification, source.offset)
                )
                so_far = Terms(torch.ones_like(terms.gain) / q, torch.zeros_like(terms.gain) + offset / q)
            modulation = part.modulation
            if modulation is not None and _looks_at_pixels(part):
                part = Affine(part.terms, replace(modulation, maps=modulation.maps.preceded_by(so_far)))
                if modulation.offset is not None and modulation.gain is None:
                    # Of what they are made of, the pixels are a part on average.
                    terms = Terms(terms.gain + modulation.offset[..., 0], terms.offset)
            so_far = so_far.then(terms)
        parts.append(part)
    return parts


def _looks_at_pixels(part: Segment) -> bool:
    return isinstance(part, Affine) and part.modulation is not None and part.modulation.maps.looks_at_pixels


def _rescaled(segment: Affine, source: PixelScale, target: PixelScale, normalize: Normalize | None) -> Affine:
    terms = segment.terms
    by = None if normalize is None else (tuple(normalize[0]), tuple(normalize[1]))
    between = _between(source, target, by, terms.gain.device)
    _, off_in, q_out, _, _, std, ratio, _ = between
    gain, offset = _rescaled_mean(terms.gain, terms.offset, between)
    floor, slope = terms.variance() if terms.noisy else (None, None)
    if floor is not None and slope is not None:
        floor, slope = _rescaled_variance(floor, slope, between)
    modulation = segment.modulation
    if modulation is not None:
        by_map_gain, by_map_offset = modulation.gain, modulation.offset
        factor, raised, lifted = (value[:, None] for value in (ratio / std, off_in * ratio / std, q_out / std))
        moved = None if by_map_offset is None else by_map_offset * lifted
        if by_map_gain is not None:
            moved = by_map_gain * raised + (0.0 if moved is None else moved)
        modulation = replace(modulation, gain=None if by_map_gain is None else by_map_gain * factor, offset=moved)
    return Affine(Terms(gain, offset, floor, slope), modulation)


@several_by_numpy
def _rescaled_mean(xp: Any, gain: Any, offset: Any, between: tuple[Any, ...]) -> tuple[Numbers, ...]:
    _, off_in, q_out, off_out, mean, std, ratio, _ = between
    return gain * ratio / std, (gain * off_in * ratio - off_out + offset * q_out - mean) / std


@several_by_numpy
def _rescaled_variance(xp: Any, floor: Any, slope: Any, between: tuple[Any, ...]) -> tuple[Numbers, ...]:
    q_in, off_in, *_, power = between
    return power * (floor + slope * off_in / q_in), power * slope / q_in


@kept
def _between(
    source: PixelScale, target: PixelScale, normalize: Normalize | None, device: torch.device
) -> tuple[Tensor, ...]:
    """What two scales and the normalisation are made of, the ratio of the scales, and what variances are scaled by."""

    def row(numbers: Sequence[float]) -> Tensor:
        return constant(tuple(numbers), torch.float64, device)

    q_in, off_in = row(source.quantification), row(source.offset)
    q_out, off_out = row(target.quantification), row(target.offset)
    mean, std = (row(part) for part in normalize) if normalize is not None else (row((0.0,)), row((1.0,)))
    return q_in, off_in, q_out, off_out, mean, std, q_out / q_in, (q_out / std).square()


NormalizeBy = tuple[Sequence[float], Sequence[float]] | Statistics | str | Path


def normalization(source: NormalizeBy | None, sensor: Sensor | None, units: Units) -> Normalize | None:
    """(mean, std) of each band in the units of the output.

    Args:
        source: those themselves, or statistics, or the file that holds them.
        sensor: whose bands are looked for by name in statistics.
        units: of the output.

    Raises:
        ConfigurationError: no such file; a band is missing in it, or scaled otherwise; or a std is not above 0.
    """
    if source is None:
        return None
    if isinstance(source, Statistics | str | Path):
        name = "" if isinstance(source, Statistics) else f" {source}"
        if sensor is None:
            raise ConfigurationError(
                f"statistics{name} are matched with bands by name: give the sensor, such as that of the dataset "
                "(dataset.sensor)"
            )
        try:
            return Statistics.open(source).normalization(sensor, units)
        except ConfigurationError as error:
            raise ConfigurationError(f"normalize{name}: {error}") from error
    if len(source) != 2 or not all(deviation > 0 for deviation in source[1]):
        raise ConfigurationError("normalize is (mean, std) per band, every std above 0, or a file of geoaug stats")
    return source
