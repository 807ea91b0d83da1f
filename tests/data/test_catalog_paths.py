"""A catalog finds its files where they lie, also after its folder was moved."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from scenes import band_files, catalog_of, numbers, scene_of, write_raster

from geoaug.data import Catalog, QualityLayer, TileDataset, TileRef, split_by_attribute
from geoaug.data.raster.record import SceneRecord


def stored(path: Path) -> list[str]:
    return list(pyarrow.parquet.read_table(path).column("path").to_pylist())


def paths_of(record: SceneRecord) -> list[str | None]:
    quality = None if record.quality is None else record.quality.band.path
    return [record.path, record.mask_path, *(band.path for band in record.bands), quality]


def made(folder: Path) -> Catalog:
    """Scenes below a folder and beside it, of one file and of several, with masks and quality layers or without."""
    inside = write_raster(folder / "deep" / "inside.tif", numbers((2, 32, 32)))
    pair = [write_raster(folder / f"band{number}.tif", numbers((1, 32, 32), seed=number)) for number in range(2)]
    outside = write_raster(folder.parent / "elsewhere" / "outside.tif", numbers((2, 32, 32)))
    quality = QualityLayer(
        band_files(write_raster(folder / "q.tif", numbers((1, 32, 32), "uint8")))[0], "classes", (3,)
    )
    return Catalog.from_records(
        [
            replace(scene_of(inside), mask_path=str(write_raster(folder / "m.tif", numbers((1, 32, 32), "uint8")))),
            replace(scene_of(*pair, name="pair"), quality=quality),
            scene_of(outside),
        ]
    )


def test_a_folder_may_be_moved_with_its_catalog(tmp_path: Path) -> None:
    catalog = made(tmp_path / "data")
    catalog.save(tmp_path / "data" / "catalog.parquet")
    assert stored(tmp_path / "data" / "catalog.parquet") == [
        "./deep/inside.tif", "./band0.tif", str(tmp_path / "elsewhere" / "outside.tif")
    ]  # fmt: skip
    shutil.move(tmp_path / "data", tmp_path / "moved here")
    found = Catalog.open(tmp_path / "moved here" / "catalog.parquet")

    def there(path: str | None) -> str | None:
        return None if path is None else path.replace(str(tmp_path / "data"), str(tmp_path / "moved here"))

    expected = [[there(path) for path in paths_of(record)] for record in catalog]
    assert [paths_of(found[place]) for place in range(3)] == expected, "as one row"
    assert found.column("path").tolist() == [paths[0] for paths in expected], "as one column"
    assert [paths_of(record) for record in found.records([0, 1, 2])] == expected, "as a table"
    for before, after in zip(catalog, found.records([0, 1, 2]), strict=True):
        assert replace(after, path="", mask_path=None, bands=(), quality=None) == replace(
            before, path="", mask_path=None, bands=(), quality=None
        )
        assert [replace(band, path="") for band in after.bands] == [replace(band, path="") for band in before.bands]
    with TileDataset(found.select([0, 2]), 32) as dataset:
        image = dataset.read([TileRef(0, 0, 0)])["image"].numpy()[0]
    np.testing.assert_array_equal(image, numbers((2, 32, 32)))


def test_a_catalog_may_be_saved_elsewhere(tmp_path: Path) -> None:
    catalog = made(tmp_path / "data")
    catalog.save(tmp_path / "data" / "catalog.parquet")
    Catalog.open(tmp_path / "data" / "catalog.parquet").save(tmp_path / "other" / "copy.parquet")
    assert all(os.path.isabs(path) for path in stored(tmp_path / "other" / "copy.parquet"))  # noqa: PTH117
    Catalog.open(tmp_path / "other" / "copy.parquet").save(tmp_path / "above.parquet")
    assert stored(tmp_path / "above.parquet")[-1] == "./elsewhere/outside.tif"
    for path in ("other/copy.parquet", "above.parquet"):
        assert [paths_of(r) for r in Catalog.open(tmp_path / path)] == [paths_of(r) for r in catalog]


def test_splits_and_notes_come_along(tmp_path: Path) -> None:
    catalog = made(tmp_path / "data").with_column("season", ["dry", "wet", "dry"])
    split = split_by_attribute(catalog, "season", {"train": ["dry"], "test": ["wet"]})
    split.save(tmp_path / "data" / "catalog.parquet")
    found = Catalog.open(tmp_path / "data" / "catalog.parquet")
    assert found.split("train").ids == ["inside", "outside"]
    assert found.notes == split.notes


@pytest.mark.parametrize(
    "path",
    [
        "/vsicurl/http://host/a.tif",
        "/vsis3/bucket/a.tif",
        'NETCDF:"a.nc":red',
        "/vsizip//some/where/a.zip/a.tif",
        "a.tif",
        "../a.tif",
        ".hidden.tif",
    ],
)
def test_what_lies_elsewhere_stays_as_it_is(tmp_path: Path, path: str) -> None:
    scene = scene_of(write_raster(tmp_path / "a.tif", numbers((1, 32, 32))))
    Catalog.from_records([replace(scene, path=path)]).save(tmp_path / "catalog.parquet")
    assert stored(tmp_path / "catalog.parquet") == [path]
    assert Catalog.open(tmp_path / "catalog.parquet")[0].path == path


@pytest.mark.parametrize("name", ["data", "a.b (c) [d]+$", "d\u00e4ta \\1"])
def test_folders_of_any_name_and_archives_are_found_again(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    scene = scene_of(write_raster(folder / "a.tif", numbers((1, 32, 32))))
    archive = f"/vsizip/{folder}/s.zip/a.tif"
    for path, kept in (
        (archive, "/vsizip/./s.zip/a.tif"),
        (str(folder), "."),
        (f"{folder}b/c.tif", f"{folder}b/c.tif"),
    ):
        Catalog.from_records([replace(scene, path=path)]).save(folder / "catalog.parquet")
        assert stored(folder / "catalog.parquet") == [kept]
        assert Catalog.open(folder / "catalog.parquet")[0].path == path


def test_paths_from_where_one_is_become_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scene = scene_of(write_raster(tmp_path / "a.tif", numbers((1, 32, 32))))
    Catalog.from_records([replace(scene, path="./a.tif")]).save(tmp_path / "catalogs" / "catalog.parquet")
    monkeypatch.chdir("/")
    assert Catalog.open(tmp_path / "catalogs" / "catalog.parquet")[0].path == str(tmp_path / "a.tif")


def test_a_catalog_of_whole_paths_opens_as_it_did(tmp_path: Path) -> None:
    """As all were before folders could be moved."""
    catalog = catalog_of(write_raster(tmp_path / "a.tif", numbers((1, 32, 32))))
    catalog.save(tmp_path / "new.parquet")
    metadata: dict[bytes, Any] = pyarrow.parquet.read_schema(tmp_path / "new.parquet").metadata
    old = {**metadata, b"geoaug": b'{"version": 1}'}
    pyarrow.parquet.write_table(catalog.table.replace_schema_metadata(old), tmp_path / "old.parquet")
    assert paths_of(Catalog.open(tmp_path / "old.parquet")[0]) == paths_of(catalog[0])


def test_a_moved_catalog_is_refreshed_without_reading_a_scene_again(tmp_path: Path) -> None:
    for number in range(3):
        write_raster(tmp_path / "data" / f"{number}.tif", numbers((1, 32, 32), seed=number))
    Catalog.from_folder(tmp_path / "data").save(tmp_path / "data" / "catalog.parquet")
    shutil.move(tmp_path / "data", tmp_path / "moved")
    old = Catalog.open(tmp_path / "moved" / "catalog.parquet")
    assert old.notes["index"]["inputs"] == [str(tmp_path / "moved")]
    found = Catalog.from_files(old.notes["index"]["inputs"], refresh=old)
    assert found.notes["refreshed"] == {"unchanged": 3, "read_again": [], "added": [], "vanished": []}
