"""Folders and files become scenes: what belongs together by name, what is read again, what is left out and named."""

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from scenes import PLACE, numbers, write_raster

from geoaug import get_sensor
from geoaug.data import Catalog, TileDataset, TileRef
from geoaug.errors import ConfigurationError, RasterError


def raster(path: Path, bands: int = 3, side: int = 32, **profile: object) -> Path:
    return write_raster(path, numbers((bands, side, side)), **profile)  # type: ignore[arg-type]


def band_group(folder: Path, stem: str = "scene{}", names: Sequence[str] = ("B02", "B03", "B04")) -> list[Path]:
    return [raster(folder / f"{stem.format('_' + name)}.tif", bands=1) for name in names]


def test_a_header_is_kept_as_rasterio_tells_it(tmp_path: Path) -> None:
    path = raster(tmp_path / "a.tif", nodata=7, tiled=True, blockxsize=16, blockysize=16)
    record = Catalog.from_folder(tmp_path)[0]
    with rasterio.open(path) as file:
        assert record.path == str(path)
        assert [band.index for band in record.bands] == [1, 2, 3]
        for band in record.bands:
            assert band.grid.transform == file.transform
            assert (band.grid.height, band.grid.width) == file.shape
            assert (band.dtype, band.nodata, band.block_shape) == ("uint16", file.nodata, file.block_shapes[0])
            assert band.grid.crs == file.crs.to_string()
    assert record.size == path.stat().st_size
    assert record.mtime_ns == path.stat().st_mtime_ns


def test_a_file_with_a_mask_and_one_without_a_crs_are_told(tmp_path: Path) -> None:
    write_raster(tmp_path / "a.tif", numbers((1, 32, 32)), mask=np.eye(32, dtype=bool))
    write_raster(tmp_path / "b.tif", numbers((1, 32, 32)), crs=None, transform=Affine.identity())
    masked, nowhere = Catalog.from_folder(tmp_path)
    assert masked.bands[0].has_mask
    assert not nowhere.bands[0].has_mask
    assert nowhere.grid.crs is None
    assert Catalog.from_folder(tmp_path).footprints[1] is None


def test_masks_and_metadata_in_files_beside_a_raster_are_seen(tmp_path: Path) -> None:
    path = raster(tmp_path / "a.tif", bands=1)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
        file.write_mask(np.eye(32, dtype=bool))
    raster(tmp_path / "b.tif", bands=1)
    (tmp_path / "b.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><NoDataValue>42</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    assert (tmp_path / "a.tif.msk").exists()
    masked, described = Catalog.from_folder(tmp_path)
    assert masked.bands[0].has_mask
    assert described.bands[0].nodata == 42


def test_files_named_alike_but_for_the_band_are_one_scene(tmp_path: Path) -> None:
    names = [f"B{number:02d}" for number in range(1, 14)]
    band_group(tmp_path, "scene0{}", names)
    band_group(tmp_path, "scene1{}", names)
    catalog = Catalog.from_files(sorted(tmp_path.glob("*.tif"), key=lambda path: path.name[::-1]))
    assert sorted(catalog.ids) == ["scene0", "scene1"]
    for record in catalog:
        assert record.kind == "bands"
        assert sorted(record.band_names) == names
        assert all(f"_{band.name}.tif" in band.path and record.id in band.path for band in record.bands)


@pytest.mark.parametrize(
    ("files", "scenes"),
    [
        (["T32UQV_20230617T103629_B02.jp2.tif", "T32UQV_20230617T103629_B03.jp2.tif"], 1),
        (
            [
                "LC08_L2SP_195026_20230617_02_T1_SR_B4.TIF",
                "LC08_L2SP_195026_20230617_02_T1_SR_B5.TIF",
            ],
            1,
        ),
        (["a_red.tif", "a_nir.tif", "a_green.tif"], 1),
        (["a_band_1.tif", "a_band_2.tif"], 1),
        (["red/B04.tif", "other/B04.tif"], 2),
        (["a_B04.tif", "b_B04.tif"], 2),
        (["a1.tif", "a2.tif"], 2),
        (["a_B02-B03.tif", "a_B04-B08.tif"], 2),
        (["a_B02_10m.tif", "a_B03_10m.tif", "a_B05_20m.tif", "a_B02_20m.tif"], 1),
    ],
)
def test_names_tell_what_belongs_together(tmp_path: Path, files: list[str], scenes: int) -> None:
    for name in files:
        raster(tmp_path / name, bands=2 if "-" in name else 1)
    assert len(Catalog.from_folder(tmp_path)) == scenes
    assert len(Catalog.from_folder(tmp_path, kind="raster")) == len(files)


def test_the_finest_of_several_resolutions_is_taken(tmp_path: Path) -> None:
    for gsd in (10, 20):
        grid = Affine(gsd, 0, 600000, 0, -gsd, 5400000)
        write_raster(tmp_path / f"a_B02_{gsd}m.tif", numbers((1, 320 // gsd, 320 // gsd)), transform=grid)
    write_raster(tmp_path / "a_B11_20m.tif", numbers((1, 16, 16)), transform=Affine(20, 0, 600000, 0, -20, 5400000))
    (record,) = Catalog.from_folder(tmp_path)
    assert [(band.name, band.grid.transform.a) for band in record.bands] == [("B02", 10), ("B11", 20)]


def test_a_folder_of_bands_is_named_by_the_folder_and_has_its_quality_layer(tmp_path: Path) -> None:
    folder = tmp_path / "S2A_29RKH_20200219_0_L2A"
    for name in ("B04", "B02", "SCL"):
        raster(folder / f"{name}.tif", bands=1)
    (record,) = Catalog.from_folder(tmp_path)
    assert record.id == folder.name
    assert record.path == str(folder)
    assert record.band_names == ("B02", "B04")  # in the sensor's order
    assert record.quality is not None
    assert record.quality.band.path == str(folder / "SCL.tif")
    assert record.datetime == "2020-02-19T00:00:00+00:00"


def test_labels_named_as_their_scene_belong_to_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for band in ("B2", "B3"):
        raster(tmp_path / f"L8-{band}-Elkton.tif", bands=1)
    write_raster(tmp_path / "L8-Labels-Elkton.tif", numbers((1, 32, 32), "uint8"))
    raster(tmp_path / "one.tif")
    write_raster(tmp_path / "one_mask.tif", numbers((1, 32, 32), "uint8"))
    write_raster(tmp_path / "of_nothing_labels.tif", numbers((1, 32, 32), "uint8"))
    with caplog.at_level(logging.INFO):
        catalog = Catalog.from_folder(tmp_path)
    assert {record.id: Path(record.mask_path or "").name for record in catalog} == {
        "L8_Elkton": "L8-Labels-Elkton.tif", "one": "one_mask.tif"
    }  # fmt: skip
    assert catalog.notes["passed_over"]["count"] == 1
    assert "of_nothing_labels.tif" in caplog.text


def test_bands_on_different_ground_are_refused(tmp_path: Path) -> None:
    band_group(tmp_path, names=["B02"])
    write_raster(tmp_path / "scene_B03.tif", numbers((1, 32, 32)), transform=PLACE * Affine.translation(5, 0))
    with pytest.raises(RasterError, match="bands 'B02' and 'B03' do not cover the same ground"):
        Catalog.from_folder(tmp_path)


def test_files_with_several_bands_are_no_files_of_a_band(tmp_path: Path) -> None:
    advice = r"holds several bands; index such files with kind='raster' \(geoaug index --kind raster\)"
    raster(tmp_path / "field_red.tif")
    raster(tmp_path / "field_nir.tif")
    with pytest.raises(RasterError, match=advice):
        Catalog.from_folder(tmp_path)
    assert len(Catalog.from_folder(tmp_path, kind="raster")) == 2
    raster(tmp_path / "more" / "x_b0.tif")
    with pytest.raises(RasterError, match=advice):
        Catalog.from_folder(tmp_path / "more", kind="bands")
    raster(tmp_path / "more" / "plain.tif")
    with pytest.raises(ConfigurationError, match=r"index them with kind='raster' \(geoaug index --kind raster\)"):
        Catalog.from_folder(tmp_path / "more", kind="bands")


def test_the_sensor_and_bands_that_are_told_count(tmp_path: Path) -> None:
    band_group(tmp_path, names=["B02", "B03", "B04", "B12"])
    catalog = Catalog.from_folder(tmp_path, sensor="sentinel-2-l1c", bands="red,B02")
    assert catalog[0].band_names == ("B04", "B02")
    assert catalog[0].sensor == "sentinel-2-l1c"
    with pytest.raises(ConfigurationError, match="band 'B08' is not one of"):
        Catalog.from_folder(tmp_path, bands=["B08"])
    with pytest.raises(ConfigurationError, match="is not known"):
        Catalog.from_folder(tmp_path, sensor="sentinel-9")


def test_a_sensor_of_ones_own_is_kept_by_its_file(tmp_path: Path) -> None:
    definition = tmp_path / "mine.yaml"
    definition.write_text(
        "name: mine\ndefaults: {quantification: 500}\nbands:\n"
        "- {name: a, wavelength_nm: 500}\n- {name: b, wavelength_nm: 600}\n- {name: c, wavelength_nm: 700}\n"
    )
    raster(tmp_path / "images" / "x.tif")
    record = Catalog.from_folder(tmp_path, sensor=definition)[0]
    assert record.full_sensor().bands[1].wavelength_nm == 600
    assert record.full_sensor().quantification == (500, 500, 500)
    with pytest.raises(ConfigurationError, match="needs the path of its YAML file"):
        Catalog.from_folder(tmp_path, sensor=get_sensor(definition))


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("S2B_MSIL1C_20230617T103629_N0509_R008.tif", "2023-06-17T10:36:29+00:00"),
        ("scene_2021-03-04_x.tif", "2021-03-04T00:00:00+00:00"),
        ("m_4709963_se_14_1_20180716.tif", "2018-07-16T00:00:00+00:00"),
        ("LC81070352015122LGN00_stack.tif", "2015-05-02T00:00:00+00:00"),
        ("chip_20231399.tif", None),
        ("chip_12345678.tif", None),
        ("tile_120230617.tif", None),
    ],
)
def test_the_date_is_taken_from_the_name(tmp_path: Path, name: str, moment: str | None) -> None:
    raster(tmp_path / name)
    assert Catalog.from_folder(tmp_path)[0].datetime == moment


def test_what_cannot_be_read_is_an_error_or_named_and_counted(tmp_path: Path) -> None:
    raster(tmp_path / "good.tif")
    (tmp_path / "bad.tif").write_bytes(b"no raster")
    band_group(tmp_path / "more")
    (tmp_path / "more" / "scene_B03.tif").write_bytes(b"")
    with pytest.raises(RasterError, match="not a raster that GDAL can read"):
        Catalog.from_folder(tmp_path)
    seen: list[tuple[int, int]] = []
    catalog = Catalog.from_folder(tmp_path, on_error="skip", progress=lambda done, total: seen.append((done, total)))
    assert catalog.ids == ["good"]
    assert sorted(map(os.path.basename, catalog.notes["skipped"])) == ["bad.tif", "scene_*.tif"]
    assert all("scene_B03.tif" in why or "bad.tif" in why for why in catalog.notes["skipped"].values())
    assert seen[-1] == (3, 3)


def test_a_file_that_vanishes_meanwhile_is_named(tmp_path: Path) -> None:
    raster(tmp_path / "a.tif")
    (tmp_path / "b.tif").symlink_to(tmp_path / "gone" / "b.tif")  # listed, and not there when it is looked at
    with pytest.raises(RasterError, match=r"b\.tif: has vanished, or cannot be reached"):
        Catalog.from_folder(tmp_path)
    assert list(Catalog.from_folder(tmp_path, on_error="skip").notes["skipped"]) == [str(tmp_path / "b.tif")]


def test_where_nothing_can_be_read_there_is_no_catalog(tmp_path: Path) -> None:
    (tmp_path / "bad.tif").write_bytes(b"no raster")
    with pytest.raises(RasterError, match="none of 1 scenes can be read"):
        Catalog.from_folder(tmp_path, on_error="skip")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: Catalog.from_folder(folder / "gone"), "no such folder"),
        (lambda folder: Catalog.from_files([folder / "gone.tif"]), "no such file or folder"),
        (
            lambda folder: Catalog.from_folder(raster(folder / "a.tif")),
            "is no folder; index files with Catalog.from_files",
        ),
        (lambda folder: Catalog.from_files([raster(folder / "a.tif")], threads=0), "there must be one at least"),
        (lambda folder: Catalog.from_files([]), "no input"),
        (lambda folder: Catalog.from_files([folder / "item.json"]), "item.json: no such file of STAC JSON"),
        (
            lambda folder: Catalog.from_files([folder / "scenes.tar"]),
            r"is an archive, and no product by its name \(sentinel-2, landsat, .*\); unpack it",
        ),
        (lambda folder: Catalog.from_folder(folder), "no scene found"),
        (
            lambda folder: Catalog.from_folder(folder, kind="chips"),
            "kind 'chips' is not known; there are auto, sentinel-2, landsat",
        ),
        (lambda folder: Catalog.from_folder(folder, on_error="ignore"), "on_error is 'raise' or 'skip'"),
    ],
)
def test_wrong_use_is_told(tmp_path: Path, make: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(tmp_path)  # type: ignore[operator]


def test_guesses_are_told_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        raster(tmp_path / f"{name}.tif", bands=5)
    raster(tmp_path / "S2A_MSIL2A_20230617T103629_N0509_R008_T32UQV_B02.tif", bands=1)
    band_group(tmp_path / "more")
    with caplog.at_level(logging.INFO):
        catalog = Catalog.from_folder(tmp_path)
    guesses = catalog.notes["guesses"]
    assert sorted(guesses.values()) == [1, 2]
    assert next(reason for reason, count in guesses.items() if count == 2).startswith("not recognised")
    assert "2 scenes: the sensor is a guess: not recognised" in caplog.text
    raster(tmp_path / "b.tif", bands=6)
    raster(tmp_path / "c.tif", bands=6)
    again = Catalog.from_folder(tmp_path, refresh=catalog)
    assert sum(again.notes["guesses"].values()) == 4
    assert sum(reason is not None for reason in again.column("sensor_guess")) == 4
    assert Catalog.from_folder(tmp_path / "more", sensor="sentinel-2-l2a").notes["guesses"] == {}


def test_ids_are_unique_and_the_same_file_counts_once(tmp_path: Path) -> None:
    for folder in ("may", "june"):
        raster(tmp_path / folder / "a.tif")
    catalog = Catalog.from_files([tmp_path / "may" / "a.tif", tmp_path, str(tmp_path / "*" / "*.tif")])
    assert sorted(catalog.ids) == ["june_a", "may_a"]


def test_threads_change_nothing(tmp_path: Path) -> None:
    for number in range(70):
        raster(tmp_path / f"s{number}.tif", bands=1, side=8)
    assert Catalog.from_folder(tmp_path, threads=1).table.equals(Catalog.from_folder(tmp_path, threads=8).table)


def test_the_filters_of_warnings_are_left_as_they_were(tmp_path: Path) -> None:
    write_raster(tmp_path / "b.tif", numbers((1, 8, 8)), crs=None, transform=Affine.identity())
    before = list(warnings.filters)
    Catalog.from_folder(tmp_path)
    assert warnings.filters == before


def test_only_what_changed_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    for name in "abcd":
        raster(folder / f"{name}.tif", bands=1)
    saved = tmp_path / "catalog.parquet"
    first = Catalog.from_folder(folder).with_column("split", ["train", "val", "test", "train"])
    first.save(saved)
    (folder / "b.tif").unlink()
    raster(folder / "c.tif", bands=2)
    raster(folder / "e.tif", bands=1)
    # An unchanged file is not opened at all: one that no longer can be is not missed.
    held = (folder / "d.tif").stat()
    (folder / "d.tif").write_bytes(b"x" * held.st_size)
    os.utime(folder / "d.tif", ns=(held.st_atime_ns, held.st_mtime_ns))
    catalog = Catalog.from_folder(folder, refresh=saved)
    assert catalog.ids == ["a", "c", "d", "e"]
    assert [len(record.bands) for record in catalog] == [1, 2, 1, 1]
    assert list(catalog.column("split")) == ["train", None, "train", None]
    assert catalog.notes["refreshed"] == {
        "unchanged": 2,
        "read_again": [str(folder / "c.tif")],
        "added": [str(folder / "e.tif")],
        "vanished": [str(folder / "b.tif")],
    }
    assert catalog.table.slice(0, 1).select(first.table.column_names).equals(first.table.slice(0, 1))


def test_a_file_that_was_named_and_is_gone_is_dropped(tmp_path: Path) -> None:
    paths = [raster(tmp_path / f"{name}.tif", bands=1) for name in "ab"]
    first = Catalog.from_files(paths)
    paths[1].unlink()
    assert Catalog.from_files(paths, refresh=first).ids == ["a"]


def test_other_options_read_everything_again(tmp_path: Path) -> None:
    raster(tmp_path / "a.tif")
    first = Catalog.from_folder(tmp_path)
    again = Catalog.from_folder(tmp_path, sensor="rgb", refresh=first)
    assert again.notes["refreshed"]["unchanged"] == 0
    assert again[0].sensor == "rgb"


def test_a_refreshed_scene_keeps_its_id_when_a_namesake_comes(tmp_path: Path) -> None:
    raster(tmp_path / "may" / "a.tif")
    first = Catalog.from_folder(tmp_path)
    raster(tmp_path / "june" / "a.tif")
    again = Catalog.from_folder(tmp_path, refresh=first)
    assert {Path(record.path).parent.name: record.id for record in again} == {"may": "a", "june": "june_a"}


def test_indexed_bands_are_read_as_rasterio_reads_them(tmp_path: Path) -> None:
    paths = band_group(tmp_path)
    tile = TileDataset(Catalog.from_folder(tmp_path), 32)[TileRef(0, 0, 0)]
    for path, band in zip(paths, tile["image"].numpy(), strict=True):
        with rasterio.open(path) as file:
            assert (file.read(1) == band).all()


@pytest.mark.real_data
def test_real_scenes_are_taken_for_what_they_are(shared_data: Path) -> None:
    catalog = Catalog.from_folder(shared_data)
    by_id = {record.id: record for record in catalog}
    elkton = by_id["L8_Elkton-VA"]
    assert elkton.sensor == "landsat-8-l1"
    assert elkton.band_names == ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9")
    assert elkton.quality is not None
    assert elkton.quality.invalid == (0, 4, 8, 12)
    assert Path(elkton.mask_path or "").name == "L8-Labels-Elkton-VA.tiff"
    patch = by_id["S2A_MSIL2A_20170617T113321_36_85"]
    assert sorted({band.grid.height for band in patch.bands}) == [20, 60, 120]
    labels = dict(zip(catalog.ids, catalog.table.column("labels").to_pylist(), strict=True))
    assert labels[patch.id] == ["Non-irrigated arable land", "Pastures"]
    assert by_id["S2A_29RKH_20200219_0_L2A"].quality is not None


def test_numbered_scenes_of_one_layout_make_one_dataset(tmp_path: Path) -> None:
    for number in range(4):
        raster(tmp_path / f"s{number}.tif", bands=13)
    catalog = Catalog.from_folder(tmp_path)
    assert {record.sensor for record in catalog} == {"sentinel-2-l1c"}
    assert len(TileDataset(catalog, 32)) == 4


def test_guesses_that_do_not_agree_are_told_with_how_to_overrule_them(tmp_path: Path) -> None:
    raster(tmp_path / "a.tif", bands=13)
    raster(tmp_path / "b.tif", bands=5)
    said = r"b was taken for 'generic', a for 'sentinel-2-l1c': .*--sensor\)"
    with pytest.raises(ConfigurationError, match=said):
        TileDataset(Catalog.from_folder(tmp_path), 32)
