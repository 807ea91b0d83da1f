"""One pass over the pixels, against what rasterio and numpy find in the same files."""

import resource
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from scenes import PLACE, UTM32, catalog_of, numbers, scene_of, write_raster

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.sampling.coverage import Coverage
from geoaug.data.sampling.survey import StatisticsPlan, survey_catalog
from geoaug.errors import ConfigurationError


def holed(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    image = numbers(shape, seed=seed)
    image[:, : shape[1] // 2, : shape[2] // 3] = 0
    return image


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64}])
def test_validity_and_classes_are_those_of_the_pixels(tmp_path: Path, layout: dict[str, object]) -> None:
    image = holed((2, 300, 410))
    path = write_raster(tmp_path / "a.tif", image, nodata=0, **layout)
    labels = numbers((1, 300, 410), "uint8", seed=3) % 5
    labels[labels == 4] = 255
    write_raster(tmp_path / "labels.tif", labels)
    found = survey_catalog(catalog_of(path), labels=tmp_path / "labels.tif", memory_mb=1, threads=4)
    valid = (image != 0).all(axis=0)
    expected = Coverage.count(valid, labels[0])
    kept = Coverage.of(found.catalog, 0)
    assert kept is not None
    assert kept.class_ids == expected.class_ids == (0, 1, 2, 3)
    np.testing.assert_array_equal(kept.class_pixels, expected.class_pixels)
    np.testing.assert_allclose(kept.valid, expected.valid, atol=1 / 255)
    assert found.catalog.column("valid_share")[0] == pytest.approx(valid.mean(), abs=1e-6)
    counts = {row["id"]: row["count"] for row in found.catalog.table.column("class_counts").to_pylist()[0]}
    assert counts == expected.class_counts
    outline = shapely.from_wkb(found.catalog.table.column("valid_geometry").to_pylist()[0])
    assert outline.within(found.catalog.footprints[0].buffer(1e-6))


def test_what_was_found_is_saved_and_reopened(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", holed((1, 64, 64)), nodata=0)
    survey_catalog(catalog_of(path)).catalog.save(tmp_path / "catalog.parquet")
    again = Catalog.open(tmp_path / "catalog.parquet")
    kept = Coverage.of(again, 0)
    assert kept is not None
    assert kept.valid.min() == 0
    assert len(geopandas.read_parquet(tmp_path / "catalog.parquet")) == 1


def test_statistics_come_from_the_same_pass(tmp_path: Path) -> None:
    images = [holed((2, 120, 130), seed) for seed in range(3)]
    paths = [write_raster(tmp_path / f"s{seed}.tif", image, nodata=0) for seed, image in enumerate(images)]
    catalog = catalog_of(*paths)
    told: list[tuple[int, int]] = []
    plan = StatisticsPlan(catalog.select([0, 2]))
    found = survey_catalog(catalog, statistics=plan, progress=lambda done, total: told.append((done, total)))
    assert [Coverage.of(found.catalog, place) is None for place in range(3)] == [False] * 3
    assert found.statistics is not None
    pixels = np.concatenate([image[:, (image != 0).all(axis=0)] for image in (images[0], images[2])], axis=1)
    assert found.statistics.count == pixels.shape[1]
    np.testing.assert_allclose(found.statistics.mean, pixels.mean(axis=1), rtol=1e-12)
    assert told[-1] == (3 * 120 * 130, 3 * 120 * 130)
    assert told == sorted(told)


def test_vector_labels_are_counted_on_the_grid_of_each_scene(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", numbers((1, 100, 100)))
    fields = geopandas.GeoDataFrame(
        {"crop": ["wheat", "maize"]},
        geometry=[shapely.box(600000, 5399500, 600300, 5400000), shapely.box(600500, 5399000, 600700, 5399100)],
        crs=UTM32,
    )
    fields.to_crs("EPSG:4326").to_file(tmp_path / "fields.gpkg")
    found = survey_catalog(catalog_of(path), labels=tmp_path / "fields.gpkg", label_field="crop").catalog
    assert found.classes == ("maize", "wheat")
    kept = Coverage.of(found, 0)
    assert kept is not None
    assert kept.class_counts == {0: 20 * 10, 1: 30 * 50}


def test_scenes_without_a_way_to_be_invalid_are_not_read(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", numbers((1, 100, 100)))
    catalog = catalog_of(path)
    path.unlink()
    kept = Coverage.of(survey_catalog(catalog).catalog, 0)
    assert kept is not None
    assert (kept.valid == 1).all()


def test_coarser_bands_are_kept_on_the_grid_of_the_scene(tmp_path: Path) -> None:
    fine = write_raster(tmp_path / "fine.tif", numbers((1, 101, 101)))
    coarse_image = holed((1, 51, 51))
    coarse = write_raster(tmp_path / "coarse.tif", coarse_image, transform=PLACE * Affine.scale(2), nodata=0)
    catalog = Catalog.from_records([scene_of(fine, coarse)])
    kept = Coverage.of(survey_catalog(catalog, bands=["B2"]).catalog, 0)
    assert kept is not None
    valid = (coarse_image[0] != 0).repeat(2, axis=0).repeat(2, axis=1)[:101, :101]
    np.testing.assert_allclose(kept.valid, Coverage.count(valid).valid, atol=1 / 255)


def test_a_sample_is_no_survey(tmp_path: Path) -> None:
    catalog = catalog_of(write_raster(tmp_path / "a.tif", numbers((1, 100, 100))))
    with pytest.raises(ConfigurationError, match="share must be 1"):
        survey_catalog(catalog, statistics=StatisticsPlan(share=0.5))


@pytest.mark.slow
def test_a_huge_scene_is_surveyed_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=60000, width=60000, dtype="uint8", crs=UTM32, transform=PLACE,
        tiled=True, blockxsize=512, blockysize=512, SPARSE_OK=True, nodata=0, compress="deflate",
    ) as file:  # fmt: skip
        file.write(numbers((1, 700, 700), "uint8"), window=rasterio.windows.Window(30000, 40000, 700, 700))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = survey_catalog(catalog_of(path), statistics=StatisticsPlan(), memory_mb=256)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert found.statistics is not None
    assert found.statistics.count == 700 * 700
    assert found.catalog.column("valid_share")[0] == pytest.approx(700 * 700 / 3.6e9, rel=1e-3)
    assert grown < 384, f"grew by {grown:.0f} MB"
