"""Statistics against numpy on the valid pixels of all scenes put together."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from affine import Affine
from scenes import PLACE, UTM32, catalog_of, numbers, scene_of, write_raster

from geoaug.data.catalog.catalog import Catalog
from geoaug.data.sampling.stats import StatisticsTally
from geoaug.data.sampling.survey import StatisticsPlan, _Every, catalog_statistics, survey_catalog
from geoaug.errors import ConfigurationError, RasterError
from geoaug.sensors import generic_sensor
from geoaug.statistics import Statistics

QS = (0.0, 1.0, 12.5, 50.0, 97.0, 100.0)


def made(seed: int, dtype: str, shape: tuple[int, int, int] = (3, 217, 330)) -> npt.NDArray[Any]:
    """Skewed numbers over the whole range of a type, with a corner of zeros, which stand for no data."""
    generator = np.random.default_rng(seed)
    if dtype.startswith("float"):
        image = generator.normal(0.2, 0.3, shape) * np.exp(generator.normal(0, 2, shape))
    else:
        limits = np.iinfo(dtype)
        image = np.clip(limits.min + generator.gamma(2, (limits.max - limits.min) / 8, shape), limits.min, limits.max)
        image = np.where(np.floor(image) == 0, 1, image)
    image = image.astype(dtype)
    image[:, 30:90, : 40 + seed] = 0
    return image


def valid_pixels(*images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(bands, pixels): those in which no band is zero."""
    return np.concatenate([image[:, (image != 0).all(axis=0)] for image in images], axis=1)


def scenes(folder: Path, dtype: str, **profile: Any) -> tuple[Catalog, npt.NDArray[Any]]:
    images = [made(0, dtype), made(1, dtype, (3, 90, 513))]
    paths = [write_raster(folder / f"s{number}.tif", image, nodata=0, **profile) for number, image in enumerate(images)]
    return catalog_of(*paths), valid_pixels(*images)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("memory_mb", [1, 1024])
def test_whole_numbers_are_counted_exactly(tmp_path: Path, dtype: str, memory_mb: int) -> None:
    catalog, pixels = scenes(tmp_path, dtype, tiled=True, blockxsize=64, blockysize=64)
    found = catalog_statistics(catalog, percentiles=QS, covariance=True, memory_mb=memory_mb, threads=3)
    assert (found.count, found.scenes) == (pixels.shape[1], 2)
    assert found.percentile_error == 0
    for band, pixel_values in zip(found.bands, pixels, strict=True):
        np.testing.assert_allclose(band.mean, pixel_values.mean(dtype=np.float64), rtol=1e-12)
        np.testing.assert_allclose(band.std, pixel_values.std(dtype=np.float64), rtol=1e-12)
        assert (band.minimum, band.maximum) == (pixel_values.min(), pixel_values.max())
        np.testing.assert_allclose(list(band.percentiles.values()), np.percentile(pixel_values, QS), rtol=1e-12)
        values, counts = np.unique(pixel_values, return_counts=True)
        assert band.histogram is not None
        assert band.histogram.exact
        np.testing.assert_array_equal(band.histogram.values, values)
        np.testing.assert_array_equal(band.histogram.counts, counts)
        edges = np.linspace(band.minimum, band.maximum, 38)
        np.testing.assert_array_equal(band.histogram.binned(edges), np.histogram(pixel_values, edges)[0])
    np.testing.assert_allclose(found.covariance, np.cov(pixels.astype(np.float64), bias=True), rtol=1e-9)


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow), pytest.param("int32", marks=pytest.mark.slow)]
)
def test_other_numbers_have_moments_to_rounding_and_percentiles_within_what_is_said(tmp_path: Path, dtype: str) -> None:
    catalog, pixels = scenes(tmp_path, dtype, tiled=True, blockxsize=64, blockysize=64)
    found = catalog_statistics(catalog, percentiles=QS, covariance=True, memory_mb=1)
    assert found.count == pixels.shape[1]
    assert found.percentile_error == 2**-10
    for band, pixel_values in zip(found.bands, pixels, strict=True):
        exact = pixel_values.astype(np.float64)
        np.testing.assert_allclose(band.mean, exact.mean(), rtol=1e-9, atol=1e-12 * exact.std())
        np.testing.assert_allclose(band.std, exact.std(), rtol=1e-9)
        assert (band.minimum, band.maximum) == (exact.min(), exact.max())
        # Between two neighbours that differ more than that, interpolation is of both.
        expected = np.percentile(exact, QS)
        np.testing.assert_allclose(list(band.percentiles.values()), expected, rtol=1.01 * found.percentile_error)
    np.testing.assert_allclose(found.covariance, np.cov(pixels.astype(np.float64), bias=True), rtol=1e-9)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    """The formula by sums of squares would have none left."""
    image = (1e8 + np.random.default_rng(0).normal(0, 1, (1, 300, 300))).astype(np.float64)
    tally = StatisticsTally(generic_sensor(1, 1.0), "float64")
    for rows in np.split(image, 6, axis=1):
        tally.add(tally.count(rows, np.ones(rows.shape[1:], dtype=bool)))
    band = tally.finish((50.0,), scenes=1).bands[0]
    assert band.std == pytest.approx(image.std(), rel=1e-9)


def test_threads_and_memory_change_no_digit(tmp_path: Path) -> None:
    catalog, _ = scenes(tmp_path, "float32", tiled=True, blockxsize=16, blockysize=16)
    texts = [str(catalog_statistics(catalog, threads=threads).to_dict()) for threads in (1, 4, 4)]
    assert texts[0] == texts[1] == texts[2]


def test_a_pixel_counts_only_where_all_bands_and_the_quality_layer_say_so(tmp_path: Path) -> None:
    image = made(0, "uint16")
    image[1, 200:, 100:] = 0
    found = catalog_statistics(catalog_of(write_raster(tmp_path / "a.tif", image, nodata=0)))
    assert found.count == valid_pixels(image).shape[1]
    assert found.bands[0].mean == pytest.approx(valid_pixels(image)[0].mean(), rel=1e-12)


def test_scenes_of_different_offsets_are_brought_to_one_scaling(tmp_path: Path) -> None:
    from dataclasses import replace

    images = [made(seed, "uint16") // 2 for seed in range(2)]
    records = []
    for number, (image, offset) in enumerate(zip(images, (0.0, -1000.0), strict=True)):
        image[(image > 0) & (image < 1200)] = 1200
        record = scene_of(write_raster(tmp_path / f"s{number}.tif", image, nodata=0))
        bands = tuple(replace(band, quantification=10000.0, offset=offset) for band in record.bands)
        records.append(replace(record, bands=bands))
    found = catalog_statistics(Catalog.from_records(records))
    first, second = (valid_pixels(image) for image in images)
    reflectance = np.concatenate([first / 10000, (second - 1000.0) / 10000], axis=1)
    sensor = Catalog.from_records(records)[1].full_sensor()
    mean, std = found.normalization(sensor)
    np.testing.assert_allclose(mean, reflectance.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(std, reflectance.std(axis=1), rtol=1e-9)


def test_numbers_that_outgrow_their_stored_type_by_a_shift_are_measured_in_the_type_told(tmp_path: Path) -> None:
    from dataclasses import replace

    image = made(0, "uint16")
    image[image > 0] = np.maximum(image[image > 0], 65000)
    records = []
    for number, offset in enumerate((0.0, -1000.0)):
        record = scene_of(write_raster(tmp_path / f"s{number}.tif", image, nodata=0))
        records.append(replace(record, bands=tuple(replace(band, offset=offset) for band in record.bands)))
    found = catalog_statistics(Catalog.from_records(records), dtype="int32")
    valid = valid_pixels(image).astype(np.int64)
    assert [band.maximum for band in found.bands] == (valid.max(axis=1) + 1000).tolist()
    assert [band.minimum for band in found.bands] == valid.min(axis=1).tolist()


def test_bands_of_other_resolutions_are_measured_as_tiles_are_read(tmp_path: Path) -> None:
    from geoaug.data.loading.dataset import TileDataset

    fine = write_raster(tmp_path / "fine.tif", made(0, "uint16", (1, 128, 128)))
    coarse = write_raster(tmp_path / "coarse.tif", made(1, "uint16", (1, 64, 64)), transform=PLACE * Affine.scale(2))
    catalog = Catalog.from_records([scene_of(fine, coarse)])
    found = catalog_statistics(catalog)
    with_tile = TileDataset(catalog, 128).read([_first()])
    image = with_tile["image"].numpy()[0][:, with_tile["valid"].numpy()[0, 0]]
    np.testing.assert_allclose(found.mean, image.mean(axis=1), rtol=1e-12)


def test_a_sample_is_near_the_truth_by_about_the_error_it_states(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(1024), np.arange(1024))[None] % 3000 + 1
    noisy = (smooth + np.random.default_rng(0).integers(0, 500, smooth.shape)).astype(np.uint16)
    path = write_raster(tmp_path / "a.tif", noisy, tiled=True, blockxsize=64, blockysize=64)
    away = []
    for seed in range(12):
        found = catalog_statistics(catalog_of(path), share=0.25, seed=seed, memory_mb=1, threads=16)
        band = found.bands[0]
        assert found.share == 0.25
        assert 0.15 < found.count / noisy.size < 0.35
        assert band.mean_error > 0
        away.append((band.mean - noisy.mean()) / band.mean_error)
    assert 0.4 < np.sqrt(np.mean(np.square(away))) < 2.0


@pytest.mark.parametrize("dtype", ["int16", pytest.param("float32", marks=pytest.mark.slow)])
def test_a_file_gives_back_every_number(tmp_path: Path, dtype: str) -> None:
    catalog, _ = scenes(tmp_path, dtype)
    found = catalog_statistics(catalog, covariance=True)
    for name in ("stats.yaml", "stats.json"):
        found.save(tmp_path / name)
        again, content = Statistics.open(tmp_path / name).to_dict(), found.to_dict()
        for key in content:
            assert again[key] == content[key], key
    assert "\n  B1:\n    mean: " in (tmp_path / "stats.yaml").read_text()


@pytest.mark.parametrize("text", ["", "bands: {}", "[1, 2", "geoaug_statistics: 2", '{"geoaug_statistics": 1}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "stats.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match="is no file of geoaug stats"):
        Statistics.open(tmp_path / "stats.yaml")
    with pytest.raises(ConfigurationError, match="geoaug stats"):
        Statistics.open(tmp_path / "absent.yaml")


def test_rare_classes_weigh_more() -> None:
    weights = Statistics((), 100, 1, class_counts={0: 60, 1: 30, 3: 10}).class_weights()
    assert weights[2] == 0
    np.testing.assert_allclose(np.array(weights)[[0, 1, 3]] * [60, 30, 10], weights[0] * 60)
    assert sum(weights) == pytest.approx(3)


def test_a_damaged_block_is_an_error_or_counted(tmp_path: Path) -> None:
    image = made(0, "uint16", (1, 256, 256))
    image[image == 0] = 1
    path = write_raster(
        tmp_path / "a.tif", image, tiled=True, blockxsize=64, blockysize=64, compress="deflate", nodata=0
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = b"\xff" * 3000
    path.write_bytes(bytes(content))
    with pytest.raises(RasterError, match="scene 'a'"):
        catalog_statistics(catalog_of(path), memory_mb=1, threads=16)
    found = survey_catalog(catalog_of(path), on_error="skip", memory_mb=1, threads=16)
    assert found.skipped
    assert all("scene 'a'" in line for line in found.skipped)
    assert 0 < found.catalog.column("valid_share")[0] < 1


def _first() -> Any:
    from geoaug.data.raster.record import TileRef

    return TileRef(0, 0, 0)


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    catalog, _ = scenes(tmp_path, "uint16")
    with pytest.raises(ConfigurationError, match="share is 0"):
        catalog_statistics(catalog, share=0.0)
    with pytest.raises(ConfigurationError, match="no statistics of band 'B9'"):
        catalog_statistics(catalog).select(["B9"])


def test_ground_that_belongs_to_other_splits_does_not_count(tmp_path: Path) -> None:
    import shapely
    from rasterio.warp import transform_geom

    image = made(0, "uint16", (1, 100, 100))
    path = write_raster(tmp_path / "a.tif", image)
    ground = shapely.box(600000 + 200, 5400000 - 700, 600000 + 600, 5400000 - 100)
    there = shapely.geometry.shape(transform_geom(UTM32, "EPSG:4326", shapely.geometry.mapping(ground.segmentize(10))))
    catalog = catalog_of(path).with_column("region", [shapely.to_wkb(there)])
    found = catalog_statistics(catalog)
    assert found.count == 60 * 40
    assert found.bands[0].mean == pytest.approx(image[0, 10:70, 20:60].mean(), rel=1e-12)


@pytest.mark.parametrize(("share", "read"), [(0.7, 0.7), (0.4, 0.4), (1 / 3, 1 / 3), (0.05, 0.05), (0.995, 1.0)])
def test_a_sample_reads_the_share_that_it_states(tmp_path: Path, share: float, read: float) -> None:
    every = _Every(share, 0)
    assert np.mean([every.next() for _ in range(3000)]) == pytest.approx(read, abs=0.011)
    catalog = catalog_of(*(write_raster(tmp_path / f"{n}.tif", numbers((1, 32, 32), seed=n)) for n in range(9)))
    found = catalog_statistics(catalog, share=share, seed=3) if share > 0.3 else None
    if found is not None:
        assert found.share == pytest.approx(found.count / (9 * 32 * 32))
        assert found.share == pytest.approx(share, abs=0.17)
        assert (found.share < 1) == (found.bands[0].mean_error > 0)


def test_scenes_that_do_not_fit_or_have_no_labels_are_left_out_by_name(tmp_path: Path) -> None:
    bands = {"a": 2, "b": 2, "lacking": 1}
    paths = [write_raster(tmp_path / f"{name}.tif", numbers((count, 64, 64))) for name, count in bands.items()]
    found = survey_catalog(catalog_of(*paths), coverage=False, statistics=StatisticsPlan(), on_error="skip")
    assert [line for line in found.skipped if "scene 'lacking'" in line]
    far = write_raster(tmp_path / "far.tif", numbers((2, 64, 64)), transform=Affine(10, 0, 700000, 0, -10, 5400000))
    labels = write_raster(tmp_path / "labels.tif", np.ones((1, 64, 64), np.uint8))
    catalog = catalog_of(paths[0], far)
    with pytest.raises(RasterError, match="do not reach it"):
        survey_catalog(catalog, coverage=False, statistics=StatisticsPlan(), labels=labels)
    found = survey_catalog(catalog, statistics=StatisticsPlan(), labels=labels, on_error="skip")
    assert [line for line in found.skipped if "scene 'far'" in line and "do not reach it" in line]
    assert found.statistics is not None
    assert found.statistics.scenes == 1
