"""What a person should know of a raster before using it: how it is stored, its values, and what will hurt."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from geoaug.data.raster.files import gdal_environment, open_dataset
from geoaug.data.raster.identify import is_categorical
from geoaug.data.raster.overview import Overview, read_overview
from geoaug.data.raster.scene import Scene
from geoaug.sensors import Band

_LARGE = 2048  # pixels; below, large blocks matter little
_MANY_PIXELS = 2_000_000  # below, strips matter little
_NARROW = 512  # a row no longer than that of a usual block costs a tile nothing
_WELL_TILED = 1024
_MANY_ZEROS = 0.001
_SQUARE = 0.01


@dataclass(frozen=True, slots=True)
class BandInfo:
    """A band and the range of its valid pixels, in stored values; NaN where none is valid.

    `low` and `high` are the 2nd and 98th percentiles.
    """

    band: Band
    least: float
    low: float
    mean: float
    high: float
    greatest: float


@dataclass(frozen=True, slots=True)
class SceneInfo:
    """A scene at a glance.

    Attributes:
        scene: its header.
        driver: GDAL's name of the file format.
        compression: None where there is none.
        tiled: whether it is stored in tiles, not in strips.
        overviews: by how much each of the file's overviews is smaller.
        bands: the values of each band.
        invalid_share: of the pixels.
        estimated: whether the values are those of a part of the pixels.
        warnings: what will hurt, and what to do about it.
        remarks: what is unusual and handled.
    """

    scene: Scene
    driver: str
    compression: str | None
    tiled: bool
    overviews: tuple[int, ...]
    bands: tuple[BandInfo, ...]
    invalid_share: float
    estimated: bool
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]


def inspect_scene(scene: Scene) -> SceneInfo:
    """Look a scene over; raises `RasterError` where it cannot be read."""
    with gdal_environment(scene.path)(), open_dataset(scene.path) as dataset:
        driver = str(dataset.driver)
        compression = None if dataset.compression is None else str(dataset.compression.value).lower()
        tiled = dataset.block_shapes[scene.band_indexes[0] - 1][1] < dataset.width
        overviews = tuple(int(factor) for factor in dataset.overviews(scene.band_indexes[0]))
        stated_nodata = any(dataset.nodatavals[index - 1] is not None for index in scene.band_indexes)
    overview = read_overview(scene)
    bands = tuple(_band_info(overview, number, band) for number, band in enumerate(scene.sensor.bands))
    return SceneInfo(
        scene=scene,
        driver=driver,
        compression=compression,
        tiled=tiled,
        overviews=overviews,
        bands=bands,
        invalid_share=1 - float(overview.valid.mean()),
        estimated=overview.valid.shape != (scene.height, scene.width),
        warnings=(*_identity_warnings(scene), *_storage_warnings(scene, overview), *_value_warnings(scene, bands)),
        remarks=tuple(_remarks(scene, overview, stated_nodata)),
    )


def is_class_raster(scene: Scene) -> bool:
    """Whether a scene holds classes or flags, by its name: a scene classification, a quality band, labels."""
    names = [text for text in scene.descriptions if text]
    return is_categorical(scene.path, scene.count, names, scene.dtype.name)


def _band_info(overview: Overview, number: int, band: Band) -> BandInfo:
    values = overview.image[number][overview.valid].astype(np.float64)
    if not values.size:
        return BandInfo(band, *(math.nan,) * 5)
    low, high = np.percentile(values, [2, 98])
    return BandInfo(band, float(values.min()), float(low), float(values.mean()), float(high), float(values.max()))


def _identity_warnings(scene: Scene) -> Iterator[str]:
    if is_class_raster(scene):
        yield "holds classes or flags by its name: give it as --labels, not as a scene"
    elif scene.sensor.name == "generic":
        yield "the bands are unknown: haze and sensor noise need wavelengths to be right; say --sensor"
    elif not scene.identification.certain:
        yield "the sensor is a guess: confirm it with --sensor"
    if scene.crs is None:
        points = (
            ", though ground control points, which geoaug does not apply (gdalwarp does)" if scene.gcp_count else ""
        )
        yield f"no CRS{points}: tiles are written without one, and labels must be without one, too"
    elif scene.crs.is_geographic:
        yield "the CRS is in degrees: pixels are not square on the ground, and turns bend; warp it to a metric CRS"
    else:
        across = math.hypot(scene.transform.a, scene.transform.d)
        down = math.hypot(scene.transform.b, scene.transform.e)
        if abs(across / down - 1) > _SQUARE:
            yield f"pixels are not square ({across:g} by {down:g}): turns bend what they show"


def _storage_warnings(scene: Scene, overview: Overview) -> Iterator[str]:
    rows, cols = scene.block_shape
    large = max(scene.height, scene.width) > _LARGE
    if cols >= scene.width > _NARROW and scene.height * scene.width > _MANY_PIXELS:
        yield (
            f"stored in strips of {rows} row{'s' * (rows > 1)}: a tile makes whole rows be read; "
            "gdal_translate -co TILED=YES is faster"
        )
    elif large and rows * cols > _WELL_TILED**2:
        yield f"stored in blocks of {rows} x {cols} pixels, larger than a tile: gdal_translate -co TILED=YES is faster"
    if _lacks_nodata(scene):
        zeros = _zero_share(overview)
        if zeros > _MANY_ZEROS:
            yield (
                f"no nodata value, and {zeros:.1%} of the pixels are 0 in all bands: they count as data; "
                "if they are none, rio edit-info --nodata 0"
            )
    if not overview.valid.any():
        yield "no pixel is valid"


def _lacks_nodata(scene: Scene) -> bool:
    return scene.nodata is None and not scene.has_mask


def _zero_share(overview: Overview) -> float:
    """The share of the pixels that are 0 in all bands."""
    return float((overview.image == 0).all(axis=0).mean())


def _value_warnings(scene: Scene, bands: tuple[BandInfo, ...]) -> Iterator[str]:
    """Reflectance that cannot be: the scaling is not the one that the sensor was taken to have."""
    if scene.sensor.domain != "optical" or is_class_raster(scene):
        return
    shown = [info for info in bands if math.isfinite(info.high)]
    if not shown:
        return
    brightest = max((info.high + info.band.offset) / info.band.quantification for info in shown)
    if brightest > 2 or brightest < 0.01:
        yield (
            f"the brightest band's reflectance would be {brightest:.3g}: the scale is not that of the sensor; "
            "give a --sensor of your own with the right quantification and offset"
        )


def _remarks(scene: Scene, overview: Overview, stated_nodata: bool) -> Iterator[str]:
    transform = scene.transform
    if scene.nodata is not None and not stated_nodata:
        yield f"the file names no nodata value; {scene.nodata:g} is that of the sensor"
    if _lacks_nodata(scene) and _zero_share(overview) <= _MANY_ZEROS:
        yield "the file names no nodata value: every finite pixel counts as data"
    if transform.b or transform.d:
        angle = math.degrees(math.atan2(-transform.d, transform.a))
        yield f"the grid is turned by {angle:.2f} degrees"
    if transform.determinant > 0 and scene.crs is not None:
        yield "the grid is south-up: the first row is the southernmost"
    if len(scene.identification.sensor.bands) != len(scene.sensor.bands):
        yield f"{len(scene.sensor.bands)} of {scene.count} bands are chosen"
