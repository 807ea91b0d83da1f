"""The made scene must look like what the sensor would have seen, and be written as an ordinary GeoTIFF."""

import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoaug.data.synthetic.made_scene import NO_LABEL, SyntheticScene, make_scene, write_scene
from geoaug.errors import ConfigurationError
from geoaug.sensors import get_sensor


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return make_scene(size=384, seed=5)


def spectrum(scene: SyntheticScene, class_name: str) -> dict[str, float]:
    """Median reflectance per band of a class."""
    pixels = scene.image[:, scene.labels == scene.class_names.index(class_name)]
    return dict(zip(scene.band_names, np.median(pixels, axis=1) / 10000, strict=True))


def test_a_scene_has_the_sensors_bands_and_stored_types(scene: SyntheticScene) -> None:
    assert scene.image.shape == (13, 384, 384)
    assert scene.image.dtype == np.uint16
    assert scene.labels.shape == (384, 384)
    assert scene.labels.dtype == np.uint8
    assert scene.band_names == get_sensor("sentinel-2-l1c").band_names
    assert (scene.transform.a, scene.transform.e) == (10.0, -10.0)


def test_the_seed_alone_decides() -> None:
    first, again, other = make_scene(128, seed=3), make_scene(128, seed=3), make_scene(128, seed=4)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert np.mean(first.image != other.image) > 0.5


def test_every_class_is_there_and_labels_are_no_others(scene: SyntheticScene) -> None:
    found = set(np.unique(scene.labels).tolist())
    assert found == {*range(len(scene.class_names)), NO_LABEL}


def test_the_wedge_beyond_the_swath_is_nodata_and_nothing_else_is(scene: SyntheticScene) -> None:
    empty = scene.image == scene.nodata
    share = empty.all(axis=0).mean()
    assert 0.03 < share < 0.2
    np.testing.assert_array_equal(scene.labels == NO_LABEL, empty.any(axis=0))
    # One connected wedge at the eastern edge: once a row has left the swath, it does not come back.
    for band in empty:
        assert not np.any(band[:, :-1] & ~band[:, 1:])
    # Bands end at slightly different places, so a few pixels hold data in some bands only.
    assert 0 < np.count_nonzero(empty.any(axis=0) & ~empty.all(axis=0)) < 0.01 * empty[0].size


def test_classes_have_the_spectra_that_their_names_promise(scene: SyntheticScene) -> None:
    forest, water, soil = (spectrum(scene, name) for name in ("broadleaf forest", "water", "bare soil"))
    built, conifer = spectrum(scene, "built-up"), spectrum(scene, "conifer forest")

    def ndvi(bands: dict[str, float]) -> float:
        return (bands["B08"] - bands["B04"]) / (bands["B08"] + bands["B04"])

    assert ndvi(forest) > 0.6 > ndvi(built) > 0.2
    assert ndvi(soil) < 0.35
    assert ndvi(water) < 0.0
    assert water["B11"] < 0.02 < 0.15 < soil["B11"]
    assert forest["B05"] < 0.5 * forest["B06"] < forest["B07"]  # the red edge
    assert forest["B03"] > forest["B04"]
    assert conifer["B08"] < 0.8 * forest["B08"]
    rapeseed = spectrum(scene, "rapeseed")
    assert rapeseed["B03"] > spectrum(scene, "cereal")["B03"] + 0.02  # in flower


def test_the_air_shows_in_the_blue_and_the_water_vapour_bands(scene: SyntheticScene) -> None:
    water, forest = spectrum(scene, "water"), spectrum(scene, "broadleaf forest")
    assert water["B01"] > water["B02"] > water["B03"] > water["B04"]
    assert 0.09 < water["B01"] < 0.15
    assert forest["B09"] < 0.4 * forest["B8A"]
    assert max(spectrum(scene, name)["B10"] for name in scene.class_names) < 0.003


def test_medians_lie_near_those_of_real_chips(scene: SyntheticScene) -> None:
    # Median TOA reflectance of EuroSAT's multispectral Forest and SeaLake chips: B02, B03, B04, B08, B11, B12.
    bands = ("B02", "B03", "B04", "B08", "B11", "B12")
    real = {
        "broadleaf forest": (0.081, 0.068, 0.041, 0.287, 0.143, 0.055),
        "water": (0.086, 0.067, 0.041, 0.022, 0.004, 0.002),
    }
    for class_name, expected in real.items():
        seen = spectrum(scene, class_name)
        np.testing.assert_allclose([seen[band] for band in bands], expected, rtol=0.25, atol=0.012)


def test_coarse_bands_are_constant_within_their_own_pixels(scene: SyntheticScene) -> None:
    sensor = get_sensor("sentinel-2-l1c")
    inside = scene.image[:, :192, :192]
    for band, plane in zip(sensor.bands, inside, strict=True):
        pixels = int((band.gsd_m or 0) // 10)
        blocks = plane[: 192 // pixels * pixels].reshape(192 // pixels, pixels, 192 // pixels, pixels)
        assert np.ptp(blocks.astype(int), axis=(1, 3)).max() == 0
        assert len(np.unique(blocks[:, 0, :, 0])) > 5


def test_values_vary_within_a_class_as_they_do_in_nature(scene: SyntheticScene) -> None:
    # EuroSAT forest chips have a deviation of about 0.03 to 0.05 in B08 within a chip, crops more, water next to none.
    near_infrared = scene.image[7] / 10000
    spreads = {name: near_infrared[scene.labels == number].std() for number, name in enumerate(scene.class_names)}
    assert 0.015 < spreads["broadleaf forest"] < 0.08
    assert spreads["cereal"] > 0.02


def test_too_small_a_scene_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 96"):
        make_scene(64)


def test_written_files_hold_the_scene(tmp_path: Path) -> None:
    scene = make_scene(100, seed=1)
    paths = write_scene(tmp_path / "new" / "folder", scene=scene)
    with rasterio.open(paths.image) as raster:
        np.testing.assert_array_equal(raster.read(), scene.image)
        assert raster.descriptions == scene.band_names
        assert raster.nodata == scene.nodata
        assert raster.crs.to_string() == scene.crs
        assert raster.transform == scene.transform
        assert raster.block_shapes == [(256, 256)] * 13
    with rasterio.open(paths.labels) as raster:
        np.testing.assert_array_equal(raster.read(1), scene.labels)
        assert raster.nodata == NO_LABEL
        assert raster.transform == scene.transform
        assert raster.tags()["CLASS_0"] == "water"
        assert raster.colormap(1)[0][3] == 255
        assert raster.colormap(1)[NO_LABEL][3] == 0
    assert sorted(path.name for path in paths.image.parent.iterdir()) == ["labels.tif", "scene.tif"]


def test_writing_again_replaces_the_files(tmp_path: Path) -> None:
    write_scene(tmp_path, size=100, seed=1)
    paths = write_scene(tmp_path, size=100, seed=2)
    with rasterio.open(paths.image) as raster:
        np.testing.assert_array_equal(raster.read(), make_scene(100, seed=2).image)


@pytest.mark.slow
def test_a_full_scene_takes_less_than_ten_seconds() -> None:
    start = time.process_time()
    make_scene(1024, seed=0)
    assert time.process_time() - start < 10
