"""The ground sampling distance that a model was trained at: held to, or a scene brought to it as it is read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from geoaug.data.scenes.opening import georeference_optional
from geoaug.data.scenes.scene import open_scene
from geoaug.errors import ConfigurationError
from geoaug.sensors import Sensor

__all__ = ["at_gsd", "check_gsd"]

# A ground sampling distance this much off is another scale of things.
_TOLERANCE = 0.1


def check_gsd(gsd_m: float | None, trained_m: float | None, where: str, remedy: str) -> None:
    """Raise `ConfigurationError` where pixels are of another width than in the training; what is not known is let pass.

    Args:
        gsd_m: how wide they are.
        trained_m: how wide they were.
        where: they are, for the message.
        remedy: what to do, besides predicting all the same.
    """
    if gsd_m is not None and trained_m is not None and abs(gsd_m / trained_m - 1) > _TOLERANCE:
        raise ConfigurationError(
            f"{where}: pixels are {gsd_m:.3g} m wide, and the model was trained at {trained_m:.3g} m: {remedy}, or "
            "take them as they are (ignore_gsd, --ignore-gsd)"
        )


@contextmanager
def at_gsd(path: str | Path, gsd_m: float | None, sensor: Sensor | str | None = None) -> Iterator[str]:
    """The scene's path, or within the context that of a virtual raster of its name with pixels of another width.

    Averages where pixels grow, interpolates where they shrink; nothing is written but the description of it.

    Raises:
        ConfigurationError: it is not known how wide its pixels are, or it is not one file.
    """
    scene = open_scene(path, sensor=sensor)
    if gsd_m is None or (scene.gsd_m is not None and abs(scene.gsd_m / gsd_m - 1) <= _TOLERANCE):
        yield str(path)
        return
    if scene.gsd_m is None:
        raise ConfigurationError(f"{path}: how wide its pixels are is not known, so it cannot be resampled")
    factor = gsd_m / scene.gsd_m
    with tempfile.TemporaryDirectory(prefix="geoaug-") as folder, georeference_optional():
        virtual = Path(folder) / f"{Path(str(path)).stem}.vrt"
        with rasterio.open(path) as source:
            transform = source.transform @ Affine.scale(factor)
            width, height = max(round(source.width / factor), 1), max(round(source.height / factor), 1)
            method = Resampling.average if factor > 1 else Resampling.bilinear
            with WarpedVRT(
                source, crs=source.crs, transform=transform, width=width, height=height, resampling=method
            ) as warped:
                rasterio.shutil.copy(warped, virtual, driver="VRT")
            described, scales, offsets, tags = source.descriptions, source.scales, source.offsets, source.tags()
        with rasterio.open(virtual, "r+") as target:
            target.descriptions, target.scales, target.offsets = described, scales, offsets
            target.update_tags(**tags)
        yield str(virtual)
