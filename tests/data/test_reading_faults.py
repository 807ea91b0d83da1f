"""What cannot be read is an error that names it, or a counted skip: nothing is filled in silently."""

import logging
import os
import warnings
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from PIL import Image
from rasterio.transform import array_bounds, from_bounds
from rasterio.warp import transform_bounds
from scenes import PLACE, UTM32, catalog_of, numbers, scene_of, write_raster
from torch.utils.data import DataLoader

from geoaug.data import Catalog, GridTileSampler, TileDataset, TileLoader, TileRef, collate_tiles
from geoaug.data.raster.files import georeference_optional, open_dataset
from geoaug.errors import ConfigurationError, RasterError

BLOCKS = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}


@pytest.fixture
def two_scenes(tmp_path: Path) -> tuple[Path, Path]:
    return tuple(  # type: ignore[return-value]
        write_raster(tmp_path / f"{name}.tif", numbers((2, 512, 512), seed=seed), **BLOCKS)
        for seed, name in enumerate(["good", "bad"])
    )


def destroy_last_block(path: Path) -> None:
    """Overwrite the compressed bytes of the last block, which lies at the end of what GDAL wrote."""
    with path.open("r+b") as file:
        file.seek(-2000, os.SEEK_END)
        file.write(b"\xff" * 2000)


GOOD, FINE, BROKEN = TileRef(0, 100, 100), TileRef(1, 0, 0), TileRef(1, 400, 400)


def test_a_corrupt_block_is_an_error_that_names_scene_file_and_rows(two_scenes: tuple[Path, Path]) -> None:
    catalog = catalog_of(*two_scenes)
    destroy_last_block(two_scenes[1])
    with TileDataset(catalog, 60) as dataset:
        dataset.read([GOOD, FINE])
        with pytest.raises(RasterError, match=r"'bad': cannot read rows 256 to 511, columns 256 to 511.*bad\.tif"):
            dataset.read([GOOD, BROKEN])


def test_a_corrupt_block_is_left_out_counted_and_named_once(
    two_scenes: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    catalog = catalog_of(*two_scenes)
    destroy_last_block(two_scenes[1])
    with TileDataset(catalog, 60, on_error="skip") as dataset, caplog.at_level(logging.WARNING, "geoaug"):
        batch = dataset.read([BROKEN, GOOD, BROKEN, FINE])
        assert batch["scene"] == ["good", "bad"]
        np.testing.assert_array_equal(batch["image"].numpy()[0], dataset.read([GOOD])["image"].numpy()[0])
        assert list(dataset.skipped.values()) == [2]
        assert "scene 'bad': cannot read rows 256 to 511" in next(iter(dataset.skipped))
        with pytest.raises(RasterError, match="left out: scene 'bad'"):
            dataset[BROKEN]
    assert len(caplog.records) == 1


def test_a_file_that_vanished_is_named(two_scenes: tuple[Path, Path]) -> None:
    catalog = catalog_of(*two_scenes)
    two_scenes[1].unlink()
    with TileDataset(catalog, 60) as dataset, pytest.raises(RasterError, match=r"scene 'bad'.*bad\.tif: no such file"):
        dataset.read([GOOD, FINE])
    with TileDataset(catalog, 60, on_error="skip") as dataset:
        assert dataset.read([GOOD, FINE])["scene"] == ["good"]


def test_a_file_cut_short_is_named(two_scenes: tuple[Path, Path]) -> None:
    catalog = catalog_of(*two_scenes)
    os.truncate(two_scenes[1], two_scenes[1].stat().st_size // 2)
    with TileDataset(catalog, 60) as dataset, pytest.raises(RasterError, match="scene 'bad'"):
        dataset.read([BROKEN])


def test_a_band_that_one_scene_lacks_is_an_error_or_leaves_the_scene_out(tmp_path: Path) -> None:
    catalog = catalog_of(
        write_raster(tmp_path / "whole.tif", numbers((3, 64, 64))),
        write_raster(tmp_path / "lacking.tif", numbers((2, 64, 64))),
    )
    with pytest.raises(ConfigurationError, match=r"lacking\.tif.*'B3'.*on_error='skip'.*--skip-errors"):
        TileDataset(catalog, 32)
    with TileDataset(catalog, 32, on_error="skip") as dataset:
        assert dataset.catalog.ids == ["whole"]
        assert list(dataset.skipped) == [next(line for line in dataset.skipped if "scene 'lacking'" in line)]
    with TileDataset(catalog, 32, bands="B2,B1") as dataset:
        assert len(dataset.catalog) == 2
    with pytest.raises(ConfigurationError, match="no scene has the bands B7"):
        TileDataset(catalog, 32, bands="B7", on_error="skip")


def test_mixed_types_are_an_error_that_says_which_type_holds_all(tmp_path: Path) -> None:
    catalog = catalog_of(
        write_raster(tmp_path / "a.tif", numbers((1, 64, 64), "uint16")),
        write_raster(tmp_path / "b.tif", numbers((1, 64, 64), "int16", seed=1)),
    )
    with pytest.raises(ConfigurationError, match=r"uint16 in 'a', int16 in 'b'|int16 in 'b', uint16 in 'a'") as error:
        TileDataset(catalog, 32)
    assert "dtype='int32' (geoaug stats --dtype int32, geoaug fit --data.dtype int32)" in str(error.value)
    with TileDataset(catalog, 32, dtype="int32") as dataset:
        batch = dataset.read([TileRef(0, 0, 0), TileRef(1, 0, 0)])
    np.testing.assert_array_equal(batch["image"].numpy()[1], numbers((1, 64, 64), seed=1)[:, :32, :32])
    with pytest.raises(ConfigurationError, match="dtype uint8 cannot hold"):
        TileDataset(catalog, 32, dtype="uint8")


def test_scenes_of_another_type_or_scaling_than_most_can_be_left_out(tmp_path: Path) -> None:
    paths = []
    for name, dtype, scale in (
        ("odd", "int16", None), ("a", "uint16", 1e-4), ("fine", "uint16", 1e-3), ("b", "uint16", 1e-4),
    ):  # fmt: skip
        paths.append(write_raster(tmp_path / f"{name}.tif", numbers((1, 64, 64), dtype)))
        if scale is not None:
            with rasterio.open(paths[-1], "r+") as file:
                file.scales = (scale,)
    catalog = Catalog.from_files([str(path) for path in paths], sensor="sentinel-2-l1c", bands="B04")
    with pytest.raises(ConfigurationError):
        TileDataset(catalog, 32)
    with TileDataset(catalog, 32, on_error="skip") as dataset:
        assert dataset.catalog.ids == ["a", "b"]
        assert sorted(dataset.skipped) == [
            "scene 'fine': has 1000 numbers per unit of reflectance in a band where most scenes have 10000",
            "scene 'odd': is stored as int16, where most scenes are as uint16",
        ]
        assert dataset.read([TileRef(1, 0, 0)])["scene"] == ["b"]
    with TileDataset(catalog, 32, on_error="skip", dtype="uint16") as dataset:
        assert dataset.catalog.ids == ["a", "b"]
        assert "scene 'odd': is stored as int16, which uint16 cannot hold" in dataset.skipped
    with pytest.raises(ConfigurationError, match="dtype uint8 cannot hold"):
        TileDataset(catalog, 32, on_error="skip", dtype="uint8")


def test_each_scene_keeps_its_own_nodata(tmp_path: Path) -> None:
    image = numbers((1, 64, 64))
    image[0, :32] = 7
    catalog = catalog_of(
        write_raster(tmp_path / "a.tif", image, nodata=7),
        write_raster(tmp_path / "b.tif", image),
    )
    with TileDataset(catalog, 64) as dataset:
        valid = dataset.read([TileRef(0, 0, 0), TileRef(1, 0, 0)])["valid"][:, 0].numpy()
    np.testing.assert_array_equal(valid[0], image[0] != 7)
    assert valid[1].all()


def test_labels_outside_the_list_are_named(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.tif", numbers((1, 64, 64)))
    ids = np.zeros((1, 64, 64), dtype="uint8")
    ids[0, 40, 40] = 9
    labels = write_raster(tmp_path / "labels.tif", ids)
    with TileDataset(catalog_of(path), 32, labels=labels, classes=3) as dataset:
        dataset.read([TileRef(0, 0, 0)])
        with pytest.raises(RasterError, match=r"'scene': labels .*labels\.tif hold the id 9, not among .* 0, 1, 2"):
            dataset.read([TileRef(0, 32, 32)])
    with TileDataset(catalog_of(path), 32, labels=labels, classes=[0, 9]) as dataset:
        assert set(np.unique(dataset.read([TileRef(0, 32, 32)])["mask"])) == {0, 9}
    with TileDataset(catalog_of(path), 32, labels=labels, classes=3, ignore_index=9) as dataset:
        dataset.read([TileRef(0, 32, 32)])


def test_a_scene_without_labels_of_its_own_is_named(tmp_path: Path) -> None:
    paths = [write_raster(tmp_path / f"{name}.tif", numbers((1, 32, 32))) for name in "ab"]
    labels = write_raster(tmp_path / "labels.tif", np.ones((1, 32, 32), dtype="uint8"))
    scenes = [replace(scene_of(paths[0]), mask_path=str(labels)), scene_of(paths[1])]
    with TileDataset(Catalog.from_records(scenes), 32) as dataset:
        assert (dataset.read([TileRef(0, 0, 0)])["mask"] == 1).all()
        with pytest.raises(RasterError, match="scene 'b': has no labels of its own"):
            dataset.read([TileRef(1, 0, 0)])


def test_a_scene_that_the_labels_do_not_reach_is_named_or_left_out_and_counted(tmp_path: Path) -> None:
    near = write_raster(tmp_path / "near.tif", numbers((1, 64, 64)))
    far = write_raster(tmp_path / "far.tif", numbers((1, 64, 64)), transform=PLACE @ Affine.translation(100, 0))
    labels = write_raster(tmp_path / "labels.tif", np.ones((1, 32, 32), dtype="uint8"))
    catalog = catalog_of(near, far)
    with TileDataset(catalog, 32, labels=labels) as dataset:
        # On the scene that they reach, tiles beside them stay: some of its ground has no label.
        assert [dataset.read([place])["mask"].unique().tolist() for place in range(4)] == [[1], [255], [255], [255]]
        with pytest.raises(RasterError, match=r"scene 'far': the labels .*labels\.tif do not reach it"):
            dataset.read([4])
    with TileDataset(catalog, 32, labels=labels, on_error="skip") as dataset:
        assert dataset.read(range(8))["scene"] == ["near"] * 4
        assert sum(dataset.skipped.values()) == 4
        assert all("do not reach" in why for why in dataset.skipped)


@pytest.mark.parametrize("crs", [UTM32, "EPSG:3035", "EPSG:4326"])
@pytest.mark.parametrize("kind", ["raster", "vector"])
def test_whether_labels_of_any_crs_reach_a_scene_is_judged_on_the_ground(tmp_path: Path, kind: str, crs: str) -> None:
    """The scenes "near" and "far" are 1 km apart; the labels lie in the middle of "near" alone."""
    near = write_raster(tmp_path / "near.tif", numbers((1, 64, 64)))
    far = write_raster(tmp_path / "far.tif", numbers((1, 64, 64)), transform=PLACE @ Affine.translation(100, 0))
    bounds = transform_bounds(UTM32, crs, *array_bounds(16, 16, PLACE @ Affine.translation(24, 24)))
    if kind == "raster":
        place = from_bounds(*bounds, 16, 16)
        labels = write_raster(tmp_path / "labels.tif", np.ones((1, 16, 16), dtype="uint8"), transform=place, crs=crs)
    else:
        labels = tmp_path / "labels.gpkg"
        geopandas.GeoDataFrame({"class": [1]}, geometry=[shapely.box(*bounds)], crs=crs).to_file(labels)
    with TileDataset(
        catalog_of(near, far), 64, labels=labels, label_field=None if kind == "raster" else "class"
    ) as data:
        mask = data.read([0])["mask"][0]
        assert (mask[32, 32], mask[0, 0]) == (1, 255)
        with pytest.raises(RasterError, match=r"scene 'far': the labels .*labels\.\w+ do not reach it"):
            data.read([1])


@pytest.mark.parametrize("crs", [UTM32, "EPSG:3035"])
def test_a_scene_whose_own_labels_lie_elsewhere_is_named(tmp_path: Path, crs: str) -> None:
    scenes = []
    for name, pixels_off in (("right", 0), ("wrong", 500)):
        path = write_raster(tmp_path / f"{name}.tif", numbers((1, 64, 64)))
        place = PLACE @ Affine.translation(pixels_off, 0)
        bounds = transform_bounds(UTM32, crs, *array_bounds(64, 64, place))
        own = write_raster(
            tmp_path / f"{name}_mask.tif", np.ones((1, 64, 64), dtype="uint8"), transform=from_bounds(*bounds, 64, 64),
            crs=crs,
        )  # fmt: skip
        scenes.append(replace(scene_of(path), mask_path=str(own)))
    with TileDataset(Catalog.from_records(scenes), 64) as dataset:
        assert dataset.read([0])["mask"][0, 32, 32] == 1
        with pytest.raises(RasterError, match=r"scene 'wrong': the labels .*wrong_mask\.tif do not reach it"):
            dataset.read([1])
    with TileDataset(Catalog.from_records(scenes), 64, on_error="skip") as dataset:
        assert dataset.read([0, 1])["scene"] == ["right"]


def test_numbers_that_an_offset_drives_out_of_their_type_are_an_error(tmp_path: Path) -> None:
    scenes = []
    for name, value, offset in [("old", 65000, 0.0), ("new", 5, -1000.0)]:
        scene = scene_of(write_raster(tmp_path / f"{name}.tif", np.full((1, 32, 32), value, dtype="uint16")))
        scenes.append(replace(scene, bands=tuple(replace(band, offset=offset) for band in scene.bands)))
    expected = pytest.raises(RasterError, match=r"scene 'old'.*leave uint16.*\+1000.*dtype='int32'")
    with TileDataset(Catalog.from_records(scenes), 32) as dataset, expected:
        dataset.read([TileRef(0, 0, 0)])
    with TileDataset(Catalog.from_records(scenes), 32, dtype="int32") as dataset:
        image = dataset.read([TileRef(0, 0, 0), TileRef(1, 0, 0)])["image"]
    assert image.amin(dim=(1, 2, 3)).tolist() == image.amax(dim=(1, 2, 3)).tolist() == [66000, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"resampling": "bilinar"}, "resampling 'bilinar' is not known; GDAL has nearest, bilinear"),
        ({"min_valid": 1.5}, "min_valid is 1.5"),
        ({"size": 0}, "a tile of 0 x 0 pixels"),
        ({"gsd_m": 20.0, "crs": "EPSG:4326000"}, "EPSG:4326000"),
        ({"gsd_m": -3.0}, "gsd_m is -3"),
        ({"memory_mb": 0}, "memory_mb is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"bands": ""}, "no bands"),
        ({"dtype": "uint99"}, "dtype 'uint99' is no type of pixels"),
        ({"dtype": "complex64"}, "dtype 'complex64' is no type of pixels"),
        ({"dtype": "longdouble"}, "dtype 'longdouble' is no type of pixels"),
        ({"target": "yield"}, "no column 'yield'"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, object], message: str) -> None:
    catalog = catalog_of(write_raster(tmp_path / "scene.tif", numbers((1, 64, 64))))
    with pytest.raises(ConfigurationError, match=message):
        TileDataset(catalog, **{"size": 32, **options})  # type: ignore[arg-type]


def test_an_empty_catalog_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="holds no scene"):
        TileDataset(Catalog.from_records([]), 32)


def test_scenes_without_a_crs_are_cut_but_not_warped(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "chip.tif", numbers((1, 64, 64)), crs=None, transform=Affine.identity())
    with TileDataset(catalog_of(path), 32) as dataset:
        assert dataset.read([TileRef(0, 3, 3)])["crs"] == [None]
    with pytest.raises(ConfigurationError, match="without a CRS"):
        TileDataset(catalog_of(path), 32, gsd_m=20)


@pytest.mark.parametrize(
    ("shape", "dtype", "place", "message"),
    [
        ((2, 300, 300), "uint16", PLACE, "has 300 x 300 pixels, and had 512 x 512"),
        ((1, 512, 512), "uint16", PLACE, "has 1 bands, and had a band 2"),
        ((2, 512, 512), "int16", PLACE, "stores band 1 as int16, and stored it as uint16"),
        ((2, 512, 512), "uint16", PLACE @ Affine.translation(3, 0), "lies at another place"),
    ],
)
def test_a_file_that_was_changed_since_it_was_indexed_is_not_read_as_what_it_was(
    two_scenes: tuple[Path, Path], shape: tuple[int, int, int], dtype: str, place: Affine, message: str
) -> None:
    catalog = catalog_of(*two_scenes)
    write_raster(two_scenes[1], numbers(shape, dtype), transform=place, **BLOCKS)
    with TileDataset(catalog, 60) as dataset, pytest.raises(RasterError, match=f"scene 'bad'.*changed.*{message}"):
        dataset.read([GOOD, FINE])
    with TileDataset(catalog, 60, on_error="skip") as dataset:
        assert dataset.read([GOOD, FINE, BROKEN])["scene"] == ["good"]
        assert list(dataset.skipped.values()) == [2], "one cause, whatever was wanted of the file"


def test_torchs_loader_is_not_given_a_batch_of_nothing(tmp_path: Path) -> None:
    image = numbers((1, 256, 256))
    image[:, :128] = 0
    catalog = catalog_of(write_raster(tmp_path / "half.tif", image, nodata=0))
    with TileDataset(catalog, 64, min_valid=0.5) as dataset:
        batches = iter(DataLoader(dataset, 4, sampler=GridTileSampler(dataset), collate_fn=collate_tiles))
        with pytest.raises(RasterError, match=r"all 4 tiles of a batch are left out \(scene 'half': less than 0\.5"):
            list(batches)
        assert sum(len(batch["image"]) for batch in TileLoader(dataset, GridTileSampler(dataset), 4)) == 8


@pytest.mark.parametrize("size", ["64", True, 64.0, (64, 64, 64), (64, 32.5)])
def test_sizes_are_whole_numbers(tmp_path: Path, size: object) -> None:
    catalog = catalog_of(write_raster(tmp_path / "scene.tif", numbers((1, 64, 64))))
    with pytest.raises(ConfigurationError, match="size is"):
        TileDataset(catalog, size)  # type: ignore[arg-type]


def test_a_scene_that_is_not_there_is_an_index_error(two_scenes: tuple[Path, Path]) -> None:
    with TileDataset(catalog_of(*two_scenes), 60) as dataset, pytest.raises(IndexError, match="scene 2 of 2"):
        dataset.read([TileRef(2, 0, 0)])


@pytest.mark.parametrize("classes", [["a", "b"], "ab", [], 0, -3, [1.5], [0, None], True, [True, False], 2.5])
def test_classes_that_are_no_ids_are_refused_at_once(tmp_path: Path, classes: object) -> None:
    path = write_raster(tmp_path / "a.tif", numbers((1, 64, 64)))
    for labels in (write_raster(tmp_path / "labels.tif", numbers((1, 64, 64), "uint8")), None):
        with pytest.raises(ConfigurationError, match=r"classes is .*: give their number, at least 1, or a list"):
            TileDataset(catalog_of(path), 32, labels=labels, classes=classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [120, np.int64(120), range(120), np.arange(120), (*range(119), np.uint8(119))])
def test_classes_are_given_by_number_or_by_any_whole_ids(tmp_path: Path, classes: object) -> None:
    path = write_raster(tmp_path / "a.tif", numbers((1, 64, 64)))
    ids = numbers((1, 64, 64), "uint8")
    labels = write_raster(tmp_path / "labels.tif", ids)
    with TileDataset(catalog_of(path), 64, labels=labels, classes=classes) as dataset:  # type: ignore[arg-type]
        np.testing.assert_array_equal(dataset.read([TileRef(0, 0, 0)])["mask"].numpy(), ids)


def test_filters_that_another_thread_puts_back_do_not_stop_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    Image.fromarray(np.ones((8, 8), np.uint8)).save(path)
    with georeference_optional(), warnings.catch_warnings():  # as a reader in another thread, and whoever is in its way
        warnings.simplefilter("error")
        with open_dataset(str(path)) as dataset:
            assert dataset.count == 1
