"""A scene of a file for each band: its source, and which sensor's bands the words in the names of files are.

Which files belong together is found in `geoaug.data.catalog.products.bands`. Products with metadata of their own use
what is here where bands are known by words alone (`sensor_of_bands`, `words_of`, `check_extents`).
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geoaug.data.catalog.products.product import ReadScene
from geoaug.data.raster.grid import same_crs
from geoaug.data.raster.headers import (
    Header,
    HeaderOptions,
    band_files,
    quality_layer,
    sensor_name,
    single_header,
    usable_nodata,
)
from geoaug.data.raster.identify import bands_named, identify_sensor, moment_in_name, product_of, with_scaling_of_file
from geoaug.data.raster.quality import SCHEMES
from geoaug.data.raster.record import BandFile, SceneRecord
from geoaug.errors import ConfigurationError, RasterError
from geoaug.sensors import Sensor, generic_sensor, get_sensor

_log = logging.getLogger("geoaug")
_EXTENT_TOLERANCE = 2.0  # pixels of the coarser band


@dataclass(frozen=True, slots=True)
class BandsSource:
    """A file for each band, named alike but for the band.

    Attributes:
        bands: the word that names each band, and its file.
        quality: the word of a file of classes or flags that is named alike, and the file.
        described: a JSON file with the "labels" of the whole scene, as BigEarthNet has them.
    """

    path: str
    name: str
    bands: Mapping[str, str]
    quality: tuple[str, str] | None = None
    mask_path: str | None = None
    kind: str = "bands"
    split: str | None = None
    described: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        others = (self.mask_path, self.described, None if self.quality is None else self.quality[1])
        return (*self.bands.values(), *(path for path in others if path is not None))

    def read(self, scene_id: str, options: HeaderOptions) -> ReadScene:
        headers = {word: single_header(word, path) for word, path in self.bands.items()}
        stored = {word: Stored(one.dtype.name, one.scales[0], one.offsets[0]) for word, one in headers.items()}
        sensor, doubt = sensor_of_bands(self.path, stored, options)
        bands = tuple(_as_in(sensor, number, headers[word]) for number, word in enumerate(words_of(sensor, headers)))
        check_extents(self.path, bands)
        layer = None
        if self.quality is not None:
            scheme = SCHEMES[self.quality[0]]
            if invalid := scheme.chosen(options.invalid):
                layer = quality_layer(self.quality[1], scheme.kind, invalid)
        record = SceneRecord(
            id=scene_id,
            kind=self.kind,
            path=self.path,
            bands=bands,
            sensor=sensor_name(sensor, options),
            quality=layer,
            datetime=moment_in_name(next(iter(self.bands.values()))),
            mask_path=self.mask_path,
        )
        attributes: dict[str, object] = {} if self.split is None else {"split": self.split}
        if self.described is not None:
            attributes["labels"] = labels_in(self.described)
        return ReadScene(record, attributes, doubt)


def labels_in(path: str) -> list[str]:
    """The labels in a JSON file of BigEarthNet.

    Raises:
        RasterError: it cannot be read, or has none.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))["labels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RasterError(
            f"{path}: holds no labels that can be read ({type(error).__name__}: {error})", path=path
        ) from error
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise RasterError(f"{path}: its labels are not a list of names", path=path)
    return found


class Stored(NamedTuple):
    """How a band is stored: numpy's name of its type, and GDAL's scale and offset."""

    dtype: str
    scale: float
    offset: float


def sensor_of_bands(path: str, headers: Mapping[str, Stored], options: HeaderOptions) -> tuple[Sensor, str | None]:
    """The sensor with the bands that are wanted of those in `headers`, in its order, scaled as the files are; and why
    it is a guess, None where it is none.

    Raises:
        ConfigurationError: a band that is wanted is not there.
    """
    words = list(headers)
    names = [word for word in words if options.sensor is None or bands_named(options.sensor, [word])]
    if options.sensor is not None and not names:
        raise ConfigurationError(
            f"{path}: none of {' '.join(words)} is a band of the sensor '{options.sensor.name}'", path=path
        )
    sensor, doubt = _judged(path, [headers[name] for name in names], names, options)
    if sensor.name == "generic" and options.sensor is None and (known := _known_bands(path, names)):
        names = known
        sensor, doubt = _judged(path, [headers[name] for name in known], known, options)
    left = [word for word in words if word not in names]
    if options.bands is not None:
        try:
            return sensor.select(list(options.bands)), doubt
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}", path=path, argument="bands") from error
    if left:
        _log.info("%s: %s left out, not among the bands of %s", path, " ".join(left), sensor.name)
    if sensor.name == "generic":
        return sensor, doubt
    present = set(sensor.band_names)
    order = get_sensor(options.sensor or sensor.name).band_names
    return sensor.select([name for name in order if name in present]), doubt


def _judged(
    path: str, headers: Sequence[Stored], names: Sequence[str], options: HeaderOptions
) -> tuple[Sensor, str | None]:
    kind = headers[0].dtype
    scales, offsets = [header.scale for header in headers], [header.offset for header in headers]
    found = identify_sensor(path, len(names), names, kind, {}, scales, offsets)
    if options.sensor is None:
        if found.sensor.name == "generic":
            # By the names of the files, where the judgement has none.
            named = generic_sensor(len(names), 1.0, names=names)
            return named.with_scaling(found.sensor.quantification, found.sensor.offset), found.reason
        reason = found.reason.replace("by their descriptions", "by the names of the files")
        return found.sensor, None if found.certain else reason
    chosen = bands_named(options.sensor, names)
    if chosen is None:
        raise ConfigurationError(
            f"{path}: {' '.join(names)} name no distinct bands of the sensor '{options.sensor.name}'",
            path=path,
        )
    scaled = with_scaling_of_file(options.sensor, chosen, "bands by the file names", path, kind, {}, scales, offsets)
    return scaled.sensor, None


def _known_bands(path: str, names: Sequence[str]) -> list[str]:
    """The bands that the product's sensor knows, where these are most of them: a thermal one, say, is none."""
    product = product_of(path, {})
    for sensor in map(get_sensor, () if product is None else product.sensors):
        known = [name for name in names if bands_named(sensor, [name])]
        if 2 * len(known) > len(names):
            return known
    return []


def words_of(sensor: Sensor, words: Iterable[str]) -> list[str]:
    """The word, of those in the names of files, that names each band of the sensor."""
    by_band: dict[str, str] = {}
    for word in words:
        if (named := bands_named(sensor, [word])) is not None:
            by_band.setdefault(named.bands[0].name, word)
    return [by_band[band.name] for band in sensor.bands]


def _as_in(sensor: Sensor, number: int, header: Header) -> BandFile:
    """The band of a file, with the name, nodata and scaling of a band of the sensor."""
    of_sensor, stored = sensor.bands[number], band_files(header)[0]
    return replace(
        stored,
        name=of_sensor.name,
        nodata=usable_nodata(np.dtype(stored.dtype), stored.nodata, of_sensor.nodata),
        quantification=of_sensor.quantification,
        offset=of_sensor.offset,
    )


def check_extents(path: str, bands: Sequence[BandFile]) -> None:
    """Raise `RasterError` where the bands of a scene do not lie on the same ground."""
    first = bands[0]
    left, top = first.grid.transform * (0, 0)
    right, bottom = first.grid.transform * (first.grid.width, first.grid.height)
    for band in bands[1:]:
        if not same_crs(band.grid.crs, first.grid.crs):
            raise RasterError(f"{path}: bands '{first.name}' and '{band.name}' are in different CRSs", path=path)
        transform = band.grid.transform
        corners = (*(transform * (0, 0)), *(transform * (band.grid.width, band.grid.height)))
        pixel = max(abs(transform.determinant), abs(first.grid.transform.determinant)) ** 0.5
        if (
            max(abs(a - b) for a, b in zip(corners, (left, top, right, bottom), strict=True))
            > _EXTENT_TOLERANCE * pixel
        ):
            raise RasterError(f"{path}: bands '{first.name}' and '{band.name}' do not cover the same ground", path=path)
