"""Statistics of bands counted from pixels: exact for whole numbers of 8 and 16 bits, mergeable moments for all others.

Whole numbers are counted one by one, so that everything follows from integers, percentiles included. Others have their
moments merged in the order of the regions (Chan, Golub and LeVeque 1983, eq. 2.1), so that the threads' haste does not
show, and are counted by their first ten binary digits: a percentile is within 0.1 % of itself. What pixels are read is
decided in `geoaug.data.sampling.survey`; the value and its file are in `geoaug.statistics`.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geoaug.data.sampling.counting_loops import KEYS, count_integers, count_numbers, key_middles, sum_products
from geoaug.errors import RasterError
from geoaug.sensors import Sensor
from geoaug.statistics import ROUNDED, BandStatistics, Histogram, Statistics

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Of some pixels, per band.

    Attributes:
        count: pixels.
        mean: (bands,).
        about: (bands,) sum of squares about the mean.
        least, greatest: (bands,).
        products: (bands, bands) sums of products about the means, None where they are not wanted.
    """

    count: int
    mean: Numbers
    about: Numbers
    least: Numbers
    greatest: Numbers
    products: Numbers | None = None

    def merged(self, other: "Moments") -> "Moments":
        """Of these pixels and others together."""
        if not other.count:
            return self
        if not self.count:
            return other
        total = self.count + other.count
        delta = other.mean - self.mean
        weight = self.count * (other.count / total)
        products = None
        if self.products is not None and other.products is not None:
            products = self.products + other.products + np.outer(delta, delta) * weight
        return Moments(
            total,
            self.mean + delta * (other.count / total),
            self.about + other.about + delta * delta * weight,
            np.minimum(self.least, other.least),
            np.maximum(self.greatest, other.greatest),
            products,
        )


class StatisticsTally:
    """Counts the regions of a data set.

    `count` may be called from many threads at once; `add` takes what it gives, in an order that is always the same.

    Args:
        sensor: with the bands of the images, scaled as they are.
        dtype: numpy's name of the type of the images.
        covariance: whether covariances between bands are wanted.
    """

    def __init__(self, sensor: Sensor, dtype: str, *, covariance: bool = False) -> None:
        self.sensor, self.dtype, self.covariance = sensor, np.dtype(dtype), covariance
        bands = len(sensor)
        none = np.zeros(bands)
        empty = np.zeros((bands, bands)) if covariance else None
        self._moments = Moments(0, none, none, none + np.inf, none - np.inf, empty)
        self._parts: list[tuple[int, Numbers]] = []
        self._counted: list[npt.NDArray[np.int64]] = []
        self._idle: list[npt.NDArray[np.int64]] = []
        self._lock = threading.Lock()

    @property
    def exact(self) -> bool:
        """Whether every number is counted."""
        return self.dtype.kind in "iu" and self.dtype.itemsize <= 2

    def count(self, image: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> Moments:
        """Count the valid pixels (rows, columns) of an image (bands, rows, columns)."""
        if not len(image) or not valid.any():
            return Moments(0, *(self._moments.mean,) * 4)
        if image.dtype == np.float16:
            image = image.astype(np.float32)
        counts = self._borrow()
        try:
            found = [self._count_band(band, valid, counts[number]) for number, band in enumerate(image)]
        finally:
            with self._lock:
                self._idle.append(counts)
        pixels = int(found[0][0])
        mean, about, least, greatest = np.array([numbers[1:] for numbers in found]).T
        products = None
        if self.covariance:
            sums, products = np.zeros(len(image)), np.zeros((len(image), len(image)))
            sum_products(image, valid, mean, sums, products)
            products = np.tril(products) + np.tril(products, -1).T - np.outer(sums, sums) / pixels
        return Moments(pixels, mean, about, least, greatest, products)

    def add(self, moments: Moments) -> None:
        """Take the moments of a region that was counted."""
        self._moments = self._moments.merged(moments)
        if moments.count:
            self._parts.append((moments.count, moments.mean))

    def finish(self, percentiles: Sequence[float], *, scenes: int, share: float = 1.0, **known: Any) -> Statistics:
        """The statistics of all that was counted.

        Args:
            percentiles: that are wanted, 0 to 100.
            scenes: how many were read.
            share: of the regions that were counted.
            **known: further attributes of `Statistics`.

        Raises:
            RasterError: no pixel was valid.
        """
        if not self._moments.count:
            raise RasterError("no pixel is valid: there is nothing to measure (geoaug info shows nodata and masks)")
        total = sum(self._counted) if self._counted else np.zeros(self._counts_shape(), dtype=np.int64)
        errors = self._mean_errors(share)
        histograms = [self._histogram(number, np.asarray(total)[number]) for number in range(len(self.sensor))]
        bands = tuple(
            self._band(number, histogram, percentiles, float(errors[number]))
            for number, histogram in enumerate(histograms)
        )
        covariance = None
        if self._moments.products is not None:
            covariance = self._moments.products / max(self._moments.count, 1)
            np.fill_diagonal(covariance, [band.std**2 for band in bands])
        return Statistics(
            bands=bands,
            count=self._moments.count,
            scenes=scenes,
            sensor=self.sensor.name,
            quantity=str(self.sensor.quantity),
            dtype=str(self.dtype),
            share=share,
            percentile_error=0.0 if self.exact else ROUNDED,
            covariance=covariance,
            **known,
        )

    def _count_band(
        self, band: npt.NDArray[Any], valid: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64]
    ) -> tuple[float, float, float, float, float]:
        if not self.exact:
            pixels, mean, about, least, greatest = count_numbers(band, valid, counts)
            return pixels, mean, about, least, greatest
        pixels, total = count_integers(band, valid, self._first, counts)
        return pixels, total / pixels, 0.0, 0.0, 0.0  # the rest follows from the counts, in integers

    @property
    def _first(self) -> int:
        return int(np.iinfo(self.dtype).min)

    def _counts_shape(self) -> tuple[int, int]:
        return len(self.sensor), 2 ** (8 * self.dtype.itemsize) if self.exact else KEYS

    def _borrow(self) -> npt.NDArray[np.int64]:
        """Counts that no other thread adds to meanwhile."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            fresh = np.zeros(self._counts_shape(), dtype=np.int64)
            self._counted.append(fresh)
            return fresh

    def _histogram(self, band: int, counts: npt.NDArray[np.int64]) -> Histogram:
        found = np.flatnonzero(counts)
        if self.exact:
            return Histogram((found + self._first).astype(np.float64), counts[found], True)
        middles = np.clip(key_middles()[found], self._moments.least[band], self._moments.greatest[band])
        return Histogram(middles, counts[found], False)

    def _band(
        self, number: int, histogram: Histogram, percentiles: Sequence[float], mean_error: float
    ) -> BandStatistics:
        nan, band, moments = float("nan"), self.sensor.bands[number], self._moments
        if not moments.count:
            mean = std = least = greatest = nan
        elif self.exact:
            mean, std = _mean_and_std(histogram)
            least, greatest = float(histogram.values[0]), float(histogram.values[-1])
        else:
            mean, std = float(moments.mean[number]), math.sqrt(moments.about[number] / moments.count)
            least, greatest = float(moments.least[number]), float(moments.greatest[number])
        return BandStatistics(
            name=band.name,
            mean=mean,
            std=std,
            minimum=least,
            maximum=greatest,
            quantification=band.quantification,
            offset=band.offset,
            percentiles={float(q): histogram.percentile(q) for q in percentiles},
            histogram=histogram,
            mean_error=mean_error,
        )

    def _mean_errors(self, share: float) -> Numbers:
        """Standard errors of the means, where regions stand for others (Cochran 1977, eq. 6.13: ratio estimates)."""
        number = len(self._parts)
        if share >= 1 or not number:
            return np.zeros(len(self.sensor))
        if number == 1:
            return np.full(len(self.sensor), np.nan)
        counts = np.array([count for count, _ in self._parts], dtype=np.float64)
        means = np.stack([mean for _, mean in self._parts])
        residuals = counts[:, None] * (means - self._moments.mean)
        spread = (residuals**2).sum(axis=0) * number / (number - 1)
        return np.asarray(np.sqrt((1 - share) * spread) / counts.sum())


def _mean_and_std(histogram: Histogram) -> tuple[float, float]:
    """In whole numbers until the last division."""
    values, counts = [int(value) for value in histogram.values], histogram.counts.tolist()
    total = sum(counts)
    first = sum(value * count for value, count in zip(values, counts, strict=True))
    second = sum(value * value * count for value, count in zip(values, counts, strict=True))
    return first / total, math.sqrt(total * second - first * first) / total
