"""Radar in another unit than its sensor says is questioned where its pixels are read; the default recipe on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geoaug import get_sensor
from geoaug.data import Catalog, catalog_statistics
from geoaug.data.catalog.inputs import open_scenes
from geoaug.data.raster.overview import inspect_scene
from geoaug.errors import ConfigurationError
from geoaug.io.augment_tiles import AugmentJob, AugmentReport, run
from geoaug.sensors import doubt_of_backscatter

RANDOM = np.random.default_rng(0)
STORED = {
    "amplitude": (RANDOM.gamma(4, 50, (2, 64, 64)) + 1).astype("uint16"),
    "db": RANDOM.normal(-12, 3, (2, 64, 64)).astype("float32"),
    "power": RANDOM.gamma(4, 0.02, (2, 64, 64)).astype("float32"),
}
SENSORS = {"amplitude": "sentinel-1-grd", "db": "sentinel-1-db", "power": "sentinel-1-power"}
DOUBTED = {
    ("db", "amplitude"): "sentinel-1-db",
    ("db", "power"): "sentinel-1-db",
    ("amplitude", "db"): "sentinel-1-grd",
}


def put(path: Path, stored: str) -> Path:
    pixels = STORED[stored]
    with rasterio.open(
        path, "w", driver="GTiff", width=64, height=64, count=2, dtype=pixels.dtype, crs="EPSG:32633",
        transform=Affine(10, 0, 500000, 0, -10, 5000000),
    ) as file:  # fmt: skip
        file.write(pixels)
        file.descriptions = ("VV", "VH")
    return path


def augment(path: Path, output: Path, **changes: Any) -> AugmentReport:
    return run(AugmentJob([str(path)], output, tile=32, copies=1, device="cpu", **changes))


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("said", STORED)
def test_a_unit_that_cannot_be_is_questioned_by_info_stats_and_augment(tmp_path: Path, stored: str, said: str) -> None:
    path = put(tmp_path / "scene.tif", stored)
    sensor, remedy = SENSORS[said], DOUBTED.get((stored, said))
    [scene] = open_scenes([str(path)], sensor=sensor).scenes
    told = [warning for warning in inspect_scene(scene.record, scene.sensor).warnings if "takes numbers" in warning]
    measured = catalog_statistics(Catalog.from_files([path], sensor=sensor)).doubt()
    report = augment(path, tmp_path / "out", sensor=sensor, recipe={"operations": []})
    noted = [note for note in report.notes if "takes numbers" in note]
    assert report.written == 4
    if remedy is None:
        assert (told, measured, noted) == ([], None, [])
        return
    for line in (*told, str(measured), *noted):
        assert f"'{sensor}' takes numbers" in line
        assert f"--sensor {remedy}," in line
    assert (len(told), len(noted)) == (1, 1)
    assert noted[0].startswith(str(path))


def test_the_default_recipe_on_radar_names_the_preset_that_fits(tmp_path: Path) -> None:
    path = put(tmp_path / "scene.tif", "amplitude")
    with pytest.raises(ConfigurationError, match=r"is for optical images; .* is sar, .* the preset 'sentinel-1'"):
        augment(path, tmp_path / "out")
    assert augment(path, tmp_path / "out", recipe="sentinel-1").written == 4


def test_optical_numbers_are_not_taken_for_backscatter() -> None:
    assert doubt_of_backscatter("sentinel-2-l2a", str(get_sensor("sentinel-2-l2a").quantity), -0.1, 3.0) is None
    assert doubt_of_backscatter("x", "db", -70.0, 60.0) is None
    assert doubt_of_backscatter("x", "power", 0.0, 1e9) is None
