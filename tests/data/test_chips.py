"""Folders of chips: a folder for each class, and images beside masks."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import rasterio
import torch
from PIL import Image
from scenes import numbers, write_raster

from geoaug import Compose
from geoaug.augment import RandomD4
from geoaug.data import Catalog, TileDataset, TileRef, collate_tiles
from geoaug.errors import ConfigurationError, RasterError


def chip(path: Path, bands: int = 3, side: int = 16) -> Path:
    image = numbers((bands, side, side), "uint8", seed=len(str(path)))
    if path.suffix == ".tif":
        return write_raster(path, image)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_folders_of_classes_become_labels(tmp_path: Path, suffix: str) -> None:
    for label in ("River", "Forest", "Highway"):
        for number in range(3):
            chip(tmp_path / label / f"{label}_{number}{suffix}")
    catalog = Catalog.from_folder(tmp_path)
    assert catalog.classes == ("Forest", "Highway", "River")
    assert len(catalog) == 9
    assert all(record.label == Path(record.path).parent.name == record.id.split("_")[0] for record in catalog)
    assert {record.kind for record in catalog} == {"chip"}
    assert catalog.notes["layout"]["folders"] == {str(tmp_path): "chips of 3 classes, a folder for each"}
    batch = TileDataset(catalog).__getitems__([TileRef(place, 0, 0) for place in (0, 3, 8)])
    assert [int(sample["label"]) for sample in batch] == [0, 1, 2]


def test_splits_above_the_classes_are_kept(tmp_path: Path) -> None:
    for split in ("train", "Validation", "test"):
        for label in ("b", "a"):
            for number in range(2):
                chip(tmp_path / split / label / f"{number}.tif")
    catalog = Catalog.from_folder(tmp_path)
    assert catalog.classes == ("a", "b")
    folders = [Path(record.path).parts[-3] for record in catalog]
    assert set(zip(folders, catalog.column("split"), strict=True)) == {
        ("train", "train"),
        ("Validation", "val"),
        ("test", "test"),
    }


@pytest.mark.parametrize(
    ("above", "split"), [("EuroSAT_RGB", None), ("archive/eurosat-ms", None), ("train", "train"), ("set/val", "val")]
)
def test_classes_are_found_below_folders_that_hold_nothing_else(tmp_path: Path, above: str, split: str | None) -> None:
    for label in ("b", "a"):
        for number in range(2):
            chip(tmp_path / above / label / f"{number}.tif")
    catalog = Catalog.from_folder(tmp_path)
    assert catalog.classes == ("a", "b")
    told = catalog.column("split") if "split" in catalog.table.column_names else [None]
    assert set(told) == {split}
    assert list(catalog.notes["layout"]["folders"]) == [str(tmp_path / above)]


@pytest.mark.parametrize(
    "files",
    [
        ["2019/a.tif", "2019/b.tif", "2020/c.tif", "d.tif"],  # one beside the folders
        ["only/a.tif", "only/b.tif"],  # one class is none
        ["a/scene.tif", "b/scene.tif"],  # a folder for each scene
        ["a/B02.tif", "a/B03.tif", "b/B02.tif", "b/B03.tif"],  # bands
    ],
)
def test_other_folders_are_not_taken_for_classes(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        chip(tmp_path / name, bands=1)
    catalog = Catalog.from_folder(tmp_path)
    assert set(catalog.column("label")) == {None}
    assert set(catalog.column("kind")) <= {"raster", "bands"}


def test_large_scenes_in_folders_are_not_taken_for_chips(tmp_path: Path) -> None:
    for name in ("2019/a", "2019/b", "2020/c", "2020/d"):
        write_raster(tmp_path / f"{name}.tif", np.zeros((1, 8, 1100), np.uint8))
    assert set(Catalog.from_folder(tmp_path).column("kind")) == {"raster"}
    assert Catalog.from_folder(tmp_path, kind="classes").classes == ("2019", "2020")


def test_a_chip_beside_the_classes_is_an_error(tmp_path: Path) -> None:
    chip(tmp_path / "a" / "1.tif")
    chip(tmp_path / "2.tif")
    with pytest.raises(ConfigurationError, match="lies beside the folders of the classes"):
        Catalog.from_folder(tmp_path, kind="classes")


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.tif", "masks/{}.tif"),
        ("images/{}.jpg", "labels/{}.png"),
        ("img/{}_image.tif", "gt/{}_mask.tif"),
        ("train/images/{}.tif", "train/masks/{}.tif"),
        ("images/train/{}.tif", "masks/train/{}.tif"),
        ("x/{}.tif", "y/{}.tif"),
        ("imagery/img_{}.tif", "annotations/mask_{}.tif"),
    ],
)
def test_images_find_their_masks(tmp_path: Path, image: str, mask: str) -> None:
    for name in ("one", "two"):
        chip(tmp_path / image.format(name))
        if mask.endswith(".png"):
            (tmp_path / mask.format(name)).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 16), len(name), np.uint8)).save(tmp_path / mask.format(name))
        else:
            chip(tmp_path / mask.format(name), bands=1)
    catalog = Catalog.from_folder(tmp_path)
    assert {(record.path, record.mask_path) for record in catalog} == {
        (str(tmp_path / image.format(name)), str(tmp_path / mask.format(name))) for name in ("one", "two")
    }
    assert ("split" in catalog.table.column_names) is ("train" in image)


def test_the_mask_of_a_pair_is_what_a_tile_has(tmp_path: Path) -> None:
    chip(tmp_path / "images" / "a.tif")
    mask = chip(tmp_path / "masks" / "a.tif", bands=1)
    tile = TileDataset(Catalog.from_folder(tmp_path), 16)[TileRef(0, 0, 0)]
    with rasterio.open(mask) as file:
        assert (tile["mask"].numpy() == file.read(1)).all()


def test_an_image_without_a_mask_is_an_error_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chip(tmp_path / "images" / "a.tif")
    lone = chip(tmp_path / "images" / "b.tif")
    chip(tmp_path / "masks" / "a.tif", bands=1)
    chip(tmp_path / "masks" / "c.tif", bands=1)
    with pytest.raises(RasterError, match=r"b\.tif: no mask has its name"):
        Catalog.from_folder(tmp_path)
    catalog = Catalog.from_folder(tmp_path, on_error="skip")
    assert catalog.ids == ["a"]
    assert list(catalog.notes["skipped"]) == [str(lone)]
    assert "1 masks have no image of their name" in caplog.text


def test_images_of_a_pair_may_be_files_of_bands(tmp_path: Path) -> None:
    for band in ("B02", "B03"):
        chip(tmp_path / "images" / f"a_{band}.tif", bands=1)
    chip(tmp_path / "masks" / "a.tif", bands=1)
    (record,) = Catalog.from_folder(tmp_path)
    assert record.band_names == ("B02", "B03")
    assert record.mask_path == str(tmp_path / "masks" / "a.tif")


def test_labels_may_lie_elsewhere_or_be_one_file_for_all(tmp_path: Path) -> None:
    for name in ("a", "b"):
        chip(tmp_path / "scenes" / f"{name}.tif")
        chip(tmp_path / "elsewhere" / f"{name}_label.tif", bands=1)
    catalog = Catalog.from_folder(tmp_path / "scenes", labels=tmp_path / "elsewhere")
    assert [Path(record.mask_path or "").name for record in catalog] == ["a_label.tif", "b_label.tif"]
    one = tmp_path / "elsewhere" / "a_label.tif"
    catalog = Catalog.from_folder(tmp_path / "scenes", labels=one)
    assert [record.mask_path for record in catalog] == [str(one)] * 2
    with pytest.raises(ConfigurationError, match="no such file or folder of labels"):
        Catalog.from_folder(tmp_path / "scenes", labels=tmp_path / "gone")


def test_pictures_beside_scenes_are_quicklooks(tmp_path: Path) -> None:
    chip(tmp_path / "a.tif")
    chip(tmp_path / "a.jpg")
    assert Catalog.from_folder(tmp_path).ids == ["a"]


def test_several_labels_of_a_chip_come_as_one_and_zero(tmp_path: Path) -> None:
    """As a folder of BigEarthNet: what is written beside each patch."""
    told = {
        "S2A_MSIL2A_20170617T113321_36_8": ["Pastures", "Sea"],
        "S2A_MSIL2A_20170617T113321_36_9": ["Arable", "Sea"],
    }
    for name, labels in told.items():
        for band in ("B02", "B03"):
            write_raster(tmp_path / name / f"{name}_{band}.tif", numbers((1, 32, 32)))
        (tmp_path / name / f"{name}_labels_metadata.json").write_text(json.dumps({"labels": labels}))
    catalog = Catalog.from_folder(tmp_path)
    with TileDataset(catalog, target="labels") as dataset:
        assert dataset.classes == ("Arable", "Pastures", "Sea")
        batch = dataset.read(range(2))
        expected = {name: [float(kind in labels) for kind in dataset.classes] for name, labels in told.items()}
        assert dict(zip(batch["scene"], batch["label"].tolist(), strict=True)) == expected
        assert batch["label"].dtype == torch.float32
        assert collate_tiles([dataset[0], dataset[1]])["label"].tolist() == batch["label"].tolist()
        assert Compose([RandomD4()], sensor=dataset.sensor)(batch)["label"].shape == (2, 3)
    with TileDataset(catalog.select([1]), target="labels") as one:  # a split that has not all classes
        assert one.read([0])["label"].tolist() == [batch["label"][1].tolist()]
    given = catalog.with_column("seasons", [["dry"], []])
    with TileDataset(given, target="seasons") as dataset:
        assert dataset.read(range(2))["label"].tolist() == [[1.0], [0.0]]
    with pytest.raises(ConfigurationError, match="lists 1: several labels of a chip are names"):
        TileDataset(catalog.with_column("ids", [[1], [2]]), target="ids")
    with pytest.raises(ConfigurationError, match="no scene has any label in the column 'none'"):
        TileDataset(catalog.with_column("none", pa.array([[], []], pa.list_(pa.string()))), target="none")
    with pytest.raises(ConfigurationError, match="has no seasons, as 1 of 2"):
        TileDataset(catalog.with_column("seasons", [["dry"], None]), target="seasons")
