"""Black and white of pictures made for the eye: estimated, written, read again, dropped where they do not belong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import ImageCms

from geoaug import get_sensor
from geoaug.errors import ConfigurationError
from geoaug.sensors import Band, Sensor, estimate_transfer, write_sensor
from geoaug.sensors.transfer import BRIGHT, DARK

RGB = get_sensor("rgb")


def picture(black: float, white: float, side: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance between `DARK` and `BRIGHT`, and the three bands of 8 bits that a camera makes of it."""
    reflectance = np.linspace(DARK, BRIGHT, side * side).reshape(side, side)
    light = (reflectance - black) / (white - black)
    display = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clip(1e-9) ** (1 / 2.4) - 0.055)
    return reflectance, np.round(255 * display.clip(0, 1)).astype(np.uint8)[None].repeat(3, 0)


@pytest.mark.parametrize(("black", "white"), [(0.0, 0.8), (-0.02, 1.0), (0.008, 0.45)])
def test_black_and_white_are_found_again(black: float, white: float) -> None:
    found = estimate_transfer(RGB, picture(black, white)[1])
    assert found.transfer == "srgb"
    for band in found.bands:
        assert band.black == pytest.approx(black, abs=0.003)
        assert band.white == pytest.approx(white, rel=0.03)


def test_invalid_pixels_say_nothing() -> None:
    image = picture(0.0, 0.8)[1]
    valid = np.ones(image.shape[1:], dtype=bool)
    valid[:20] = False
    spoilt = np.where(valid, image, 0).astype(np.uint8)
    spoilt[:, :10] = 255
    assert estimate_transfer(RGB, spoilt, valid) == estimate_transfer(RGB, image, valid)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((2, 50, 50), np.uint8), "3 bands of 'rgb'"),
        (np.zeros((3, 50, 50), np.uint16), "8 bits"),
        (np.zeros((3, 9, 9), np.uint8), "81 valid pixels"),
        (np.full((3, 50, 50), 7, np.uint8), "band 'red'"),
    ],
)
def test_what_cannot_tell_is_refused(image: np.ndarray, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        estimate_transfer(RGB, image)
    with pytest.raises(ConfigurationError, match="bright"):
        estimate_transfer(RGB, picture(0.0, 0.8)[1], bright=(0.4, 0.4))


def test_a_written_sensor_is_read_as_it_was(tmp_path: Path) -> None:
    for name in ("rgbn", "sentinel-1-grd", "sentinel-2-l1c", "landsat-8-l1"):
        sensor = get_sensor(name)
        write_sensor(sensor, tmp_path / "mine.yaml")
        assert get_sensor(tmp_path / "mine.yaml") == sensor


def test_a_white_that_is_no_brighter_than_black_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="white the greater one"):
        Band("red", black=0.5, white=0.5)
    with pytest.raises(ConfigurationError, match="optical"):
        Sensor("radar", (Band("VV"),), domain="sar", transfer="srgb")


def test_the_curve_is_the_profile_that_pictures_carry() -> None:
    """Grey of 18 % has 118 in sRGB: by the colour management that comes with Pillow, from linear XYZ."""
    profile = ImageCms.createProfile("sRGB")
    lab = ImageCms.createProfile("LAB")
    from PIL import Image

    grey = Image.new("RGB", (1, 1), (118, 118, 118))
    lightness = ImageCms.profileToProfile(grey, profile, lab, outputMode="LAB")
    assert lightness is not None
    level = np.asarray(lightness)[0, 0, 0] / 255 * 100  # CIE L* of the pixel: 49.5 for 18 %
    assert ((level + 16) / 116) ** 3 == pytest.approx(0.18, abs=0.004)
    whole = replace(RGB, bands=tuple(replace(band, white=1.0) for band in RGB.bands))
    ramp = np.arange(256, dtype=np.uint8).repeat(100)[None, None].repeat(3, 0)
    # The picture's darkest has 0 and its brightest 1: what 118 stands for follows from the curve alone.
    found = estimate_transfer(whole, ramp, dark=0.0, bright=1.0, percentiles=(0, 100))
    assert (found.bands[0].black, found.bands[0].white) == (0.0, 1.0)


def test_the_file_that_scales_its_numbers_is_no_picture(tmp_path: Path) -> None:
    from geoaug.data.catalog.inputs import open_scene

    def sensor_of(name: str, dtype: str, scale: float | None = None) -> Sensor:
        path = tmp_path / name
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=8,
            height=8,
            count=3,
            dtype=dtype,
            crs="EPSG:32633",
            transform=Affine(1, 0, 5e5, 0, -1, 5e6),
        ) as file:
            file.write(np.ones((3, 8, 8), dtype))
            file.descriptions = ("red", "green", "blue")
            if scale is not None:
                file.scales = (scale,) * 3
        scene = open_scene(path)
        assert scene.record.full_sensor().transfer == scene.sensor.transfer
        return scene.sensor

    assert sensor_of("picture.tif", "uint8").transfer == "srgb"
    for sensor in (
        sensor_of("float.tif", "float32"),
        sensor_of("scaled.tif", "uint8", 0.001),
        sensor_of("deep.tif", "uint16"),
    ):
        assert sensor.transfer is None


def test_eurosats_pictures_are_straight() -> None:
    from geoaug.data.raster.identify import identify_sensor

    found = identify_sensor("EuroSAT_RGB/Forest/Forest_1.jpg", 3, [None] * 3, "uint8", {}, [1.0] * 3, [0.0] * 3)
    assert found.sensor == get_sensor("eurosat-rgb")
    assert found.sensor.transfer is None
    elsewhere = identify_sensor("pictures/one.jpg", 3, [None] * 3, "uint8", {}, [1.0] * 3, [0.0] * 3)
    assert elsewhere.sensor == RGB
