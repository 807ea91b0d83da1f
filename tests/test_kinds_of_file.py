"""Every kind of raster is what rasterio reads of it, to info, index, stats, tiles, augmentation and prediction.

Files are made by GDAL's own drivers. What rasterio reads, with its masks, is the reference.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from affine import Affine
from rasterio.enums import ColorInterp, Resampling
from torch import Tensor, nn

from geoaug.data import Catalog, GridTileSampler, TileDataset, open_scenes
from geoaug.data.catalog.inputs import SceneInput
from geoaug.data.raster.overview import inspect_scene, read_overview
from geoaug.data.sampling.survey import StatisticsPlan, survey_catalog
from geoaug.io.augment_tiles import AugmentJob, run
from geoaug.models import Architecture, ClassName, ModelCard, predict_scene
from geoaug.models.networks.model_file import LoadedModel

HEIGHT, WIDTH, TILE = 70, 90, 48
UTM = Affine(10, 0, 500000, 0, -10, 6000000)


def pixels(bands: int, dtype: str, *, most: int = 4000, seed: int = 0) -> np.ndarray:
    """Smooth ground with noise, 1 to `most`, and 0 in one corner."""
    kind = np.dtype(dtype)
    most = min(most, 255) if kind.itemsize == 1 else most
    row, col = np.indices((HEIGHT, WIDTH))
    ground = np.stack([1 + np.sin(row / (9 + band)) * np.cos(col / (7 + band)) for band in range(bands)])
    noise = np.random.default_rng(seed).uniform(0, 0.2, ground.shape)
    image = np.clip(1 + (most - 1) * (ground + noise) / 2.2, 1, most).astype(kind)
    image[:, :12, :20] = 0
    return image


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        make: writes it to a path, which it completes by a suffix and gives.
        bands: of them, those that are image; all where None.
    """

    make: Callable[[Path], Path]
    bands: tuple[int, ...] | None = None


def geotiff(
    bands: int = 3,
    dtype: str = "uint16",
    *,
    nodata: float | None = 0,
    most: int = 4000,
    mask: bool = False,
    **profile: Any,
) -> Callable[[Path], Path]:
    """Writes a GeoTIFF with creation options."""
    colours = profile.pop("colours", None)
    table = profile.pop("table", None)
    overviews, tags = profile.pop("overviews", ()), profile.pop("tags", {})
    driver = profile.pop("driver", "GTiff")
    suffix = profile.pop("suffix", ".tif")

    def make(target: Path) -> Path:
        path = Path(f"{target}{suffix}")
        image = pixels(bands, dtype, most=most)
        settings = {"crs": "EPSG:32633", "transform": UTM, "nodata": nodata, **profile}
        size = {"count": bands, "height": HEIGHT, "width": WIDTH, "dtype": dtype}
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", driver, **size, **settings) as file:
            if colours:
                file.colorinterp = [ColorInterp[name] for name in colours]
            if not profile.get("sparse_ok"):
                file.write(image)
            else:
                file.write(image[:, :32, :32], window=((0, 32), (0, 32)))
            if table:
                file.write_colormap(1, {value: (value, 255 - value, 7, 255) for value in range(256)})
            if mask:
                valid = np.ones((HEIGHT, WIDTH), dtype=bool)
                valid[30:50, 20:60] = False
                file.write_mask(valid)
            file.update_tags(**tags)
            if overviews:
                file.build_overviews(overviews, Resampling.average)
        return path

    return make


def copied(driver: str, suffix: str, source: Callable[[Path], Path], **options: Any) -> Callable[[Path], Path]:
    """A copy of a GeoTIFF in another format, as drivers that write no pixels of their own need it."""

    def make(target: Path) -> Path:
        path = Path(f"{target}{suffix}")
        rasterio.shutil.copy(source(Path(f"{target}-source")), path, driver=driver, **options)
        return path

    return make


def vrt_with_nodata_per_band(target: Path) -> Path:
    source = geotiff(nodata=None)(Path(f"{target}-source"))
    bands = "".join(
        f'<VRTRasterBand dataType="UInt16" band="{number}"><NoDataValue>{nodata}</NoDataValue><SimpleSource>'
        f"<SourceFilename>{source}</SourceFilename><SourceBand>{number}</SourceBand></SimpleSource></VRTRasterBand>"
        for number, nodata in ((1, 0), (2, 2000), (3, 3000))
    )
    path = Path(f"{target}.vrt")
    place = "<SRS>EPSG:32633</SRS><GeoTransform>500000,10,0,6000000,0,-10</GeoTransform>"
    path.write_text(f'<VRTDataset rasterXSize="{WIDTH}" rasterYSize="{HEIGHT}">{place}{bands}</VRTDataset>')
    return path


GEOSTATIONARY = "+proj=geos +h=35785831 +lon_0=0 +sweep=y +ellps=WGS84"
SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m"
TILED = {"tiled": True, "blockxsize": 32, "blockysize": 32}

KINDS: dict[str, Kind] = {
    "BigTIFF": Kind(geotiff(bigtiff="YES", compress="deflate", **TILED)),
    "LERC": Kind(geotiff(2, "float32", nodata=-9999, compress="lerc", max_z_error=0)),
    "LERC with zstd": Kind(geotiff(2, "int16", compress="lerc_zstd", max_z_error=0, **TILED)),
    "JPEG YCbCr": Kind(geotiff(3, "uint8", nodata=None, compress="jpeg", photometric="ycbcr", **TILED)),
    "JPEG YCbCr, mask": Kind(
        geotiff(3, "uint8", nodata=None, compress="jpeg", photometric="ycbcr", mask=True, **TILED)
    ),
    "WebP": Kind(geotiff(3, "uint8", nodata=None, compress="webp", webp_lossless=True, **TILED)),
    "WebP, alpha": Kind(
        geotiff(
            4,
            "uint8",
            nodata=None,
            compress="webp",
            webp_lossless=True,
            colours=("red", "green", "blue", "alpha"),
            **TILED,
        ),
        bands=(1, 2, 3),
    ),
    "JPEG 2000": Kind(copied("JP2OpenJPEG", ".jp2", geotiff(4, nodata=None), quality=100, reversible="YES")),
    "sparse": Kind(geotiff(sparse_ok=True, **TILED)),
    "sparse without nodata": Kind(geotiff(sparse_ok=True, nodata=None, **TILED)),
    "1 bit": Kind(geotiff(1, "uint8", nodata=None, most=1, nbits=1)),
    "12 bits": Kind(geotiff(3, "uint16", nbits=12)),
    "nodata of each band": Kind(vrt_with_nodata_per_band),
    "palette": Kind(geotiff(1, "uint8", nodata=None, photometric="palette", table=True)),
    "overviews": Kind(geotiff(overviews=(2, 4), **TILED)),
    "ENVI": Kind(geotiff(driver="ENVI", suffix=".img", interleave="bip")),
    "COG": Kind(copied("COG", ".tif", geotiff(), blocksize=128, compress="zstd")),
    "planes": Kind(geotiff(5, interleave="band", compress="lzw", predictor=2)),
    "int8": Kind(geotiff(2, "int8", most=127)),
    "uint32": Kind(geotiff(2, "uint32", most=100000)),
    "float64, NaN": Kind(geotiff(2, "float64", nodata=np.nan)),
    "mask": Kind(geotiff(2, nodata=None, mask=True)),
    "mask, 5 bands": Kind(geotiff(5, nodata=None, mask=True)),
    "NODATA_VALUES": Kind(geotiff(nodata=None, tags={"NODATA_VALUES": "0 0 0"})),
    "mask and nodata": Kind(geotiff(4, mask=True)),
    "alpha": Kind(geotiff(6, nodata=None, colours=("gray", *["undefined"] * 4, "alpha")), bands=(1, 2, 3, 4, 5)),
    "south-up": Kind(geotiff(transform=Affine(10, 0, 500000, 0, 10, 6000000))),
    "rotated": Kind(geotiff(transform=UTM * Affine.rotation(25))),
    "polar stereographic": Kind(geotiff(crs="EPSG:3413", transform=Affine(30, 0, -200000, 0, -30, -1500000))),
    "geostationary": Kind(geotiff(crs=GEOSTATIONARY, transform=Affine(3000, 0, -400000, 0, -3000, 3500000))),
    "sinusoidal": Kind(geotiff(crs=SINUSOIDAL, transform=Affine(463.3, 0, 600000, 0, -463.3, 5000000))),
    "UTM south": Kind(geotiff(crs="EPSG:32733", transform=Affine(10, 0, 500000, 0, -10, 7000000))),
}


@dataclass(frozen=True)
class Truth:
    """What rasterio reads: bands (C, H, W), and where each of them holds data (C, H, W)."""

    image: np.ndarray
    each: np.ndarray

    @property
    def valid(self) -> np.ndarray:
        """(H, W), where all bands hold data."""
        return self.each.all(axis=0)


def truth(path: Path, bands: tuple[int, ...] | None) -> Truth:
    with rasterio.open(path) as file:
        indexes = list(bands or file.indexes)
        image = file.read(indexes)
        each = np.isfinite(image)
        for index, band, valid in zip(indexes, image, each, strict=True):
            nodata = file.nodatavals[index - 1]
            if nodata is not None and not np.isnan(nodata):
                valid &= band != nodata
            if "per_dataset" in {flag.name for flag in file.mask_flag_enums[index - 1]}:
                valid &= file.read_masks(index) != 0
        for index, colour in zip(file.indexes, file.colorinterp, strict=True):
            if colour == ColorInterp.alpha:
                each &= file.read(index) != 0
    return Truth(image, each)


@dataclass(frozen=True)
class Made:
    """All files, and what geoaug knows of them."""

    paths: dict[str, Path]
    catalog: Catalog
    scenes: dict[str, SceneInput]
    tiles: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("kinds")
    paths = {name: kind.make(root / name.replace(" ", "_").replace(",", "")) for name, kind in KINDS.items()}
    listed = [str(path) for path in paths.values()]
    Catalog.from_files(listed, kind="raster").save(root / "catalog.parquet")
    found = open_scenes(listed, kind="raster")
    assert not found.failures
    report = run(AugmentJob(
        scenes=listed, kind="raster", output=root / "tiles", recipe={"operations": ["RandomD4"]}, copies=0, tile=TILE,
        include_original=True, min_valid=0, device="cpu",
    ))  # fmt: skip
    assert not report.failures
    scenes = dict(zip(paths, found.scenes, strict=True))
    return Made(paths, Catalog.open(root / "catalog.parquet"), scenes, root / "tiles" / "images")


def mosaic(catalog: Catalog, shape: tuple[int, int], **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """All tiles of a scene, put together."""
    with TileDataset(catalog, TILE, **options) as dataset:
        refs = list(GridTileSampler(dataset))
        batch = dataset.read(refs)
    image = np.zeros((batch["image"].shape[1], *shape), batch["image"].numpy().dtype)
    valid = np.zeros(shape, dtype=bool)
    for ref, tile, known in zip(refs, batch["image"].numpy(), batch["valid"].numpy()[:, 0], strict=True):
        place = np.s_[ref.row : ref.row + TILE, ref.col : ref.col + TILE]
        rows, cols = valid[place].shape
        image[:, *place], valid[place] = tile[:, :rows, :cols], known[:rows, :cols]
    return image, valid


def halved(values: np.ndarray) -> np.ndarray:
    """(C, H, W) in blocks of 2 x 2 pixels: (C, H / 2, W / 2, 4)."""
    bands, height, width = values.shape
    return (
        values.reshape(bands, height // 2, 2, width // 2, 2).swapaxes(2, 3).reshape(bands, height // 2, width // 2, 4)
    )


@pytest.mark.parametrize("name", KINDS)
def test_index_info_and_tiles_are_what_rasterio_reads(made: Made, name: str) -> None:
    path, number = made.paths[name], list(KINDS).index(name)
    known, catalog, record = truth(path, KINDS[name].bands), made.catalog.select([number]), made.catalog[number]
    with rasterio.open(path) as file:
        assert record.grid.shape == file.shape == known.valid.shape
        assert record.grid.transform.almost_equals(file.transform)
        assert rasterio.CRS.from_user_input(record.grid.crs) == file.crs
        assert record.dtype == file.dtypes[0]
    assert known.valid.any()

    image, valid = mosaic(catalog, known.valid.shape)
    np.testing.assert_array_equal(valid, known.valid)
    assert image.dtype == known.image.dtype
    np.testing.assert_array_equal(image[:, valid], known.image[:, valid])

    seen = read_overview(record)
    np.testing.assert_array_equal(seen.valid, known.valid)
    np.testing.assert_array_equal(seen.image[:, valid], known.image[:, valid])
    scene = made.scenes[name]
    told = inspect_scene(scene.record, scene.sensor, scene.header)
    assert told.invalid_share == pytest.approx(1 - known.valid.mean())
    assert [(band.least, band.greatest) for band in told.bands] == [
        (values.min(), values.max()) for values in known.image[:, valid]
    ]


@pytest.mark.parametrize("name", KINDS)
def test_warped_tiles_are_means_of_valid_pixels(made: Made, name: str) -> None:
    """At twice the ground sampling distance the warp's averages have a closed form."""
    known, catalog = truth(made.paths[name], KINDS[name].bands), made.catalog.select([list(KINDS).index(name)])
    record = catalog[0]
    gsd_m = 2 * record.grid.gsd_m
    with TileDataset(catalog, TILE, gsd_m=gsd_m) as dataset:
        grid = dataset.grid(0)
    assert grid.shape == (HEIGHT // 2, WIDTH // 2)
    assert grid.transform.almost_equals(record.grid.transform * Affine.scale(2))
    image, valid = mosaic(catalog, grid.shape, gsd_m=gsd_m, resampling="average")
    each = halved(known.each)
    np.testing.assert_array_equal(valid, each.any(axis=-1).all(axis=0))
    values = np.where(each, halved(known.image).astype(np.float64), np.nan)
    expected = np.nanmean(values[:, valid], axis=-1)
    if image.dtype.kind == "f":
        np.testing.assert_allclose(image[:, valid], expected, rtol=1e-6)
        return
    for band, found, wanted in zip(record.bands, image[:, valid], expected, strict=True):
        # A mean that would be nodata steps aside from it.
        aside = 0.0 if band.nodata is None else np.abs(wanted - band.nodata) <= 0.5
        assert (np.abs(found - wanted) <= 0.5 + 0.5 * aside).all()


@pytest.mark.parametrize("name", KINDS)
def test_original_tiles_are_the_pixels_of_the_file(made: Made, name: str) -> None:
    known, scene = truth(made.paths[name], KINDS[name].bands), made.scenes[name].record
    image, valid = np.zeros_like(known.image), np.zeros_like(known.valid)
    written = sorted(made.tiles.glob(f"{scene.id}_r*_orig.tif"))
    for path in written:
        row, col = map(int, re.fullmatch(r".*_r(\d+)_c(\d+)_orig", path.stem).groups())
        place = np.s_[row : row + TILE, col : col + TILE]
        with rasterio.open(path) as file:
            assert file.transform.almost_equals(scene.grid.transform * Affine.translation(col, row))
            assert file.crs == rasterio.open(made.paths[name]).crs
            image[:, *place], valid[place] = file.read(), file.dataset_mask() != 0
    np.testing.assert_array_equal(valid, known.valid)
    np.testing.assert_array_equal(image[:, valid], known.image[:, valid])


@pytest.mark.slow  # compiles what counts
def test_statistics_are_those_of_the_pixels(made: Made) -> None:
    for number, name in enumerate(KINDS):
        known, catalog = truth(made.paths[name], KINDS[name].bands), made.catalog.select([number])
        found = survey_catalog(catalog, statistics=StatisticsPlan(catalog)).statistics
        assert found is not None
        pixels = known.image[:, known.valid].astype(np.float64)
        np.testing.assert_allclose(found.mean, pixels.mean(axis=1), rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(found.std, pixels.std(axis=1), rtol=1e-5, err_msg=name)


class Threshold(nn.Module):
    """Class 1 where the first band is above half of its range."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, image: Tensor) -> Tensor:
        over = image[:, :1] - self.level
        return torch.cat([-over, over], dim=1)


@pytest.mark.parametrize(
    "name",
    ["1 bit", "JPEG 2000", "nodata of each band", "ENVI", "mask and nodata", "alpha", "rotated", "geostationary"],
)
def test_maps_are_of_all_valid_pixels(made: Made, name: str, tmp_path: Path) -> None:
    known, scene = truth(made.paths[name], KINDS[name].bands), made.scenes[name]
    bands = len(known.image)
    level = 0.5 + int(known.image[0].max()) // 2
    stored = scene.sensor.bands[0]
    card = ModelCard(
        Architecture("resnet18", bands, 2, decoder="unet"),
        scene.sensor,
        "segmentation",
        mean=(0.0,) * bands,
        std=(1.0,) * bands,
        tile_size=48,
        classes=(ClassName("dark", (1, 2, 3)), ClassName("bright", (4, 5, 6))),
    )
    network = Threshold((level + stored.offset) / stored.quantification)
    found = predict_scene(LoadedModel(network, card), scene.record, tmp_path)
    with rasterio.open(found.classes) as file:
        classes, valid = file.read(1), file.dataset_mask() != 0
        assert file.transform.almost_equals(scene.record.grid.transform)
    np.testing.assert_array_equal(valid, known.valid)
    np.testing.assert_array_equal(classes[valid], known.image[0][valid] > level)
