"""`geoaug stats`: what is printed and written is what numpy finds, and wrong use is told in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from geoaug import Compose, get_sensor
from geoaug.data import Catalog
from geoaug.data.sampling.coverage import Coverage
from geoaug.statistics import Statistics


@pytest.fixture
def catalog(scene: Path, tmp_path: Path) -> Path:
    Catalog.from_files([scene]).with_column("split", ["train"]).save(tmp_path / "catalog.parquet")
    return tmp_path / "catalog.parquet"


def test_the_file_holds_what_the_pixels_are(
    geoaug: Callable[..., Any], scene: Path, labels: Path, tmp_path: Path
) -> None:
    done = geoaug("stats", scene, "-o", tmp_path / "stats.yaml", "--labels", labels, "--covariance")
    assert done.code == 0, done.err
    with rasterio.open(scene) as file:
        image = file.read()
    valid = (image != 0).all(axis=0)
    found = Statistics.open(tmp_path / "stats.yaml")
    assert found.band_names == ("B02", "B03", "B04", "B08")
    np.testing.assert_allclose(found.mean, image[:, valid].mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(image[:, valid].astype(float), bias=True), rtol=1e-9)
    with rasterio.open(labels) as file:
        ids, counts = np.unique(file.read(1)[valid], return_counts=True)
    assert found.class_counts == dict(zip(ids.tolist(), counts.tolist(), strict=True))
    assert f"{valid.sum():,} valid pixels in 1 scene;" in done.out
    assert f"{image[0][valid].mean():.1f}" in done.out
    sensor = get_sensor("sentinel-2-l2a").select(found.band_names)
    assert Compose([], sensor=sensor, normalize=tmp_path / "stats.yaml") is not None


def test_a_nodata_value_is_given_in_place_of_the_tag(geoaug: Callable[..., Any], scene: Path, tmp_path: Path) -> None:
    assert geoaug("stats", scene, "--nodata", "none", "-o", tmp_path / "stats.yaml").code == 0
    with rasterio.open(scene) as file:
        np.testing.assert_allclose(Statistics.open(tmp_path / "stats.yaml").mean, file.read().mean(axis=(1, 2)))


def test_the_catalog_learns_where_its_scenes_are_valid(geoaug: Callable[..., Any], catalog: Path) -> None:
    done = geoaug("stats", catalog, "--update-catalog", "--split", "train")
    assert done.code == 0, done.err
    assert "split 'train'" in done.out
    found = Coverage.of(Catalog.open(catalog), 0)
    assert found is not None
    assert found.valid[0, 0] == 0
    assert (found.valid.ravel()[1:] == 1).all()


def test_a_sample_tells_its_error(geoaug: Callable[..., Any], scene: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number}.tif").write_bytes(scene.read_bytes())
    done = geoaug("stats", folder, "--share", 0.5)
    assert done.code == 0, done.err
    assert "in 6 scenes (50 % of the blocks)" in done.out


def test_wrong_use_is_told(geoaug: Callable[..., Any], scene: Path, catalog: Path, tmp_path: Path) -> None:
    assert "--update-catalog needs the file of a catalog" in geoaug("stats", scene, "--update-catalog").err
    assert "leave --share out" in geoaug("stats", catalog, "--update-catalog", "--share", 0.5).err
    assert "does not exist" in geoaug("stats", scene, "-o", tmp_path / "absent" / "stats.yaml").err
    missing = geoaug("stats", catalog, "--split", "test")
    assert missing.code == 2
    assert "no split 'test'" in missing.err


def test_scenes_of_several_types_are_read_as_the_one_told(
    geoaug: Callable[..., Any], scene: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "types"
    folder.mkdir()
    with rasterio.open(scene) as file:
        image, profile = file.read(), file.profile
    for dtype in ("uint16", "int16"):
        with rasterio.open(folder / f"{dtype}.tif", "w", **{**profile, "dtype": dtype}) as file:
            file.write(image.astype(dtype))
    mixed = geoaug("stats", folder)
    assert mixed.code == 2
    assert "--dtype int32" in " ".join(mixed.err.split())
    told = geoaug("stats", folder, "--dtype", "int32")
    assert told.code == 0, told.err
    assert "int32" in told.out
    assert "'wide' is no type of pixels" in " ".join(geoaug("stats", folder, "--dtype", "wide").err.split())


def test_what_cannot_be_read_is_left_out_and_named(geoaug: Callable[..., Any], scene: Path, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("a.tif", "b.tif"):
        (folder / name).write_bytes(scene.read_bytes())
    Catalog.from_folder(folder).save(tmp_path / "two.parquet")
    (folder / "b.tif").unlink()
    failed = geoaug("stats", tmp_path / "two.parquet")
    assert failed.code == 1
    assert "b.tif" in failed.err
    done = geoaug("stats", tmp_path / "two.parquet", "--skip-errors")
    assert done.code == 1
    assert "left out" in done.err
    assert "in 1 scene;" in done.out
