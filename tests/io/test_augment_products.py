"""Augmenting whatever training reads: a product is one scene, and its tiles are those that a dataset gives."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from affine import Affine
from products import SIDE, make_landsat, make_safe, zip_safe
from rasterio.features import geometry_mask
from scenes import numbers, write_raster
from shapely import from_wkb

from geoaug import get_sensor
from geoaug.data import Catalog, TileDataset, TileRef, Window, open_scenes, split_by_blocks
from geoaug.data.raster.files import georeference_optional
from geoaug.errors import ConfigurationError
from geoaug.io import read_manifest
from geoaug.io.augment_tiles import AugmentJob, AugmentReport, run
from geoaug.io.intake import take_in

BANDS = ("B02", "B8A", "B09")  # of 10, 20 and 60 m
TILE, STRIDE = 48, 40
NOTHING: dict[str, Any] = {"operations": []}


def augment(scenes: Sequence[Path] | Path, output: Path, **changes: Any) -> AugmentReport:
    arguments = {
        "tile": TILE, "stride": STRIDE, "copies": 0, "include_original": True, "min_valid": 0.0, "device": "cpu",
        "recipe": NOTHING, **changes,
    }  # fmt: skip
    given = [str(scene) for scene in ([scenes] if isinstance(scenes, Path) else scenes)]
    return run(AugmentJob(given, output, **arguments))


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three bands, with clouds and a corner without data."""
    classes = np.full((SIDE // 2, SIDE // 2), 4, np.uint8)
    classes[10:20, 5:30], classes[40:50, 40:44] = 9, 3
    others = [name for name in get_sensor("sentinel-2-l2a").band_names if name not in BANDS]
    return make_safe(tmp_path_factory.mktemp("safe"), scl=classes, leave_out=others)


def check_against_dataset(output: Path, catalog: Catalog, **options: Any) -> None:
    """Each written original has the pixels, validity and grid of the dataset's tile at its place."""
    manifest = read_manifest(output / "manifest.parquet")
    assert len(manifest) > 3
    places = {name: place for place, name in enumerate(catalog.ids)}
    with TileDataset(catalog, TILE, **options) as dataset:
        for row in manifest.itertuples():
            sample = dataset[TileRef(places[row.scene], row.row, row.col)]
            with rasterio.open(output / row.image) as file:
                image, valid = file.read(), file.read_masks(1) != 0
                assert file.descriptions == dataset.band_names
                assert list(file.transform[:6]) == pytest.approx(sample["transform"].tolist(), abs=1e-9)
                assert torch.tensor(file.offsets) * torch.tensor(dataset.sensor.quantification) == pytest.approx(
                    dataset.sensor.offset
                )
            known = sample["valid"][0].numpy()
            np.testing.assert_array_equal(valid, known)
            np.testing.assert_array_equal(image[:, known], sample["image"].numpy()[:, known])
            assert row.valid_fraction == pytest.approx(known.mean())


@pytest.mark.parametrize("gsd", [None, 20.0])
def test_tiles_of_a_safe_product_are_those_of_the_dataset(safe: Path, tmp_path: Path, gsd: float | None) -> None:
    report = augment(safe, tmp_path / "out", gsd_m=gsd, tile=TILE)
    assert (len(report.sensors), report.sensors[0].scenes, report.failures) == (1, 1, ())
    assert set(report.sensors[0].bands) == set(BANDS)
    check_against_dataset(tmp_path / "out", Catalog.from_files([safe]), gsd_m=gsd)


def test_bands_and_the_quality_layer_are_chosen_as_in_an_index(safe: Path, tmp_path: Path) -> None:
    augment(safe, tmp_path / "out", bands="B8A,B02", invalid="")
    catalog = Catalog.from_files([safe], bands=["B8A", "B02"], invalid="")
    check_against_dataset(tmp_path / "out", catalog)
    with rasterio.open(next((tmp_path / "out" / "images").iterdir())) as file:
        assert file.descriptions == ("B8A", "B02")


@pytest.mark.parametrize("sort", ["zip", "landsat", "bands", "catalog", "stac"])
def test_tiles_of_other_inputs_are_those_of_the_dataset(sort: str, safe: Path, tmp_path: Path) -> None:
    if sort == "zip":
        path = zip_safe(Path(shutil.copytree(safe, tmp_path / safe.name)))
    elif sort == "landsat":
        flags = np.full((90, 90), 1 << 6, np.uint16)
        flags[20:40, 30:50] = 1 << 3
        path = make_landsat(tmp_path, side=90, qa=flags)
    elif sort == "bands":
        path = tmp_path / "bands"
        for band in ("B02", "B03"):
            write_raster(path / f"S2A_MSIL2A_20230617T103629_T32UQV_{band}.tif", numbers((1, 90, 90)))
    elif sort == "catalog":
        path = tmp_path / "c.parquet"
        Catalog.from_files([safe]).save(path)
    else:
        pytest.importorskip("pystac")
        path = stac_item(safe, tmp_path / "item.json")
    catalog = {"catalog": Catalog.open, "stac": Catalog.from_stac}.get(sort, lambda one: Catalog.from_files([one]))(
        path
    )
    report = augment(path, tmp_path / "out")
    assert report.failures == ()
    assert len(catalog) == 1
    check_against_dataset(tmp_path / "out", catalog)


def stac_item(safe: Path, path: Path) -> Path:
    """An item whose assets are the files of a product."""
    assets = {}
    for name, gsd in (("B02", 10), ("B8A", 20), ("SCL", 20)):
        file = next(safe.rglob(f"*_{name}_{gsd}m.jp2"))
        assets[name.lower() if name == "SCL" else name] = {
            "href": str(file), "type": "image/jp2", "roles": ["data"],
            **({} if name == "SCL" else {"eo:bands": [{"name": name}]}),
        }  # fmt: skip
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "S2A_T32UQV", "geometry": None, "links": [],
        "properties": {"datetime": "2023-06-17T10:36:29Z", "platform": "sentinel-2a"}, "assets": assets,
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.1.0/schema.json"],
        "collection": "sentinel-2-l2a",
    }  # fmt: skip
    path.write_text(json.dumps(item))
    return path


def test_a_split_keeps_to_its_ground_with_all_that_a_copy_reaches_into(tmp_path: Path) -> None:
    image = np.full((1, 400, 400), 1000, np.uint16)
    path = write_raster(tmp_path / "scene.tif", image)
    catalog = split_by_blocks(Catalog.from_files([path]), {"train": 0.5, "val": 0.5}, block_m=1000, cut=True)
    # What is of the other split is of another value.
    grid = catalog[0].grid
    region = grid.in_pixels(from_wkb(catalog.split("train").table.column("region")[0].as_py()), "EPSG:4326")
    with georeference_optional():
        outside = geometry_mask([region], grid.shape, Affine.identity(), all_touched=True)
    image[:, outside] = 9000
    write_raster(path, image)
    catalog.save(tmp_path / "c.parquet")
    turned = {"operations": [{"RandomRotation": {"degrees": 45, "p": 1.0}}]}
    report = augment(tmp_path / "c.parquet", tmp_path / "out", split="train", recipe=turned, copies=3)
    assert report.written > 20
    for file in (tmp_path / "out" / "images").iterdir():
        with rasterio.open(file) as tile:
            values: npt.NDArray[Any] = tile.read(1)
            assert set(np.unique(values[tile.read_masks(1) != 0])) <= {1000}
            assert file.name.endswith("_orig.tif") <= bool((values == 1000).all())


def test_images_beside_masks_take_them_along(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_raster(tmp_path / "chips" / "images" / f"{name}.tif", numbers((3, 64, 64)))
        write_raster(tmp_path / "chips" / "masks" / f"{name}.tif", numbers((1, 64, 64), "uint8") % 4)
    report = augment(tmp_path / "chips", tmp_path / "out", tile=64, stride=64, copies=1)
    assert (report.written, report.originals) == (2, 2)
    for name in ("one", "two"):
        with (
            rasterio.open(tmp_path / "out" / "masks" / f"{name}_r0_c0_orig.tif") as made,
            rasterio.open(tmp_path / "chips" / "masks" / f"{name}.tif") as given,
        ):
            np.testing.assert_array_equal(made.read(1), given.read(1))
    assert (tmp_path / "out" / "classes.json").exists()


def test_a_plain_raster_from_a_catalog_gives_the_pixels_that_its_file_gives(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.tif", numbers((3, 120, 120)), nodata=0)
    Catalog.from_files([path]).save(tmp_path / "c.parquet")
    augment(path, tmp_path / "file", recipe="strong", copies=2)
    augment(tmp_path / "c.parquet", tmp_path / "catalog", recipe="strong", copies=2)
    files = sorted((tmp_path / "file" / "images").iterdir())
    assert len(files) > 12
    for file in files:
        with rasterio.open(file) as one, rasterio.open(tmp_path / "catalog" / "images" / file.name) as other:
            np.testing.assert_array_equal(one.read(), other.read())
            assert (one.transform, one.nodata) == (other.transform, other.nodata)


@pytest.mark.parametrize("gsd", [0.0, -10.0, float("inf")])
def test_a_gsd_that_is_no_distance_is_refused(gsd: float, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.tif", numbers((3, 120, 120)))
    with pytest.raises(ConfigurationError, match="gsd"):
        augment(path, tmp_path / "out", gsd_m=gsd)


def test_a_scene_without_room_in_the_split_is_no_failure(tmp_path: Path) -> None:
    paths = [write_raster(tmp_path / f"scene{number}.tif", numbers((1, 100, 100))) for number in range(2)]
    found = open_scenes(paths)
    tiny = found.scenes[1].record.grid.crop(Window(10, 10, 5, 5)).footprint("EPSG:4326")
    found = replace(found, scenes=(found.scenes[0], replace(found.scenes[1], region=tiny)))
    job = AugmentJob([str(path) for path in paths], tmp_path / "out", tile=48, split="train")
    intake = take_in(job, found)
    assert [scene.source.record.id for scene in intake.scenes] == ["scene0"]
    assert not intake.failures
    assert any("scene1.tif: no tile of 48 x 48 pixels" in note for note in intake.notes)
    with_none = take_in(job, replace(found, scenes=found.scenes[1:]))
    assert not with_none.scenes
    assert "no tile of 48 x 48" in with_none.failures[0].reason


def test_scenes_of_other_bands_are_counted_apart(tmp_path: Path) -> None:
    write_raster(tmp_path / "one.tif", numbers((1, 64, 64)))
    write_raster(tmp_path / "four.tif", numbers((4, 64, 64)))
    report = augment([tmp_path / "one.tif", tmp_path / "four.tif"], tmp_path / "out", tile=32)
    assert sorted((len(use.bands), use.scenes) for use in report.sensors) == [(1, 1), (4, 1)]
