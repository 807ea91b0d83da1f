"""What is known of the numbers that a network is given: mean, deviation, correlation of bands and of neighbours.

They describe the network's *input*, after normalisation, because that is what its first layer meets. Statistics of
stored pixels are brought there by `BandStatistics.normalized`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from geoaug.errors import ConfigurationError

__all__ = ["IMAGENET_MEAN", "IMAGENET_STATISTICS", "IMAGENET_STD", "BandStatistics", "measure_statistics"]

# What torchvision's weights are trained to be given: (RGB in 0..1 - mean) / std.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Principal components of ImageNet's RGB in 0..1: variances, and directions in columns (fb.resnet.torch, datasets/
# imagenet.lua, for the colour augmentation of Krizhevsky et al., 2012, section 4.1). They say that a normalised pixel
# has a deviation of 1.2, not 1: the usual std above is smaller than that of all pixels together.
_COLOUR_VARIANCES = (0.2175, 0.0188, 0.0045)
_COLOUR_DIRECTIONS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)

# With it, the variances of a trained ResNet's first layer come out as its running variances say (within a tenth in
# the median filter; .8 is off by a factor of 2.5, .99 by .6).
_NEIGHBOUR = 0.97


@dataclass(frozen=True, slots=True, eq=False)
class BandStatistics:
    """Statistics of each band, and optionally of bands and pixels together.

    Args:
        mean: per band.
        std: per band, above 0.
        covariance: of the bands, n x n, its diagonal std^2; None where only the bands alone are known.
        neighbour: correlation of neighbouring pixels of each band, or one for all, in [0, 1); that of pixels (dx, dy)
            apart is taken as `neighbour ** (|dx| + |dy|)`, and between two bands with their geometric mean. None where
            unknown.

    Raises:
        ConfigurationError: lengths that differ, a deviation that is not positive, a covariance that is none.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...] | None = None
    neighbour: tuple[float, ...] | float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if len(self.mean) != len(self.std) or not self.mean:
            raise ConfigurationError(
                f"band statistics have {len(self.mean)} means and {len(self.std)} deviations; give one of each a band"
            )
        if not all(0 < value < float("inf") for value in self.std):
            raise ConfigurationError(f"every std of band statistics is above 0, not {self.std}")
        if self.neighbour is not None:
            near = self.neighbour
            each = (near,) * len(self.mean) if isinstance(near, int | float) else tuple(near)
            object.__setattr__(self, "neighbour", tuple(float(value) for value in each))
            if len(each) != len(self.mean) or not all(0 <= value < 1 for value in each):
                raise ConfigurationError(
                    f"the correlation of neighbours is one number within [0, 1), or one a band, not {each}"
                )
        if self.covariance is not None:
            rows = tuple(tuple(float(value) for value in row) for row in self.covariance)
            object.__setattr__(self, "covariance", rows)
            self._check_covariance()

    def _check_covariance(self) -> None:
        count = len(self.mean)
        assert self.covariance is not None
        if len(self.covariance) != count or any(len(row) != count for row in self.covariance):
            raise ConfigurationError(f"the covariance of {count} bands is {count} x {count}")
        matrix = torch.tensor(self.covariance, dtype=torch.float64)
        own = torch.tensor(self.std, dtype=torch.float64).square()
        if not torch.allclose(matrix, matrix.T, rtol=1e-4, atol=1e-6 * float(own.max())):
            raise ConfigurationError("a covariance is symmetric, and this one is not")
        if not torch.allclose(matrix.diagonal(), own, rtol=1e-2):
            raise ConfigurationError(
                f"the diagonal of the covariance, {matrix.diagonal().tolist()}, is not std^2, {own.tolist()}"
            )
        if float(torch.linalg.eigvalsh(matrix)[0]) < -1e-4 * float(own.max()):
            raise ConfigurationError("a covariance has no negative direction, and this one does: not a covariance")

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def neighbours(self) -> tuple[float, ...]:
        """`neighbour` of each band; zeros where unknown."""
        return self.neighbour if isinstance(self.neighbour, tuple) else (0.0,) * len(self.mean)

    def matrix(self, *, correlated: bool) -> Float[Tensor, "n n"]:
        """The covariance, or its diagonal alone; float64."""
        if correlated and self.covariance is not None:
            return torch.tensor(self.covariance, dtype=torch.float64)
        return torch.diag(torch.tensor(self.std, dtype=torch.float64).square())

    def normalized(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> BandStatistics:
        """The statistics of `(band - mean) / std`; of 0 and 1 where these are the bands' own, as they are by default.

        Args:
            mean: that the pipeline takes off each band.
            std: that it divides each band by.
        """
        off, by = self.mean if mean is None else tuple(mean), self.std if std is None else tuple(std)
        if len(off) != len(self) or len(by) != len(self) or not all(value > 0 for value in by):
            raise ConfigurationError(f"a normalisation of {len(self)} bands is a mean and a std above 0 for each")
        covariance = None
        if self.covariance is not None:
            rows = zip(self.covariance, by, strict=True)
            covariance = tuple(tuple(c / (a * b) for c, b in zip(row, by, strict=True)) for row, a in rows)
        return BandStatistics(
            tuple((own - value) / scale for own, value, scale in zip(self.mean, off, by, strict=True)),
            tuple(own / scale for own, scale in zip(self.std, by, strict=True)),
            covariance,
            self.neighbour,
        )

    def select(self, positions: Sequence[int]) -> BandStatistics:
        """The statistics of some of the bands, by their 0-based positions."""
        covariance = self.covariance
        return BandStatistics(
            tuple(self.mean[i] for i in positions),
            tuple(self.std[i] for i in positions),
            None if covariance is None else tuple(tuple(covariance[i][j] for j in positions) for i in positions),
            None if self.neighbour is None else tuple(self.neighbours[i] for i in positions),
        )

    @staticmethod
    def unit(count: int) -> BandStatistics:
        """Mean 0 and std 1 in each of `count` bands."""
        return BandStatistics((0.0,) * count, (1.0,) * count)


def _imagenet() -> BandStatistics:
    directions = torch.tensor(_COLOUR_DIRECTIONS, dtype=torch.float64)
    covariance = directions @ torch.diag(torch.tensor(_COLOUR_VARIANCES, dtype=torch.float64)) @ directions.T
    rows = tuple(tuple(row) for row in covariance.tolist())
    pixels = BandStatistics(IMAGENET_MEAN, tuple(covariance.diagonal().sqrt().tolist()), rows, _NEIGHBOUR)
    return pixels.normalized(IMAGENET_MEAN, IMAGENET_STD)


with torch.device("cpu"):  # whoever imports this first may be building a network on no device
    IMAGENET_STATISTICS = _imagenet()


def measure_statistics(batches: Iterable[Mapping[str, Any] | Tensor], most: int | None = None) -> BandStatistics:
    """Statistics of the images as they come, of valid pixels, over all batches.

    Give it what the network would be given: batches after `Compose` in `eval()` mode, say. Those of stored pixels, for
    normalisation, are `geoaug.data.catalog_statistics`.

    Args:
        batches: batch dicts with `image` (B C H W) and optionally `valid` (B 1 H W), or images alone.
        most: batches to look at; None for all.

    Raises:
        ConfigurationError: no valid pixel, or a band of one value.
    """
    total: Tensor | None = None
    count, products, pivot = 0.0, torch.zeros(()), torch.zeros(())
    pairs, paired = torch.zeros(()), 0.0
    for position, batch in enumerate(batches):
        if most is not None and position >= most:
            break
        image, valid = _image_and_valid(batch)
        if total is None:
            # About a value near the mean, so that squares do not lose the digits that count.
            seen = valid.expand_as(image).double()
            pivot = (image * seen).sum((0, 2, 3)) / seen.sum((0, 2, 3)).clamp_min(1)
            total, products = torch.zeros_like(pivot), torch.zeros(len(pivot), len(pivot), dtype=torch.float64)
        if image.shape[1] != len(pivot):
            raise ConfigurationError(f"a batch of {image.shape[1]} bands after batches of {len(pivot)}")
        apart = torch.where(valid, image - pivot[:, None, None], 0.0)
        flat = apart.movedim(1, 0).flatten(1)
        total, products, count = total + flat.sum(1), products + flat @ flat.T, count + float(valid.sum())
        for axis in (-1, -2):
            product, number = _pairs(apart, valid, axis)
            pairs, paired = pairs + product, paired + number
    if total is None or count < 2:
        raise ConfigurationError("no valid pixel to take statistics of")
    covariance = products / count - torch.outer(total / count, total / count)
    variance = covariance.diagonal().clamp_min(0)
    if not bool((variance > 0).all()):
        constant = [number + 1 for number, value in enumerate(variance.tolist()) if value <= 0]
        raise ConfigurationError(f"bands of one value only have no deviation: number {', '.join(map(str, constant))}")
    neighbour = None
    if paired > 0:
        found = (pairs / paired - (total / count).square()) / variance
        neighbour = tuple(found.clamp(0.0, 0.999).tolist())
    rows = tuple(tuple(row) for row in covariance.tolist())
    return BandStatistics(tuple((pivot + total / count).tolist()), tuple(variance.sqrt().tolist()), rows, neighbour)


def _image_and_valid(batch: Mapping[str, Any] | Tensor) -> tuple[Tensor, Tensor]:
    image = batch if isinstance(batch, Tensor) else batch.get("image")
    if not isinstance(image, Tensor) or image.dim() not in (4, 5):
        raise ConfigurationError("statistics are taken of batches with an 'image' (B C H W)")
    valid = None if isinstance(batch, Tensor) else batch.get("valid")
    if image.dim() == 5:
        if valid is not None:
            valid = valid.repeat_interleave(image.shape[1], 0)
        image = image.flatten(0, 1)
    image = image.detach().cpu().double()
    finite = image.isfinite().all(1, keepdim=True)
    known = finite if valid is None else finite & valid.cpu()
    return torch.where(known, image, 0.0), known


def _pairs(apart: Tensor, valid: Tensor, axis: int) -> tuple[Tensor, float]:
    """Sum of products of neighbours along an axis in each band, and how many pairs of pixels there were."""
    length = apart.shape[axis]
    if length < 2:
        return torch.zeros(apart.shape[1], dtype=torch.float64), 0.0
    first, second = apart.narrow(axis, 0, length - 1), apart.narrow(axis, 1, length - 1)
    both = valid.narrow(axis, 0, length - 1) & valid.narrow(axis, 1, length - 1)
    # What is invalid is not zero about the pivot: it does not count.
    return (first * second * both).sum((0, 2, 3)), float(both.sum())
