"""Statistics of bands as a value: what was measured of which bands in which scale, its file, and what it normalises.

Pixels are measured in `geoaug.data.sampling.stats`; nothing here reads a raster, so that training and augmentation need
no more than this.
"""

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import yaml

from geoaug.errors import ConfigurationError
from geoaug.sensors import Band, Sensor, doubt_of_backscatter

Units = Literal["reflectance", "dn", "db"]

PERCENTILES: Final = (1.0, 2.0, 5.0, 25.0, 50.0, 75.0, 95.0, 98.0, 99.0)
# Numbers that are counted by their first ten binary digits lie within this share of the middle of their bin.
ROUNDED: Final = 2.0**-10

_VERSION: Final = 1
_HEAD: Final = (
    "# Statistics of geoaug, of valid pixels, as stored (DN): reflectance = (DN + offset) / quantification.\n"
    "# For Compose(normalize=...) and recipes; std is that of the population.\n"
)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often each value occurs.

    Attributes:
        values: (n,) float64, those that occur, rising; where `exact` is false, middles of bins of equal relative width.
        counts: (n,) int64, at least 1.
        exact: whether these are the values themselves.
    """

    values: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    exact: bool

    def percentile(self, q: float) -> float:
        """The q-th percentile, linear between neighbours as numpy's; NaN where nothing was counted."""
        total = int(self.counts.sum())
        if not total:
            return float("nan")
        position = (total - 1) * (q / 100)
        below, running = int(position), np.cumsum(self.counts)
        first, second = self.values[np.searchsorted(running, [below, min(below + 1, total - 1)], side="right")]
        return float(first + (second - first) * (position - below))

    def binned(self, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Counts between rising edges, the last one included, as `numpy.histogram` has it."""
        found, _ = np.histogram(self.values, bins=edges, weights=self.counts)
        return np.asarray(np.round(found), dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class BandStatistics:
    """Of the valid pixels of one band, in stored numbers.

    Attributes:
        name: as in the sensor.
        mean, std: std of the population (no degree of freedom taken off).
        minimum, maximum: NaN, as all others, where no pixel is valid.
        quantification, offset: reflectance = (number + offset) / quantification.
        percentiles: by percent.
        histogram: None where it was not kept.
        mean_error: standard error of the mean where only a share of the pixels was read, else 0.
    """

    name: str
    mean: float
    std: float
    minimum: float
    maximum: float
    quantification: float = 1.0
    offset: float = 0.0
    percentiles: Mapping[float, float] = field(default_factory=dict)
    histogram: Histogram | None = None
    mean_error: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Statistics of the bands of a data set.

    Attributes:
        bands: in the order of the images.
        count: valid pixels, the same for all bands.
        scenes: that were read.
        sensor: name of the sensor.
        quantity: what the scaled numbers are: "reflectance", or for radar "power", "amplitude", "db".
        dtype: numpy's name of the stored type.
        split: of the catalog; None for all of it.
        share: of the pixels that was read.
        percentile_error: greatest error of a percentile, relative to itself; 0 where they are exact.
        covariance: (bands, bands) float64, None where it was not asked for.
        class_counts: valid pixels (or chips) by class.
        classes: names by id, empty where they are not known.
    """

    bands: tuple[BandStatistics, ...]
    count: int
    scenes: int
    sensor: str = "generic"
    quantity: str = "reflectance"
    dtype: str = "uint16"
    split: str | None = None
    share: float = 1.0
    percentile_error: float = 0.0
    covariance: npt.NDArray[np.float64] | None = None
    class_counts: Mapping[int, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def doubt(self) -> str | None:
        """Why the numbers cannot be what they are taken for; None where nothing is wrong, as in all but radar."""
        known = [band for band in self.bands if math.isfinite(band.minimum)]
        if not known:
            return None
        low = min((band.minimum + band.offset) / band.quantification for band in known)
        greatest = ((max(band.percentiles.values(), default=band.maximum), band) for band in known)
        high = max((number + band.offset) / band.quantification for number, band in greatest)
        return doubt_of_backscatter(self.sensor, self.quantity, low, high)

    @property
    def band_names(self) -> tuple[str, ...]:
        return tuple(band.name for band in self.bands)

    @property
    def mean(self) -> tuple[float, ...]:
        """Per band, in stored numbers."""
        return tuple(band.mean for band in self.bands)

    @property
    def std(self) -> tuple[float, ...]:
        """Per band, in stored numbers."""
        return tuple(band.std for band in self.bands)

    def select(self, names: Sequence[str]) -> "Statistics":
        """With the named bands only, in the order asked for; the names are those of the file.

        Raises:
            ConfigurationError: a band was not measured.
        """
        known = self.band_names
        for name in names:
            if name not in known:
                raise ConfigurationError(f"no statistics of band '{name}'; there are those of {' '.join(known)}")
        positions = [known.index(name) for name in names]
        covariance = None if self.covariance is None else self.covariance[np.ix_(positions, positions)]
        return replace(self, bands=tuple(self.bands[position] for position in positions), covariance=covariance)

    def normalization(
        self, sensor: Sensor, units: Units = "reflectance"
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, std) of each band of a sensor, in the units of an output.

        Args:
            sensor: its bands are found by name or alias, and must be scaled as those of the statistics.
            units: "dn" for stored numbers, "reflectance" for scaled ones (linear power for radar), "db".

        Raises:
            ConfigurationError: a band is missing or constant, the scales differ, or the units are no linear scaling of
                what was measured.
        """
        if sensor.quantity != self.quantity:
            raise ConfigurationError(f"the statistics are of {self.quantity}, and '{sensor.name}' is {sensor.quantity}")
        linear = {"dn": True, "reflectance": self.quantity in ("reflectance", "power"), "db": self.quantity == "db"}
        if not linear[units]:
            raise ConfigurationError(
                f"the statistics are of {self.quantity}, in which {'decibels' if units == 'db' else 'power'} are not "
                f"linear: give out_units='{'db' if self.quantity == 'db' else 'dn'}', or mean and std"
            )
        means, deviations = [], []
        for wanted in sensor.bands:
            band = self._find(wanted)
            if (band.quantification, band.offset) != (wanted.quantification, wanted.offset):
                raise ConfigurationError(
                    f"band '{wanted.name}' is scaled as (DN {wanted.offset:+g}) / {wanted.quantification:g}, and its "
                    f"statistics as (DN {band.offset:+g}) / {band.quantification:g}: measure the data that is to be "
                    "normalised, or give its sensor (dataset.sensor)"
                )
            if not band.std > 0:
                raise ConfigurationError(
                    f"band '{wanted.name}' has a standard deviation of {band.std:g}, by which nothing can be "
                    "normalised: leave the band out"
                )
            plain = units == "dn"
            means.append(band.mean if plain else (band.mean + band.offset) / band.quantification)
            deviations.append(band.std if plain else band.std / band.quantification)
        return tuple(means), tuple(deviations)

    def class_weights(self, count: int | None = None) -> tuple[float, ...]:
        """Weights by class id that make up for rare ones: 1 over the share of a class, their mean 1; 0 where none is.

        Args:
            count: of classes; by default as many as are known.
        """
        size = count or max(len(self.classes), max(self.class_counts, default=-1) + 1)
        pixels = np.array([self.class_counts.get(number, 0) for number in range(size)], dtype=np.float64)
        weights = np.divide(1.0, pixels, out=np.zeros(size), where=pixels > 0)
        found = weights > 0
        return tuple((weights / weights[found].mean()).tolist()) if found.any() else tuple(weights.tolist())

    def _find(self, wanted: Band) -> BandStatistics:
        """Of a band by its name or an alias, compared as sensors do."""
        measured = Sensor("statistics", bands=tuple(Band(name) for name in self.band_names))
        for label in (wanted.name, *wanted.aliases):
            if label in self.band_names:
                return self.bands[self.band_names.index(label)]
            if label.isdigit():  # would count bands
                continue
            try:
                return self.bands[measured.index(label)]
            except ConfigurationError:
                continue
        raise ConfigurationError(
            f"no statistics of band '{wanted.name}'; there are those of {' '.join(self.band_names)}"
        )

    def to_dict(self, *, histograms: bool = True) -> dict[str, Any]:
        """As it stands in a file."""
        content: dict[str, Any] = {
            "geoaug_statistics": _VERSION,
            "sensor": self.sensor,
            "quantity": self.quantity,
            "dtype": self.dtype,
            "split": self.split,
            "scenes": self.scenes,
            "count": self.count,
            "share": self.share,
            "percentile_error": self.percentile_error,
            "bands": {band.name: _band_content(band) for band in self.bands},
        }
        if self.class_counts:
            content["class_counts"] = {int(number): int(count) for number, count in self.class_counts.items()}
        if self.classes:
            content["classes"] = list(self.classes)
        if self.covariance is not None:
            content["covariance"] = self.covariance.tolist()
        if histograms:
            content["histograms"] = {
                band.name: {
                    "exact": band.histogram.exact,
                    # Steps from one whole number to the next are mostly 1.
                    "values": _packed(np.diff(band.histogram.values, prepend=0.0))
                    if band.histogram.exact
                    else _packed(band.histogram.values),
                    "counts": _packed(band.histogram.counts),
                }
                for band in self.bands
                if band.histogram is not None
            }
        return content

    def save(self, path: str | Path, *, histograms: bool = True) -> None:
        """Write YAML, or JSON where the name ends so; whole or not at all."""
        path = Path(path)
        content = self.to_dict(histograms=histograms)
        if path.suffix.lower() == ".json":
            text = json.dumps(content, indent=1) + "\n"
        else:
            text = _HEAD + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=10**6)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be written ({error.strerror or error})") from error
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: "str | Path | Statistics") -> "Statistics":
        """Read a file that `save` wrote; statistics themselves are given back.

        Raises:
            ConfigurationError: no such file, or not one of statistics.
        """
        if isinstance(path, Statistics):
            return path
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path}: no statistics there; make them with geoaug stats ({error})") from error
        try:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            content = json.loads(text) if str(path).lower().endswith(".json") else yaml.load(text, loader)
            return _from_content(content)
        except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise ConfigurationError(f"{path}: is no file of geoaug stats ({type(error).__name__}: {error})") from error


def _band_content(band: BandStatistics) -> dict[str, Any]:
    content: dict[str, Any] = {
        "mean": band.mean,
        "std": band.std,
        "min": band.minimum,
        "max": band.maximum,
        "quantification": band.quantification,
        "offset": band.offset,
        "percentiles": {float(q): value for q, value in band.percentiles.items()},
    }
    if band.mean_error:
        content["mean_error"] = band.mean_error
    return content


def _from_content(content: Mapping[str, Any]) -> Statistics:
    if content["geoaug_statistics"] != _VERSION:
        raise ValueError(f"version {content['geoaug_statistics']} is not {_VERSION}")
    histograms = content.get("histograms") or {}
    bands = []
    for name, of_band in content["bands"].items():
        kept = histograms.get(name)
        bands.append(
            BandStatistics(
                name=str(name),
                mean=float(of_band["mean"]),
                std=float(of_band["std"]),
                minimum=float(of_band["min"]),
                maximum=float(of_band["max"]),
                quantification=float(of_band["quantification"]),
                offset=float(of_band["offset"]),
                percentiles={float(q): float(value) for q, value in of_band["percentiles"].items()},
                histogram=None if kept is None else _histogram(kept),
                mean_error=float(of_band.get("mean_error", 0.0)),
            )
        )
    covariance = content.get("covariance")
    return Statistics(
        bands=tuple(bands),
        count=int(content["count"]),
        scenes=int(content["scenes"]),
        sensor=content["sensor"],
        quantity=content["quantity"],
        dtype=content["dtype"],
        split=content["split"],
        share=float(content["share"]),
        percentile_error=float(content["percentile_error"]),
        covariance=None if covariance is None else np.array(covariance, dtype=np.float64),
        class_counts={int(number): int(count) for number, count in (content.get("class_counts") or {}).items()},
        classes=tuple(content.get("classes") or ()),
    )


def _histogram(content: Mapping[str, Any]) -> Histogram:
    values, exact = _unpacked(content["values"], np.float64), bool(content["exact"])
    return Histogram(np.cumsum(values) if exact else values, _unpacked(content["counts"], np.int64), exact)


def _packed(numbers: npt.NDArray[Any]) -> str:
    """Little-endian bytes, compressed, as one line of text."""
    plain = np.ascontiguousarray(numbers, dtype=numbers.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(plain.tobytes(), 9)).decode("ascii")


def _unpacked(text: str, kind: type[Any]) -> npt.NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.dtype(kind).newbyteorder("<")).astype(kind)
