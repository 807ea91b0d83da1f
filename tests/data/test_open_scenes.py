"""Whatever names a scene becomes the record that an index makes of it; nothing else does."""

import os
from pathlib import Path

import numpy as np
import pytest
from products import make_landsat, make_safe, zip_safe
from scenes import numbers, write_raster

from geoaug.data import Catalog, open_scene, open_scenes, scene_ids
from geoaug.errors import ConfigurationError, RasterError
from geoaug.sensors import generic_sensor, get_sensor


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    left_out = [name for name in get_sensor("sentinel-2-l2a").band_names if name not in ("B02", "B11")]
    return make_safe(tmp_path_factory.mktemp("safe"), leave_out=left_out)


def bands_in_files(folder: Path) -> Path:
    for band in ("B02", "B03", "B11"):
        write_raster(folder / f"S2A_MSIL2A_20230617T103629_T32UQV_{band}.tif", numbers((1, 40, 40)))
    return folder


@pytest.mark.parametrize("sort", ["safe", "zip", "landsat", "bands", "raster"])
def test_the_record_is_that_of_an_index(sort: str, safe: Path, tmp_path: Path) -> None:
    if sort == "zip":
        left_out = [name for name in get_sensor("sentinel-2-l2a").band_names if name not in ("B02", "B11")]
        path = zip_safe(make_safe(tmp_path, leave_out=left_out))
    elif sort == "landsat":
        path = make_landsat(tmp_path)
    elif sort == "bands":
        path = bands_in_files(tmp_path / "bands")
    elif sort == "raster":
        path = write_raster(tmp_path / "scene.tif", numbers((4, 40, 40)))
    else:
        path = safe
    [record] = Catalog.from_files([path])
    found = open_scene(path)
    assert found.record == record
    assert found.sensor.band_names == record.band_names
    assert found.sensor.offset == record.full_sensor().offset
    assert (found.header is None) == (sort != "raster")


def test_bands_are_chosen_of_products_and_of_catalogs(safe: Path, tmp_path: Path) -> None:
    Catalog.from_files([safe]).save(tmp_path / "catalog.parquet")
    for place in (safe, tmp_path / "catalog.parquet"):
        assert open_scene(place, bands="B11").record.band_names == ("B11",)
        with pytest.raises(ConfigurationError, match="B04"):
            open_scene(place, bands="B04")


def test_a_quality_layer_is_left_out_where_nothing_is_invalid(safe: Path) -> None:
    assert open_scene(safe).record.quality is not None
    assert open_scene(safe, invalid="").record.quality is None
    layer = open_scene(safe, invalid="snow").record.quality
    assert layer is not None
    assert layer.invalid == (11,)


def test_a_folder_of_rasters_is_a_scene_for_each_with_its_own_type(tmp_path: Path) -> None:
    write_raster(tmp_path / "one.tif", numbers((2, 40, 40)))
    write_raster(tmp_path / "two.tif", numbers((3, 50, 30), "uint8"))
    found = open_scenes(tmp_path)
    assert [(one.record.id, one.record.dtype) for one in found.scenes] == [("one", "uint16"), ("two", "uint8")]
    assert found.failures == ()


def test_plain_rasters_keep_the_names_that_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/x.tif", "b/x.tif", "x.tif"):
        write_raster(tmp_path / name, numbers((1, 40, 40)))
    monkeypatch.chdir(tmp_path)
    given = ["x.tif", "a/x.tif", os.path.join("b", "x.tif")]  # noqa: PTH118
    found = open_scenes(given)
    assert [one.record.path for one in found.scenes] == given
    assert [one.record.id for one in found.scenes] == list(scene_ids(given).values())
    assert {one.record.path for one in open_scenes("b").scenes} == {"b/x.tif"}


def test_what_cannot_be_read_is_told_with_its_path(tmp_path: Path) -> None:
    good = write_raster(tmp_path / "good.tif", numbers((1, 40, 40)))
    (tmp_path / "bad.tif").write_text("nothing")
    found = open_scenes([good, tmp_path / "bad.tif"])
    assert [one.record.id for one in found.scenes] == ["good"]
    [error] = found.failures
    assert isinstance(error, RasterError)
    assert error.path == str(tmp_path / "bad.tif")


def test_wrong_use_that_leaves_no_scene_is_raised(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "good.tif", numbers((1, 40, 40)))
    with pytest.raises(ConfigurationError, match="B99"):
        open_scenes(path, bands="B99")


def test_labels_in_the_folder_are_no_scene(tmp_path: Path) -> None:
    write_raster(tmp_path / "scene.tif", numbers((3, 40, 40)))
    labels = write_raster(tmp_path / "fields.tif", numbers((1, 40, 40), "uint8"))
    assert [one.record.id for one in open_scenes(tmp_path, labels=labels).scenes] == ["scene"]
    with pytest.raises(ConfigurationError, match="is the labels and the only scene"):
        open_scenes(labels, labels=labels)


def test_a_folder_of_labels_gives_each_scene_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_raster(tmp_path / "scenes" / f"{name}.tif", numbers((3, 40, 40)))
        write_raster(tmp_path / "fields" / f"{name}.tif", numbers((1, 40, 40), "uint8"))
    found = open_scenes(tmp_path / "scenes", labels=tmp_path / "fields")
    assert [one.record.mask_path for one in found.scenes] == [str(tmp_path / f"fields/{n}.tif") for n in ("one", "two")]


def test_a_sensor_of_ones_own_needs_no_file(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.tif", numbers((3, 40, 40)))
    mine = generic_sensor(3, 500.0, names=["x", "y", "z"])
    assert open_scene(path, sensor=mine).sensor.quantification == (500.0,) * 3


def test_a_split_of_a_catalog_tells_its_ground(tmp_path: Path) -> None:
    from geoaug.data import split_by_blocks

    path = write_raster(tmp_path / "scene.tif", np.ones((1, 400, 400), np.uint16))
    split_by_blocks(Catalog.from_files([path]), {"train": 0.5, "val": 0.5}, block_m=1000, cut=True).save(
        tmp_path / "c.parquet"
    )
    parts = [open_scene(tmp_path / "c.parquet", split=name).region for name in ("train", "val")]
    assert all(part is not None for part in parts)
    assert parts[0].intersection(parts[1]).area == pytest.approx(0, abs=1e-12)
    with pytest.raises(ConfigurationError, match="no split 'tset'"):
        open_scenes(tmp_path / "c.parquet", split="tset")


@pytest.mark.parametrize("options", [{"sensor": "rgb"}, {"invalid": "cloud"}, {"kind": "bands"}], ids=str)
def test_what_indexing_settled_is_refused_for_a_catalog(options: dict[str, str], tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.tif", numbers((3, 40, 40)))
    Catalog.from_files([path]).save(tmp_path / "c.parquet")
    [name] = options
    with pytest.raises(ConfigurationError, match=f"--{name}") as caught:
        open_scenes(tmp_path / "c.parquet", **options)
    assert caught.value.argument == name
    with pytest.raises(ConfigurationError, match="by itself"):
        open_scenes([tmp_path / "c.parquet", path])


def test_an_empty_name_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raster(tmp_path / "scene.tif", numbers((1, 20, 20)))
    monkeypatch.chdir(tmp_path)  # which an empty path would mean
    for inputs in ("", [" "], [str(tmp_path), ""]):
        with pytest.raises(ConfigurationError, match="an input is empty") as caught:
            open_scenes(inputs)
        assert caught.value.argument == "inputs"


def test_a_sensor_that_was_given_is_not_credited_to_the_metadata(tmp_path: Path) -> None:
    product = make_landsat(tmp_path)
    assert "metadata" in open_scene(product).identification.reason
    name = open_scene(product).sensor.name
    assert open_scene(product, sensor=name).identification.reason == "as given"


def test_errors_of_options_name_them(safe: Path, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.tif", numbers((3, 20, 20)))
    for options, argument in (({"sensor": "bogus"}, "sensor"), ({"bands": "B99"}, "bands"), ({"kind": "x"}, "kind")):
        for scene in (safe, path):
            with pytest.raises(ConfigurationError) as caught:
                open_scene(scene, **options)
            assert caught.value.argument == argument, (scene, options)
    with pytest.raises(ConfigurationError) as caught:
        open_scene(tmp_path / "gone.tif")
    assert caught.value.path == str(tmp_path / "gone.tif")
