"""`geoaug index`: a catalog is written, told at a glance, brought up to date, and what fails is named."""

import json
from pathlib import Path

import pystac
import pytest
from products import make_landsat
from scenes import numbers, write_raster
from stac_api import make_item

from geoaug.cli.main import main
from geoaug.data import Catalog


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a_20200102_B02", "a_20200102_B03", "b", "c"):
        bands = 1 if "_B" in name else 3
        write_raster(tmp_path / "scenes" / f"{name}.tif", numbers((bands, 20, 30), "uint8"))
    return tmp_path / "scenes"


def test_a_folder_becomes_a_catalog_with_a_summary(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder.parent / "catalog.parquet"
    assert main(["index", str(folder), "-o", str(output)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for part in (
        "2 of kind raster, 1 of kind bands",
        "rgb (2)",
        "EPSG:32632",
        "30 x 20",
        "uint8",
        "2020-01-02; 2 without",
    ):
        assert part in told
    assert Catalog.open(output).ids == ["a_20200102", "b", "c"]


def test_options_reach_the_catalog_and_hold_when_it_is_refreshed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = folder.parent / "catalog.parquet"
    command = ["index", str(folder), "-o", str(output)]
    assert main([*command, "--kind", "raster", "--sensor", "rgb", "--bands", "red,green", "--workers", "1"]) == 1
    assert "left out" in capsys.readouterr().err  # the files of one band are not of three
    assert Catalog.open(output)[0].band_names == ("red", "green")
    (folder / "b.tif").unlink()
    write_raster(folder / "d.tif", numbers((3, 20, 30), "uint8"))
    assert main(["index", "-o", str(output), "--refresh"]) == 1
    shown = capsys.readouterr()
    assert "1 unchanged, 0 read again, 1 new, 1 gone" in shown.out
    assert "gone: " in shown.err
    assert "b.tif" in shown.err
    assert [record.band_names for record in Catalog.open(output)] == [("red", "green")] * 2


def test_what_cannot_be_read_is_named_and_the_rest_saved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.tif").write_bytes(b"no raster")
    output = folder.parent / "catalog.parquet"
    assert main(["index", str(folder), "-o", str(output)]) == 1
    error = capsys.readouterr().err
    assert "bad.tif: not a raster that GDAL can read" in error
    assert "1 left out of 4" in error
    assert error.count("bad.tif: not a raster") == 1
    assert len(Catalog.open(output)) == 3
    assert main(["index", str(folder), "-o", str(output), "--overwrite", "--on-error", "raise"]) == 1
    assert len(Catalog.open(output)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the folders or files to index"),
        (["gone"], "gone: no such file or folder"),
        (["--refresh"], "no such catalog"),
        ([".", "--kind", "chips"], "kind 'chips' is not known; there are auto, sentinel-2, landsat, stac"),
        ([".", "--invalid", "fog"], "'fog' is no quality class; there are bare, cirrus"),
        ([".", "--invalid", "999"], "999 is no class of the quality layer SCL (bits are 0 to 15, classes 0 to 255)"),
        (["landsat", "--invalid", "99"], "99 is no bit of the quality layer QA_PIXEL (bits are 0 to 15"),
        (["scenes", "--bands", "B99"], "band 'B99' is not one of"),
    ],
)
def test_wrong_use_ends_with_2_and_a_line(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_raster(tmp_path / "scenes" / "a.tif", numbers((3, 20, 30), "uint8"))
    make_landsat(tmp_path / "landsat", side=8)
    assert main(["index", *arguments, "-o", str(tmp_path / "catalog.parquet")]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "catalog.parquet").exists()


def test_stac_is_indexed_like_files_and_beside_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    item, output = folder.parent / "item.json", folder.parent / "catalog.parquet"
    item.write_text(json.dumps(make_item(folder.parent / "files")))
    assert main(["index", str(item), "-o", str(output), "--bands", "nir,red", "--invalid", "none"]) == 0
    (record,) = Catalog.open(output)
    assert record.band_names == ("B08", "B04")
    assert record.quality is None
    assert "1 of kind stac" in capsys.readouterr().out
    assert main(["index", "-o", str(output), "--refresh", "--invalid", "none"]) == 0
    assert "1 unchanged" in capsys.readouterr().out
    alone = Catalog.open(output)[0]
    assert main(["index", str(item), str(folder), "-o", str(output), "--overwrite"]) == 0
    both = Catalog.open(output)
    assert sorted(record.kind for record in both) == ["bands", "raster", "raster", "stac"]
    assert next(record for record in both if record.kind == "stac").id == alone.id
    (folder.parent / "labels.tif").write_bytes((folder / "b.tif").read_bytes())
    assert main(["index", str(item), "-o", str(output), "--overwrite", "-l", str(folder.parent / "labels.tif")]) == 2
    assert "scenes of kind stac are indexed without labels" in " ".join(capsys.readouterr().err.split())


def test_an_item_of_a_catalog_that_is_gone_is_named_and_the_rest_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [pystac.Item.from_dict(make_item(tmp_path, f"S2A_32UQV_2023061{day}_0_L2A")) for day in range(2)]
    catalog = pystac.Catalog("root", "a catalog")
    catalog.add_items(items)
    catalog.normalize_and_save(str(tmp_path / "stac"), pystac.CatalogType.SELF_CONTAINED)
    Path(items[0].get_self_href() or "").unlink()
    output = tmp_path / "catalog.parquet"
    command = ["index", str(tmp_path / "stac" / "catalog.json"), "-o", str(output)]
    assert main(command) == 1
    error = capsys.readouterr().err
    assert f"{items[0].id}.json" in error
    assert "1 left out of 2" in error
    assert Catalog.open(output).ids == [items[1].id]
    assert main([*command, "--overwrite", "--on-error", "raise"]) == 1
    assert f"{items[0].id}.json" in capsys.readouterr().err


def test_a_catalog_is_not_overwritten_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder.parent / "catalog.parquet"
    output.write_text("mine")
    assert main(["index", str(folder), "-o", str(output)]) == 2
    assert "give --refresh to bring it up to date, or --overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"


def test_ctrl_c_is_told_and_leaves_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("geoaug.data.raster.headers.read_header", interrupt)
    output = folder.parent / "catalog.parquet"
    assert main(["index", str(folder), "-o", str(output)]) == 130
    assert "stopped; no catalog was written" in capsys.readouterr().err
    assert not output.exists()
