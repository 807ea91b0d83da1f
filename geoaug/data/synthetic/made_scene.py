"""A made Sentinel-2 scene with its class raster: for the demo, for tests and for benchmarks.

All 13 level-1C bands in 10 m pixels, top-of-atmosphere reflectance times 10 000. What lies on the ground
comes from `geoaug.data.synthetic.landscape`; here it is seen through the air and the sensor, and written to
disk. Nothing here is used to augment anything.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from geoaug.data.synthetic.fields import Raster, fractal_noise, sensor_blur
from geoaug.data.synthetic.landscape import CLASS_NAMES, draw_landscape
from geoaug.data.synthetic.spectra import BANDS, path_reflectance
from geoaug.errors import ConfigurationError

CLASS_COLOURS: Final = (
    (38, 103, 178),
    (72, 150, 62),
    (24, 84, 54),
    (158, 206, 116),
    (238, 222, 110),
    (250, 190, 24),
    (214, 136, 46),
    (150, 104, 72),
    (206, 62, 58),
    (92, 92, 100),
)
NO_LABEL: Final = 255
NODATA: Final = 0
SMALLEST: Final = 96


@dataclass(frozen=True)
class SyntheticScene:
    """A made scene: `image` (13, H, W) uint16 in the band order of sentinel-2-l1c, `labels` (H, W) uint8
    with the indexes of `class_names` and 255 where nothing is labelled, and where it lies on the ground."""

    image: NDArray[np.uint16]
    labels: NDArray[np.uint8]
    class_names: tuple[str, ...]
    transform: Affine
    crs: str
    nodata: int
    band_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScenePaths:
    """Where a made scene lies on disk: the 13-band image and its class raster."""

    image: Path
    labels: Path


def make_scene(size: int = 1024, seed: int = 0) -> SyntheticScene:
    """Make a Sentinel-2-like level-1C scene of `size` x `size` pixels of 10 m, the same for the same seed.

    Values are top-of-atmosphere reflectance times 10 000 (no offset, as before processing baseline 04.00).
    Bands of 20 m and 60 m are sampled at that distance and repeated. A wedge beyond the swath edge holds
    `nodata` (0); the edge of each band lies a little elsewhere, as on the real focal plane. No pixel inside
    the swath is 0.

    Raises:
        ConfigurationError: `size` is below 96, too small for the landscape to be one.
    """
    if size < SMALLEST:
        raise ConfigurationError(f"size {size}: a made scene is at least {SMALLEST} pixels wide")
    rng = np.random.default_rng([20240601, seed])
    landscape = draw_landscape(rng, size)
    image, valid = _sense(rng, landscape.reflectance)
    labels = np.where(valid, landscape.classes, NO_LABEL).astype(np.uint8)
    return SyntheticScene(
        image=image,
        labels=labels,
        class_names=CLASS_NAMES,
        transform=Affine(10.0, 0.0, 430020.0, 0.0, -10.0, 5591040.0),
        crs="EPSG:32633",
        nodata=NODATA,
        band_names=tuple(band.name for band in BANDS),
    )


def write_scene(
    folder: str | Path, *, scene: SyntheticScene | None = None, size: int = 1024, seed: int = 0
) -> ScenePaths:
    """Write a made scene as `scene.tif` and `labels.tif` into `folder`, which is made where it is missing.

    Both are tiled, compressed GeoTIFFs; the image has band descriptions and nodata, the labels a colour
    table and their class names as tags `CLASS_0`, `CLASS_1`... `scene` is made from `size` and `seed`
    unless given. Files appear whole or not at all.
    """
    scene = make_scene(size, seed) if scene is None else scene
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = ScenePaths(folder / "scene.tif", folder / "labels.tif")
    _write(paths.image, scene.image, scene, nodata=scene.nodata)
    _write(paths.labels, scene.labels[None], scene, nodata=NO_LABEL)
    return paths


def _write(path: Path, array: NDArray[np.uint16] | NDArray[np.uint8], scene: SyntheticScene, nodata: int) -> None:
    count, height, width = array.shape
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".geoaug-") as scratch:
        unfinished = Path(scratch) / path.name
        with rasterio.open(
            unfinished,
            "w",
            driver="GTiff",
            count=count,
            height=height,
            width=width,
            dtype=array.dtype,
            crs=scene.crs,
            transform=scene.transform,
            nodata=nodata,
            tiled=True,
            blockxsize=256,
            blockysize=256,
            compress="deflate",
            predictor=2,
        ) as raster:
            raster.write(array)
            if count == len(scene.band_names):
                raster.descriptions = scene.band_names
                raster.update_tags(TITLE="synthetic Sentinel-2 level-1C scene made by geoaug")
            else:
                raster.descriptions = ("class",)
                raster.write_colormap(1, dict(enumerate(CLASS_COLOURS)) | {NO_LABEL: (0, 0, 0, 0)})
                raster.update_tags(**{f"CLASS_{number}": name for number, name in enumerate(scene.class_names)})
        unfinished.replace(path)


def _sense(rng: np.random.Generator, surface: Raster) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """What the satellite stores of the surface: the air, the optics, the sampling, the noise and the
    swath's edge."""
    count, size, _ = surface.shape
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    hazy = 1 + 0.05 * fractal_noise(rng, size, longest=500, shortest=40)
    cirrus = 1 + 0.12 * fractal_noise(rng, size, longest=300, shortest=20)
    air = path_reflectance()
    image = np.empty((count, size, size), dtype=np.uint16)
    everywhere = np.ones((size, size), dtype=bool)
    # The swath of an orbit inclined by 98.6 degrees leans by about 13 degrees against the grid at 50 degrees north.
    beyond = x - np.float32(1.03 * size) + y * np.float32(np.tan(np.deg2rad(13.0)))
    for number, band in enumerate(BANDS):
        pixels = band.gsd_m // 10
        veil = air[number] * (cirrus if band.name == "B10" else hazy)
        seen = sensor_blur(veil + surface[number] * np.float32(band.transmittance), pixels)
        noise = rng.normal(0, band.noise, (-(-size // pixels),) * 2).astype(np.float32)
        seen += noise.repeat(pixels, 0).repeat(pixels, 1)[:size, :size]
        inside = beyond < rng.uniform(-1.5, 1.5)
        everywhere &= inside
        image[number] = np.where(inside, np.clip(np.rint(seen * 10000), 1, 65535), NODATA)
    return image, everywhere
