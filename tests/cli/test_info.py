"""`geoaug info`: what it tells of a raster, and what it warns of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from products import make_safe

from geoaug import get_sensor
from geoaug.data import Catalog, open_scene
from geoaug.data.raster.overview import SceneInfo, inspect_scene


def inspected(path: Path, **options: str) -> SceneInfo:
    scene = open_scene(path, **options)
    return inspect_scene(scene.record, scene.sensor, scene.header, certain=scene.identification.certain)


def test_a_scene_is_described(geoaug: Callable, scene: Path) -> None:
    outcome = geoaug("info", scene)
    assert outcome.code == 0
    with rasterio.open(scene) as dataset:
        values = dataset.read(1, masked=True)
    for words in ("96 x 96 pixels, 4 bands, uint16, 10 m", "EPSG:32633", "sentinel-2-l2a (a guess)", "B08", "833"):
        assert words in outcome.out
    assert f"{values.min()}" in outcome.out
    assert f"{values.max()}" in outcome.out
    assert "2.8% of the pixels are invalid" in outcome.out


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    others = [name for name in get_sensor("sentinel-2-l2a").band_names if name not in ("B02", "B11", "B09")]
    return make_safe(tmp_path_factory.mktemp("safe"), leave_out=others)


def test_a_product_is_one_scene_with_its_grids_and_its_quality_layer(geoaug: Callable, safe: Path) -> None:
    outcome = geoaug("info", safe, "--gsd", 20)
    assert outcome.code == 0
    assert outcome.out.count("sentinel-2-l2a (certain): by the product's metadata") == 1
    for words in ("120 x 120 pixels, 3 bands, uint16, 10 m", "3 files: JP2OpenJPEG", "2023-06-17", "SCL_20m.jp2 make"):
        assert words in " ".join(outcome.out.split()), words
    assert "cut from 60 x 60 pixels of 20 m" in outcome.out
    widths = {line.split()[1]: line.split()[3] for line in outcome.out.splitlines() if " B" in line[:6]}
    assert widths == {"B02": "10", "B09": "60", "B11": "20"}


def test_a_saved_catalog_is_shown_scene_by_scene(geoaug: Callable, safe: Path, scene: Path, tmp_path: Path) -> None:
    Catalog.from_files([safe, scene]).save(tmp_path / "c.parquet")
    outcome = geoaug("info", tmp_path / "c.parquet", "--bands", "B02")
    assert outcome.code == 0
    assert outcome.out.count(" size ") == 2
    assert geoaug("info", tmp_path / "c.parquet", "--split", "train").code == 2


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(geoaug: Callable, scene: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.tif").write_text("nothing")
    outcome = geoaug("info", tmp_path / "broken.tif", scene)
    assert outcome.code == 1
    assert "broken.tif: not a raster" in outcome.err
    assert "EPSG:32633" in outcome.out


def test_statistics_are_those_of_the_valid_pixels(scene: Path) -> None:
    info = inspected(scene, bands="B08,B02")
    with rasterio.open(scene) as dataset:
        stack = dataset.read([4, 1])
    valid = (stack != 0).all(axis=0)
    for found, band in zip(info.bands, stack, strict=True):
        inside = band[valid].astype(float)
        assert (found.least, found.greatest) == (inside.min(), inside.max())
        assert found.mean == pytest.approx(inside.mean())
        assert (found.low, found.high) == pytest.approx(tuple(np.percentile(inside, [2, 98])))
    assert info.invalid_share == pytest.approx(1 - valid.mean())


def warnings_of(path: Path, array: np.ndarray, **profile: object) -> str:
    settings = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500000, 0, -10, 5400000), **profile}
    count, height, width = array.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=count, height=height, width=width, dtype=array.dtype, **settings
    ) as dataset:
        dataset.write(array)
    info = inspected(path)
    return " | ".join((*info.warnings, *info.remarks))


def test_what_will_hurt_is_said(tmp_path: Path) -> None:
    plain = np.full((5, 40, 40), 3000, dtype=np.uint16)
    collar = plain.copy()
    collar[:, :8] = 0
    assert "no nodata value, and 20.0% of the pixels are 0" in warnings_of(tmp_path / "collar.tif", collar)
    assert "no nodata value" not in warnings_of(tmp_path / "tagged.tif", collar, nodata=0)
    assert "the bands are unknown" in warnings_of(tmp_path / "unknown.tif", plain)
    assert "no CRS" in warnings_of(tmp_path / "bare.tif", plain, crs=None)
    degrees = Affine(0.001, 0, 10, 0, -0.001, 50)
    assert "in degrees" in warnings_of(tmp_path / "degrees.tif", plain, crs="EPSG:4326", transform=degrees)
    oblong = Affine(10, 0, 0, 0, -20, 0)
    assert "not square" in warnings_of(tmp_path / "oblong.tif", plain, transform=oblong)
    turned = Affine.rotation(20) * Affine.scale(10, -10)
    assert "turned by" in warnings_of(tmp_path / "turned.tif", plain, transform=turned)
    south_up = Affine(10, 0, 0, 0, 10, 0)
    assert "south-up" in warnings_of(tmp_path / "south.tif", plain, transform=south_up)
    assert "scale is not that of the sensor" in warnings_of(tmp_path / "small.tif", (plain // 1000))
    strips = np.ones((1, 2304, 2304), dtype=np.uint16)
    assert "stored in strips" in warnings_of(tmp_path / "strips.tif", strips, blockysize=256)
    assert "stored in" not in warnings_of(tmp_path / "tiles.tif", strips, tiled=True, blockxsize=256, blockysize=256)
    assert "give such rasters as labels (--labels)" in warnings_of(
        tmp_path / "SCL.tif", np.ones((1, 40, 40), dtype=np.uint8)
    )


def test_strips_of_single_rows_are_warned_of_in_any_large_raster(tmp_path: Path) -> None:
    large, small = np.ones((1, 1500, 1500), dtype=np.uint8), np.ones((1, 600, 600), dtype=np.uint8)
    assert "stored in strips of 1 row:" in warnings_of(tmp_path / "large.tif", large, blockysize=1)
    assert "stored in" not in warnings_of(tmp_path / "small.tif", small, blockysize=1)
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    assert "stored in" not in warnings_of(tmp_path / "tiles.tif", large, **tiles)


def test_a_missing_nodata_value_is_noted_and_zeros_make_it_a_warning(tmp_path: Path) -> None:
    for dtype in (np.uint16, np.float32):
        plain = np.full((5, 40, 40), 3000, dtype=dtype)
        assert "names no nodata value" in warnings_of(tmp_path / "plain.tif", plain)
        assert "nodata value" not in warnings_of(tmp_path / "tagged.tif", plain, nodata=0)
        plain[:, :8] = 0
        said = warnings_of(tmp_path / "collar.tif", plain)
        assert "20.0% of the pixels are 0" in said
        assert "names no nodata value" not in said


def test_a_nodata_value_is_given_in_place_of_the_tag(geoaug: Callable, tmp_path: Path) -> None:
    """The tag's value is in a quarter of the pixels, the true one in half."""
    image = np.full((4, 96, 96), 1000, "uint16")
    image[:, :48], image[:, 48:72] = 5, 0
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", "GTiff", width=96, height=96, count=4, dtype="uint16", nodata=0, crs="EPSG:32633",
        transform=Affine(10, 0, 500000, 0, -10, 6000000),
    ) as file:  # fmt: skip
        file.write(image)
    for given, share in (((), "25.0%"), (("--nodata", 5), "50.0%"), (("--nodata", "none"), "0.0%")):
        assert f"; {share} of the pixels are invalid" in geoaug("info", path, *given).out
    catalog = tmp_path / "catalog.parquet"
    assert geoaug("index", path, "--nodata", 5, "-o", catalog).code == 0
    assert geoaug("index", "--refresh", "-o", catalog).code == 0
    [record] = Catalog.open(catalog)
    assert record.nodata == 5
    out = tmp_path / "tiles"
    job = ("--nodata", 5, "--tile", 96, "--copies", 0, "--include-original", "--min-valid", 0, "-o", out)
    assert geoaug("augment", path, *job).code == 0
    [tile] = (out / "images").iterdir()
    with rasterio.open(tile) as file:
        assert file.nodata == 5
        np.testing.assert_array_equal(file.read(), image)
    assert geoaug("info", path, "--nodata", 0.5).code == 2
