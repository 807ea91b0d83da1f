"""The first convolution of pretrained weights, adapted from the bands it was trained on to any others.

Every way of making the new filters ends with the same step: each filter is scaled so that its answer to the new bands
has the variance that it had on the old ones, and what its mean has moved by is given back as a shift, for the running
mean of the batch norm that follows. Both are computed from the statistics of the input, in closed form: with
`G[c, d]` the sum over pairs of pixels of `w[c] w[d]` times their correlation, the variance is `sum(G * covariance)`.
Loading weights is done in `weights`, measuring which way is best in `stem_comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.errors import ConfigurationError
from geoaug.models.networks.bands import Bands, matching_bands, sensor_of
from geoaug.models.networks.statistics import IMAGENET_STATISTICS, BandStatistics
from geoaug.sensors import Sensor

__all__ = ["STEMS", "AdaptedStem", "Stem", "adapt_stem", "response_variance"]

Stem = Literal["copy", "spectral", "mean", "repeat", "random"]
STEMS: tuple[Stem, ...] = get_args(Stem)

# Beyond the wavelengths of the weights, the last filter fades to the mean of all with the distance, by this (nm).
FADE_NM = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedStem:
    """What `adapt_stem` makes.

    Attributes:
        weight: filters for the new bands, (k, n, h, w).
        shift: what the mean of each filter's answer is larger by than it was, (k); the running mean of a batch norm
            behind the convolution takes it up.
    """

    weight: Tensor
    shift: Tensor


def adapt_stem(
    weight: Float[Tensor, "k m h w"],
    bands: Bands,
    *,
    stem: Stem = "copy",
    weights_bands: Bands | None = None,
    statistics: BandStatistics | None = None,
    weights_statistics: BandStatistics | None = None,
    generator: torch.Generator | None = None,
) -> AdaptedStem:
    """Filters for other bands than those that they were trained on.

    - "copy": a band that the weights know (by name or wavelength) takes its filter, every other one starts at zero.
    - "spectral": as copy, and a band between two known ones takes filters interpolated over wavelength. Beyond the
      last known one its filter fades to the mean of all with `exp(-distance / 100 nm)`: near a colour a band is that
      colour, far from all a band is brightness. So is a band of unknown wavelength.
    - "mean": every band takes the mean filter.
    - "repeat": the filters again and again, in order (as timm does).
    - "random": new filters, drawn as torchvision draws them.

    Args:
        weight: of the convolution, m bands.
        bands: the n new ones.
        stem: how.
        weights_bands: the m old ones; red, green and blue where m is 3 and nothing is said.
        statistics: of the new input, after normalisation; None: taken to be as the old one, band by band, apart from
            each other.
        weights_statistics: of the input that the weights are used to; ImageNet's for three bands, else mean 0 and std
            1. Correlations (of bands, of neighbours) count where they are known on both sides.
        generator: for "random".

    Raises:
        ConfigurationError: counts that do not fit, or a stem that cannot do it.
    """
    if stem not in STEMS:
        raise ConfigurationError(f"stem={stem!r} is one of {', '.join(STEMS)}")
    target, source = sensor_of(bands), _source_of(weight, weights_bands, bands)
    if statistics is not None and len(statistics) != len(target):
        raise ConfigurationError(f"statistics of {len(statistics)} bands for a network of {len(target)}")
    if weights_statistics is None:
        imagenet = len(source) == 3 and source.name == "rgb"
        weights_statistics = IMAGENET_STATISTICS if imagenet else BandStatistics.unit(len(source))
    elif len(weights_statistics) != len(source):
        raise ConfigurationError(f"weights_statistics of {len(weights_statistics)} bands for weights of {len(source)}")
    old = weight.detach().double()
    if stem == "random":
        new = torch.empty(len(old), len(target), *old.shape[2:], dtype=torch.float64)
        torch.nn.init.kaiming_normal_(new, mode="fan_out", nonlinearity="relu", generator=generator)
    else:
        new = torch.einsum("nm,kmhw->knhw", _mixture(stem, source, target), old)
    if statistics is None:
        before, after = BandStatistics.unit(len(source)), BandStatistics.unit(len(target))
    else:
        before, after = weights_statistics, statistics
    correlated = before.covariance is not None and after.covariance is not None
    smooth = before.neighbour is not None and after.neighbour is not None
    wanted = response_variance(old, before, smooth=smooth, correlated=correlated)
    found = response_variance(new, after, smooth=smooth, correlated=correlated)
    # A filter that answers nothing to the new bands cannot be scaled to answer something.
    alive = found > 1e-12 * torch.maximum(found.max(), wanted)
    new = new * torch.where(alive, wanted / torch.where(alive, found, 1.0), 1.0).sqrt()[:, None, None, None]
    shift = _response_mean(new, after) - _response_mean(old, before)
    return AdaptedStem(new.to(weight.dtype), shift.to(weight.dtype))


def response_variance(
    weight: Float[Tensor, "k n h w"], statistics: BandStatistics, *, smooth: bool = True, correlated: bool = True
) -> Float[Tensor, " k"]:
    """Variance of each filter's answer to an input of these statistics, float64.

    Args:
        weight: of the convolution.
        statistics: of its input.
        smooth: whether the correlation of neighbouring pixels counts, where it is known.
        correlated: whether the covariance of the bands counts, where there is one.
    """
    kernel = weight.detach().double()
    covariance = statistics.matrix(correlated=correlated)
    near = statistics.neighbours if smooth else (0.0,) * len(statistics)
    variance = torch.zeros(len(kernel), dtype=torch.float64)
    for first, one in enumerate(near):
        for second, other in enumerate(near[: first + 1]):
            if covariance[first, second] != 0:
                down, along = (_decay(length, math.sqrt(one * other)) for length in kernel.shape[2:])
                spread = torch.einsum("khw,hi,wj->kij", kernel[:, first], down, along)
                gram = (spread * kernel[:, second]).sum((1, 2))
                variance += covariance[first, second] * gram * (1 if first == second else 2)
    return variance.clamp_min(0)


def _decay(length: int, neighbour: float) -> Float[Tensor, "n n"]:
    position = torch.arange(length, dtype=torch.float64)
    apart = (position[:, None] - position).abs()
    return torch.where(apart == 0, 1.0, torch.tensor(neighbour, dtype=torch.float64) ** apart)


def _response_mean(weight: Tensor, statistics: BandStatistics) -> Float[Tensor, " k"]:
    return weight.sum((2, 3)) @ torch.tensor(statistics.mean, dtype=torch.float64)


def _source_of(weight: Tensor, weights_bands: Bands | None, bands: Bands) -> Sensor:
    if weight.dim() != 4:
        raise ConfigurationError(f"the filters of a convolution are (k, m, h, w), not {tuple(weight.shape)}")
    count = weight.shape[1]
    if weights_bands is None:
        # Of weights of n bands for n bands nothing needs to be known; else they differ in number alone.
        same = count != 3 and isinstance(bands, Sensor) and len(bands) == count
        return bands if same and isinstance(bands, Sensor) else sensor_of(count)
    source = sensor_of(weights_bands)
    if len(source) != count:
        raise ConfigurationError(
            f"the weights have {count} bands, and weights_bands names {len(source)}: {' '.join(source.band_names)}"
        )
    return source


def _mixture(stem: Stem, source: Sensor, target: Sensor) -> Float[Tensor, "n m"]:
    """How much of each old filter a new one has."""
    rows, columns = len(target), len(source)
    if stem == "mean":
        return torch.full((rows, columns), 1 / columns, dtype=torch.float64)
    own = torch.eye(columns, dtype=torch.float64)
    if stem == "repeat":
        return own[torch.arange(rows) % columns]
    matched = matching_bands(source, target)
    if all(match is None for match in matched):
        raise ConfigurationError(
            f"stem='{stem}' finds none of the weights' bands ({' '.join(source.band_names)}) among "
            f"{' '.join(target.band_names)}; name the bands of the data or of the weights (weights_bands), or take "
            "stem='mean'"
        )
    if stem == "copy":
        nothing = torch.zeros(columns, dtype=torch.float64)
        return torch.stack([nothing if match is None else own[match] for match in matched])
    known = _known_wavelengths(source, target, matched)
    return torch.stack(
        [
            own[match] if match is not None else _between(band.wavelength_nm, known, columns)
            for match, band in zip(matched, target.bands, strict=True)
        ]
    )


def _known_wavelengths(source: Sensor, target: Sensor, matched: Sequence[int | None]) -> list[tuple[float, int]]:
    """Wavelength and number of the old filters, those of matched bands at the new bands' own, in order."""
    known = {number: band.wavelength_nm for number, band in enumerate(source.bands)}
    for match, band in zip(matched, target.bands, strict=True):
        if match is not None and band.wavelength_nm is not None:
            known[match] = band.wavelength_nm
    return sorted((wavelength, number) for number, wavelength in known.items() if wavelength is not None)


def _between(wavelength_nm: float | None, known: Sequence[tuple[float, int]], columns: int) -> Float[Tensor, " m"]:
    grey = torch.full((columns,), 1 / columns, dtype=torch.float64)
    if wavelength_nm is None or not known:
        return grey
    own = torch.eye(columns, dtype=torch.float64)
    below = [pair for pair in known if pair[0] <= wavelength_nm]
    above = [pair for pair in known if pair[0] > wavelength_nm]
    if below and above:
        (low, first), (high, second) = below[-1], above[0]
        return torch.lerp(own[first], own[second], (wavelength_nm - low) / (high - low))
    end, number = below[-1] if below else above[0]
    return torch.lerp(grey, own[number], math.exp(-abs(wavelength_nm - end) / FADE_NM))
