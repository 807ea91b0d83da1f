"""From the headers of rasters to the bands of a scene record; and the size and age of files.

What belongs together as a scene is decided by those who call: `geoaug.data.catalog.index` and the modules of
products.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from geoaug.data.raster.advice import A_SCENE_A_FILE
from geoaug.data.raster.bands import band_list
from geoaug.data.raster.inputs import is_remote
from geoaug.data.raster.quality import check_chosen
from geoaug.data.raster.record import BandFile, Grid, QualityLayer
from geoaug.data.raster.scene import Scene, open_scene
from geoaug.errors import ConfigurationError, RasterError
from geoaug.sensors import Sensor, available_sensors, generic_sensor, get_sensor

_ARCHIVE = re.compile(r"/vsi(?:zip|tar|gzip)/(.+?\.(?:zip|tar\.gz|tgz|tar|gz))(?:/|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HeaderOptions:
    """What a person said about all scenes that are indexed.

    Attributes:
        sensor: whose bands the files have; judged from each file where None.
        definition: the YAML file that the sensor was told by, None where it is built in.
        bands: the bands wanted, in order, by name or number; all where None.
        invalid: classes or flags of quality layers that make a pixel invalid, by name or number; the usual ones where
            None, no quality layer where empty.
    """

    sensor: Sensor | None = None
    bands: Sequence[str | int] | None = None
    invalid: Sequence[str | int] | None = None
    definition: str | None = None

    @staticmethod
    def of(
        sensor: Sensor | str | Path | None,
        bands: Sequence[str | int] | str | None,
        invalid: Sequence[str | int] | str | None,
    ) -> "HeaderOptions":
        """From what a person gave: names of sensors, files of their definitions, lists as text with commas.

        Raises:
            ConfigurationError: no such sensor, or a quality class that no layer has.
        """
        entries = invalid.split(",") if isinstance(invalid, str) else invalid
        unwanted = None if entries is None else [entry for entry in entries if entry != ""]
        check_chosen(unwanted)
        return HeaderOptions(
            sensor=None if sensor is None else get_sensor(sensor),
            bands=band_list(bands),
            invalid=unwanted,
            definition=str(Path(sensor).absolute())
            if isinstance(sensor, str | Path) and Path(sensor).is_file()
            else None,
        )


def header_of(path: str, options: HeaderOptions) -> Scene:
    """The header of one raster, with the bands that are wanted; raises as `open_scene`."""
    return open_scene(path, sensor=options.sensor, bands=options.bands, scene_id="")


def band_files(scene: Scene) -> tuple[BandFile, ...]:
    """The chosen bands of a raster."""
    grid, dtype = grid_of(scene), scene.dtype.name
    bands = zip(scene.sensor.bands, scene.band_indexes, scene.band_nodata, strict=True)
    return tuple(
        BandFile(
            name=band.name,
            path=scene.path,
            index=index,
            grid=grid,
            dtype=dtype,
            nodata=nodata,
            block_shape=(int(scene.block_shape[0]), int(scene.block_shape[1])),
            has_mask=scene.has_mask,
            quantification=band.quantification,
            offset=band.offset,
        )
        for band, index, nodata in bands
    )


def grid_of(scene: Scene) -> Grid:
    return Grid(None if scene.crs is None else crs_name(scene.crs.to_wkt()), scene.transform, scene.height, scene.width)


@lru_cache(maxsize=256)
def crs_name(wkt: str) -> str:
    """The authority code of a CRS where it has one that means the same, else the WKT itself."""
    import pyproj

    crs = pyproj.CRS.from_wkt(wkt)
    authority = crs.to_authority(min_confidence=100)
    if authority is None:
        return wkt
    name = ":".join(authority)
    same = crs.equals(pyproj.CRS.from_user_input(name), ignore_axis_order=True)
    return name if same else wkt


def single_header(word: str, path: str) -> Scene:
    """The header of a file that holds one band, which goes by `word`.

    Raises:
        RasterError: it cannot be read, or holds more bands.
    """
    try:
        return open_scene(path, sensor=generic_sensor(1, 1.0, names=[word]), scene_id="")
    except ConfigurationError as error:
        raise RasterError(
            f"{path}: taken for the file of band {word}, but holds several bands; index such files with "
            f"{A_SCENE_A_FILE}"
        ) from error


def single_band(name: str, path: str) -> BandFile:
    """The band of a file that holds one band, under a name; raises as `single_header`."""
    return band_files(single_header(name, path))[0]


def quality_layer(path: str, kind: Literal["classes", "bits"], invalid: Sequence[int], index: int = 1) -> QualityLayer:
    """The layer of a file of classes or flags, in which no value means "no data" by itself."""
    scene = open_scene(path, bands=[index], scene_id="")
    band = replace(band_files(scene)[0], nodata=None, has_mask=False, quantification=1.0, offset=0.0)
    return QualityLayer(band, kind, tuple(invalid))


def sensor_name(sensor: Sensor, options: HeaderOptions) -> str:
    """What a record keeps of a sensor: a built-in name, "generic", or the place of a definition of one's own.

    Raises:
        ConfigurationError: a `Sensor` of one's own, which only a file can be found again by.
    """
    if sensor.name == "generic" or sensor.name in available_sensors():
        return sensor.name
    if options.definition is not None:
        return options.definition
    raise ConfigurationError(
        f"the sensor '{sensor.name}' is not built in: a catalog needs the path of its YAML file, to find it again"
    )


def on_disk(path: str) -> str | None:
    """The file on this machine that a path of GDAL's lies in; None for what lies elsewhere."""
    if archive := _ARCHIVE.match(path):
        return archive[1]
    return None if is_remote(path) or path.startswith("/vsi") else path


def size_and_age(paths: Iterable[str]) -> tuple[int, int]:
    """The size of all files together in bytes, and the time in ns of the latest change; zeros where nobody knows.

    Raises:
        RasterError: a file is gone.
    """
    size = latest = 0
    for path in dict.fromkeys(filter(None, map(on_disk, paths))):
        try:
            found = os.stat(path)  # noqa: PTH116  # a hundred thousand times
        except OSError as error:
            if ":" in path:  # GDAL's name of a dataset inside a file
                continue
            raise RasterError(f"{path}: has vanished, or cannot be reached ({error.strerror})") from error
        size += found.st_size
        latest = max(latest, found.st_mtime_ns)
    return size, latest
