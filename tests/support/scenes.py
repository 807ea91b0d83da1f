"""Small rasters for tests, and what a catalog knows of them, made from rasterio's headers alone."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.raster.grid import Grid
from geoaug.data.raster.record import BandFile, SceneRecord

UTM32 = "EPSG:32632"
PLACE = Affine(10, 0, 600000, 0, -10, 5400000)


def numbers(shape: tuple[int, ...], dtype: str = "uint16", *, seed: int = 0, low: int = 1) -> npt.NDArray[Any]:
    """Whole numbers from `low` to 119, which every type holds."""
    return np.random.default_rng(seed).integers(low, 120, shape).astype(dtype)


def write_raster(
    path: Path,
    image: npt.NDArray[Any],
    *,
    transform: Affine = PLACE,
    crs: str | None = UTM32,
    mask: npt.NDArray[np.bool_] | None = None,
    **profile: Any,
) -> Path:
    """A GeoTIFF of (bands, rows, columns)."""
    count, height, width = image.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"driver": "GTiff", "photometric": "MINISBLACK", **profile}
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", count=count, height=height, width=width, dtype=image.dtype, crs=crs, transform=transform,
            **options,
        ) as file,
    ):  # fmt: skip
        file.write(image)
        if mask is not None:
            file.write_mask(mask)
    return path


def band_files(path: Path, names: Sequence[str] | None = None) -> tuple[BandFile, ...]:
    """The bands of a raster, named B1, B2... by default."""
    with (
        warnings.catch_warnings(action="ignore", category=NotGeoreferencedWarning),
        rasterio.open(path) as file,
    ):
        grid = Grid(None if file.crs is None else file.crs.to_string(), file.transform, file.height, file.width)
        flags = [[flag.name for flag in of_band] for of_band in file.mask_flag_enums]
        return tuple(
            BandFile(
                name=f"B{index}" if names is None else names[index - 1],
                path=str(path),
                index=index,
                grid=grid,
                dtype=file.dtypes[index - 1],
                nodata=file.nodatavals[index - 1],
                block_shape=file.block_shapes[index - 1],
                has_mask="all_valid" not in flags[index - 1] and "nodata" not in flags[index - 1],
            )
            for index in file.indexes
        )


def scene_of(*paths: Path, name: str | None = None, **fields: Any) -> SceneRecord:
    """A scene whose bands are those of the rasters, B1 to Bn."""
    bands = [band for path in paths for band in band_files(path)]
    named = tuple(
        BandFile(**{**{f: getattr(band, f) for f in BandFile.__dataclass_fields__}, "name": f"B{number}"})
        for number, band in enumerate(bands, start=1)
    )
    kind = "raster" if len(paths) == 1 else "bands"
    return SceneRecord(name or paths[0].stem, kind, str(paths[0]), named, "generic", **fields)


def catalog_of(*paths: Path) -> Catalog:
    """A catalog of rasters, a scene each."""
    return Catalog.from_records([scene_of(path) for path in paths])
