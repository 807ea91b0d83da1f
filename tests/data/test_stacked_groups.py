"""Files that names take for those of single bands, and that hold several, are scenes of their own."""

from pathlib import Path

import pytest
from rasterio.io import DatasetReader
from scenes import numbers, write_raster

from geoaug.data import Catalog
from geoaug.data.catalog.products import bands as stacked_groups
from geoaug.data.raster.files import open_dataset
from geoaug.errors import RasterError


def raster(path: Path, bands: int = 3) -> Path:
    return write_raster(path, numbers((bands, 8, 8)))


def test_numbered_files_of_several_bands_are_scenes_of_their_own(tmp_path: Path) -> None:
    for group in range(6):
        for number in range(3):
            raster(tmp_path / f"x{group}_b{number}.tif")
    raster(tmp_path / "a_B1.tif")
    raster(tmp_path / "a_B2.tif", bands=2)
    catalog = Catalog.from_folder(tmp_path)
    assert catalog.ids == ["a_B1", "a_B2", *(f"x{group}_b{number}" for group in range(6) for number in range(3))]
    assert {record.kind for record in catalog} == {"raster"}
    assert len(Catalog.from_files([tmp_path / "x0_b0.tif", tmp_path / "x0_b1.tif"])) == 2
    again = Catalog.from_folder(tmp_path, refresh=catalog)
    assert again.notes["refreshed"]["unchanged"] == 20


def test_numbered_files_of_one_band_stay_scenes_beside_others(tmp_path: Path) -> None:
    for number in range(3):
        raster(tmp_path / f"x_b{number}.tif")
        raster(tmp_path / f"y_b{number}.tif", bands=1)
        write_raster(tmp_path / f"z_b{number}.tif", numbers((2, 8, 8), "uint8"), photometric="MINISBLACK", alpha="YES")
    catalog = Catalog.from_folder(tmp_path)
    assert catalog.ids == ["x_b0", "x_b1", "x_b2", "y", "z"]
    assert [len(record.bands) for record in catalog] == [3, 3, 3, 3, 3]


def test_a_group_is_not_taken_apart_by_one_of_its_files(tmp_path: Path) -> None:
    raster(tmp_path / "x_b0.tif")
    raster(tmp_path / "x_b1.tif", bands=1)
    with pytest.raises(RasterError, match=r"x_b0\.tif: taken for the file of band B0, but holds several bands"):
        Catalog.from_folder(tmp_path)


def test_few_headers_are_looked_at_to_tell_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(path: str) -> DatasetReader:
        opened.append(path)
        return open_dataset(path)

    monkeypatch.setattr(stacked_groups, "open_dataset", counted)
    for group in range(9):
        for number in (2, 3):
            raster(tmp_path / f"x{group}_b{number}.tif", bands=1)
            raster(tmp_path / "more" / f"LC08_L1TP_19502{group}_20230617_20230617_02_T1_B{number}.tif", bands=1)
    assert len(Catalog.from_folder(tmp_path)) == 18
    assert len(opened) == 4
