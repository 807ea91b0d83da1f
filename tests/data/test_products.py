"""Products of ESA and USGS become scenes: bands of native resolution, scaled by metadata, valid by quality layers."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from products import NATIVE, ORDER, SIDE, make_landsat, make_safe, pixels_of, zip_safe
from scenes import write_raster

from geoaug.data import Catalog, SceneRecord, TileDataset, TileRef
from geoaug.errors import ConfigurationError, RasterError


def only(catalog: Catalog) -> SceneRecord:
    assert len(catalog) == 1
    return catalog[0]


def stored(record: SceneRecord, name: str) -> np.ndarray:
    band = next(band for band in record.bands if band.name == name)
    with rasterio.open(band.path) as file:
        return np.asarray(file.read(band.index))


def test_a_level_2a_product_has_each_band_from_its_native_file(tmp_path: Path) -> None:
    make_safe(tmp_path)
    record = only(Catalog.from_folder(tmp_path))
    assert record.kind == "sentinel-2"
    assert record.sensor == "sentinel-2-l2a"
    assert record.id.startswith("S2A_MSIL2A_20230617T103629")
    assert record.datetime == "2023-06-17T10:36:29.024000+00:00"
    assert record.band_names == tuple(name for name in ORDER if name != "B10")
    for band in record.bands:
        assert abs(band.grid.transform.a) == NATIVE[band.name]
        assert (stored(record, band.name) == pixels_of(band.name, NATIVE[band.name])[0]).all()
        assert band.nodata == 0
        assert band.grid.crs == "EPSG:32632"
    assert record.grid.gsd_m == 10


@pytest.mark.parametrize("level", ["L1C", "L2A"])
def test_offset_and_quantification_come_from_the_metadata_band_by_band(tmp_path: Path, level: str) -> None:
    # A baseline that would say -1000, offsets that say otherwise.
    make_safe(tmp_path, level, offset=-700, quantification=5000)
    record = only(Catalog.from_folder(tmp_path))
    assert {band.quantification for band in record.bands} == {5000}
    assert {band.name: band.offset for band in record.bands if band.offset != -700} == {"B02": -699}
    sensor = record.full_sensor()
    assert sensor.offset[sensor.index("B02")] == -699


def test_products_before_baseline_4_have_no_offset(tmp_path: Path) -> None:
    make_safe(tmp_path, baseline="03.01", offset=None)
    assert {band.offset for band in only(Catalog.from_folder(tmp_path)).bands} == {0}


def test_the_old_naming_gives_a_scene_for_each_granule(tmp_path: Path) -> None:
    make_safe(tmp_path, "L1C", old=True, offset=None, baseline="02.01", granules=["T32UQV", "T32UPV"])
    catalog = Catalog.from_folder(tmp_path)
    assert len(catalog) == 2
    for record, granule in zip(catalog, ("T32UPV", "T32UQV"), strict=True):
        assert granule in record.id
        assert record.band_names == ORDER
        assert record.sensor == "sentinel-2-l1c"
        assert record.quality is None
        assert all(granule in band.path for band in record.bands)
    assert catalog[0].grid.transform.c != catalog[1].grid.transform.c


def test_level_2a_of_the_old_naming_is_read(tmp_path: Path) -> None:
    product = make_safe(tmp_path, baseline="02.04", offset=None)
    for image in list(product.rglob("*.jp2")):
        stem = "S2A_USER_{}_L2A_TL__20160617T103629_A000001_T32UQV"
        band, gsd = image.stem.split("_")[-2:]
        if band == "SCL":
            image.rename(image.parents[1] / f"{stem.format('SCL')}_{gsd}.jp2")
        else:
            image.rename(image.with_name(f"{stem.format('MSI')}_{band}_{gsd}.jp2"))
    metadata = product / "MTD_MSIL2A.xml"
    metadata.write_text(metadata.read_text().replace("BOA_QUANTIFICATION", "L2A_BOA_QUANTIFICATION"))
    metadata.rename(product / "S2A_USER_MTD_SAFL2A_PDMC_20160617T103629_R008.xml")
    record = only(Catalog.from_folder(product.rename(tmp_path / "S2A_USER_PRD_MSIL2A_PDMC_20160617T103629.SAFE")))
    assert (record.sensor, len(record.bands)) == ("sentinel-2-l2a", 12)
    assert (stored(record, "B05") == pixels_of("B05", 20)[0]).all()
    assert record.quality is not None
    assert record.quality.band.path.endswith("T32UQV_20m.jp2")


def test_a_zipped_product_is_read_where_it_is(tmp_path: Path) -> None:
    plain = make_safe(tmp_path / "plain")
    zipped = zip_safe(make_safe(tmp_path / "zipped"))
    first, second = only(Catalog.from_folder(plain)), only(Catalog.from_folder(zipped.parent))
    assert only(Catalog.from_files([zipped])).id == second.id == first.id
    assert (second.bands[0].quantification, second.bands[0].offset) == (10000, -1000)
    assert (stored(first, "B05") == stored(second, "B05")).all()
    assert second.size == zipped.stat().st_size


def test_a_product_that_is_there_twice_is_an_error_or_counts_once(tmp_path: Path) -> None:
    zip_safe(make_safe(tmp_path))
    plain = make_safe(tmp_path)
    with pytest.raises(RasterError, match=r"is the same scene as .*; keep one of them"):
        Catalog.from_folder(tmp_path)
    catalog = Catalog.from_folder(tmp_path, on_error="skip")
    assert only(catalog).path in (str(plain), str(plain.with_suffix(".zip")))
    assert len(catalog.notes["skipped"]) == 1


def test_scene_classes_decide_what_is_valid(tmp_path: Path) -> None:
    classes = np.arange(SIDE // 2 * (SIDE // 2)).reshape(SIDE // 2, -1).astype(np.uint8) % 12
    make_safe(tmp_path, scl=classes)
    catalog = Catalog.from_folder(tmp_path)
    quality = only(catalog).quality
    assert quality is not None
    assert quality.band.path.endswith("SCL_20m.jp2")
    assert (quality.kind, quality.invalid) == ("classes", (0, 1, 3, 8, 9, 10))
    tile = TileDataset(catalog, SIDE, bands=["B02", "B04"])[TileRef(0, 0, 0)]
    expected = ~np.isin(classes, quality.invalid).repeat(2, axis=0).repeat(2, axis=1)
    expected[:2] = False  # nodata
    assert (tile["valid"].numpy()[0] == expected).all()
    assert (tile["image"].numpy()[0] == pixels_of("B02", 10)[0]).all()


@pytest.mark.parametrize(
    ("invalid", "expected"),
    [(["cloud"], (8, 9)), ([11, "cirrus"], (11, 10)), ("snow,nodata", (11, 0)), (["dilated_cloud"], None), ([], None)],
)
def test_what_is_invalid_can_be_chosen(
    tmp_path: Path, invalid: list[str | int] | str, expected: tuple[int, ...] | None
) -> None:
    make_safe(tmp_path)
    quality = only(Catalog.from_folder(tmp_path, invalid=invalid)).quality
    assert (None if quality is None else quality.invalid) == expected


def test_an_unknown_quality_class_is_named(tmp_path: Path) -> None:
    make_safe(tmp_path)
    with pytest.raises(ConfigurationError, match=r"'clouds' is no quality class \(did you mean cloud\?\)"):
        Catalog.from_folder(tmp_path, invalid=["clouds"])


@pytest.mark.parametrize("number", [16, 99, "64"])
def test_a_number_that_flags_cannot_have_is_refused(tmp_path: Path, number: int | str) -> None:
    make_landsat(tmp_path)
    with pytest.raises(
        ConfigurationError, match=rf"{number} is no bit of the quality layer QA_PIXEL \(bits are 0 to 15"
    ):
        Catalog.from_folder(tmp_path, invalid=["cloud", number])
    quality = only(Catalog.from_folder(tmp_path, invalid=[15, "0"])).quality
    assert quality is not None
    assert quality.invalid == (15, 0)


def test_a_number_is_checked_against_the_layer_of_each_scene(tmp_path: Path) -> None:
    make_safe(tmp_path)
    make_landsat(tmp_path)
    record = only(catalog := Catalog.from_folder(tmp_path, invalid=[99], on_error="skip"))
    assert record.kind == "sentinel-2"
    assert "99 is no bit of the quality layer QA_PIXEL" in next(iter(catalog.notes["skipped"].values()))
    for number in (256, "٩٩٩", 10**30):
        with pytest.raises(ConfigurationError, match=r"is no class of the quality layer SCL \(.*classes 0 to 255\)"):
            Catalog.from_folder(tmp_path, invalid=[number], on_error="skip")
    for entry in (-1, "²"):
        with pytest.raises(ConfigurationError, match="is no quality class"):
            Catalog.from_folder(tmp_path, invalid=[entry])


def test_opaque_clouds_are_invalid_at_level_1c(tmp_path: Path) -> None:
    make_safe(tmp_path, "L1C")
    catalog = Catalog.from_folder(tmp_path)
    quality = only(catalog).quality
    assert quality is not None
    assert quality.band.path.endswith("MSK_CLASSI_B00.jp2")
    assert quality.band.index == 1
    valid = TileDataset(catalog, SIDE, bands=["B02"])[TileRef(0, 0, 0)]["valid"].numpy()[0]
    assert valid[2:60].all()
    assert not valid[60:].any()


def test_missing_bands_are_told_and_an_asked_one_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_safe(tmp_path, leave_out=["B05"])
    record = only(Catalog.from_folder(tmp_path))
    assert "B05" not in record.band_names
    assert "has no file of band B05" in caplog.text
    with pytest.raises(ConfigurationError, match=r"\.SAFE: band 'B05' is not one of"):
        Catalog.from_folder(tmp_path, bands="B05,B04")


@pytest.mark.parametrize("fault", ["no metadata", "no images", "broken metadata", "broken zip"])
def test_a_faulty_product_is_an_error_or_left_out(tmp_path: Path, fault: str) -> None:
    make_safe(tmp_path / "good")
    bad = make_safe(tmp_path / "bad", date="20230717T103629")
    if fault == "no metadata":
        (bad / "MTD_MSIL2A.xml").unlink()
    elif fault == "no images":
        for image in bad.rglob("*.jp2"):
            image.unlink()
    elif fault == "broken metadata":
        (bad / "MTD_MSIL2A.xml").write_text("<a>")
    else:
        bad = zip_safe(bad)
        bad.write_bytes(bad.read_bytes()[:1000])
    with pytest.raises(RasterError, match="20230717"):
        Catalog.from_folder(tmp_path)
    catalog = Catalog.from_folder(tmp_path, on_error="skip")
    assert "20230617" in only(catalog).id
    assert list(catalog.notes["skipped"]) == [str(bad)]


def test_products_of_both_kinds_and_rasters_live_in_one_folder(tmp_path: Path) -> None:
    make_safe(tmp_path)
    make_landsat(tmp_path)
    catalog = Catalog.from_folder(tmp_path)
    assert sorted(catalog.column("kind")) == ["landsat", "sentinel-2"]
    assert catalog.notes["layout"]["scenes"] == {"sentinel-2": 1, "landsat": 1}
    assert only(Catalog.from_folder(tmp_path, kind="landsat")).id.startswith("LC08_L2SP")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="nothing laid out as kind='landsat'"):
        Catalog.from_folder(tmp_path / "empty", kind="landsat")


@pytest.mark.parametrize("form", ["txt", "json"])
def test_landsat_level_2_is_scaled_to_reflectance(tmp_path: Path, form: str) -> None:
    make_landsat(tmp_path, form=form)
    record = only(Catalog.from_folder(tmp_path))
    assert (record.kind, record.sensor) == ("landsat", "landsat-8-l2")
    assert record.band_names == ("B1", "B2", "B3", "B4", "B5", "B6", "B7")  # no ST_B10
    assert record.datetime == "2023-06-17T10:12:34+00:00"
    for band in record.bands:
        dn = int(stored(record, band.name)[0, 0])
        assert dn == 7000 + 100 * int(band.name[1:])
        assert (dn + band.offset) / band.quantification == pytest.approx(dn * 2.75e-5 - 0.2)
        assert band.nodata == 0


def test_landsat_level_1_leaves_pan_and_thermal_bands_out_unless_asked(tmp_path: Path) -> None:
    make_landsat(tmp_path, level=1)
    record = only(Catalog.from_folder(tmp_path))
    assert record.sensor == "landsat-8-l1"
    assert record.band_names == ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B9")
    assert (record.bands[0].quantification, record.bands[0].offset) == (50000, -5000)
    assert record.grid.gsd_m == 30
    asked = only(Catalog.from_folder(tmp_path, bands=["pan", "red"]))
    assert asked.band_names == ("B8", "B4")
    assert asked.grid.gsd_m == 15


def packed(product: Path, *, form: str = "") -> Path:
    """A product as USGS gives it."""
    archive = product.with_name(product.name + (form or ".tar"))
    with tarfile.open(archive, "w:gz" if form else "w") as file:
        for path in sorted(product.iterdir()):
            file.add(path, path.name)
    return archive


@pytest.mark.parametrize("form", ["txt", "json"])
def test_a_landsat_product_is_read_from_its_tar(tmp_path: Path, form: str) -> None:
    flags = np.array([1 << bit for bit in range(16)], dtype=np.uint16).repeat(100).reshape(40, 40)
    product = make_landsat(tmp_path, qa=flags, form=form)
    unpacked = Catalog.from_folder(product)
    archive = packed(product)
    both = Catalog.from_folder(tmp_path, on_error="skip")
    assert only(both).path == str(archive)
    assert "is the same scene as" in str(both.notes["skipped"])
    shutil.rmtree(product)
    catalog = Catalog.from_folder(tmp_path)
    record = only(catalog)
    assert (record.path, record.id, record.size) == (str(archive), unpacked[0].id, archive.stat().st_size)
    assert record.band_names == unpacked[0].band_names
    assert all(band.path.startswith(f"/vsitar/{archive}/") for band in record.bands)
    make_landsat(tmp_path, qa=flags, form=form)
    for place in (TileRef(0, 0, 0), TileRef(0, 10, 15)):
        with TileDataset(catalog, 24) as tar, TileDataset(unpacked, 24) as folder:
            expected, found = folder[place], tar[place]
        np.testing.assert_array_equal(found["image"].numpy(), expected["image"].numpy())
        np.testing.assert_array_equal(found["valid"].numpy(), expected["valid"].numpy())
    again = Catalog.from_files([archive], refresh=catalog)
    assert again.notes["refreshed"]["unchanged"] == 1
    assert only(Catalog.from_files([archive], kind="landsat")).id == record.id


def test_a_tar_file_that_is_no_product_is_named(tmp_path: Path) -> None:
    product = make_landsat(tmp_path)
    archive = packed(product)
    broken = tmp_path / archive.name.replace("195026", "195027")
    broken.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(RasterError, match=r"195027.*\.tar: not a tar file that can be read"):
        Catalog.from_folder(tmp_path)
    for path in product.glob("*_MTL.*"):
        path.unlink()
    with pytest.raises(RasterError, match="holds 0 Landsat products"):
        Catalog.from_files([packed(product)])
    with pytest.raises(ConfigurationError, match="unpack it"):
        Catalog.from_files([packed(product, form=".tar.gz")])


def test_flags_decide_what_is_valid(tmp_path: Path) -> None:
    flags = np.array([1 << bit for bit in range(16)], dtype=np.uint16).repeat(100).reshape(40, 40)
    make_landsat(tmp_path, qa=flags)
    catalog = Catalog.from_folder(tmp_path)
    quality = only(catalog).quality
    assert quality is not None
    assert (quality.kind, quality.invalid) == ("bits", (0, 1, 2, 3, 4))
    valid = TileDataset(catalog, 40)[TileRef(0, 0, 0)]["valid"].numpy()[0]
    assert (valid == (flags > 16)).all()  # snow, clear and water stay
    with_snow = only(Catalog.from_folder(tmp_path, invalid=["cloud", "snow"])).quality
    assert with_snow is not None
    assert with_snow.invalid == (3, 5)


def test_a_mission_without_a_sensor_keeps_its_bands_and_scaling(tmp_path: Path) -> None:
    make_landsat(tmp_path, craft=3)
    record = only(Catalog.from_folder(tmp_path))
    assert record.sensor == "generic"
    assert record.band_names[:2] == ("B1", "B2")
    assert record.full_sensor().quantification[0] == pytest.approx(1 / 2.75e-5)


@pytest.mark.parametrize("level", [1, 2])
@pytest.mark.parametrize("craft", [4, 5, 7])
def test_older_landsats_have_the_scale_of_their_metadata(tmp_path: Path, craft: int, level: int) -> None:
    make_landsat(tmp_path, level=level, craft=craft)
    record = only(Catalog.from_folder(tmp_path))
    assert record.sensor == f"landsat-{craft}-l{level}"
    assert record.band_names[:5] == ("B1", "B2", "B3", "B4", "B5")
    assert "B6" not in record.band_names
    assert record.full_sensor().quantification[0] == pytest.approx(1 / (2.75e-5 if level == 2 else 2e-5))


@pytest.mark.parametrize("collection", [True, False])
def test_collection_1_has_flags_of_its_own_and_before_it_there_are_none(tmp_path: Path, collection: bool) -> None:
    flags = np.array([0, 1, 1 << 4, 1 << 7, 1 << 8, 1 << 12], dtype=np.uint16).repeat(6).reshape(6, 6)
    for name in ("B4", "B5", "BQA"):
        write_raster(tmp_path / f"LC08_L1TP_1_{name}.TIF", (flags if name == "BQA" else flags + 1)[None])
    (tmp_path / "LC08_L1TP_1_MTL.txt").write_text(
        "GROUP = L1_METADATA_FILE\n  GROUP = METADATA_FILE_INFO\n"
        + ("    COLLECTION_NUMBER = 01\n" if collection else "")
        + """  END_GROUP = METADATA_FILE_INFO
  GROUP = PRODUCT_METADATA
    SPACECRAFT_ID = "LANDSAT_8"
    DATE_ACQUIRED = 2015-05-02
    FILE_NAME_BAND_4 = "LC08_L1TP_1_B4.TIF"
    FILE_NAME_BAND_5 = "LC08_L1TP_1_B5.TIF"
    FILE_NAME_BAND_QUALITY = "LC08_L1TP_1_BQA.TIF"
  END_GROUP = PRODUCT_METADATA
  GROUP = RADIOMETRIC_RESCALING
    REFLECTANCE_MULT_BAND_4 = 2.0000E-05
    REFLECTANCE_MULT_BAND_5 = 2.0000E-05
    REFLECTANCE_ADD_BAND_4 = -0.100000
    REFLECTANCE_ADD_BAND_5 = -0.100000
  END_GROUP = RADIOMETRIC_RESCALING
END_GROUP = L1_METADATA_FILE
END
"""
    )
    catalog = Catalog.from_folder(tmp_path)
    record = only(catalog)
    assert (record.sensor, record.band_names, record.datetime) == (
        "landsat-8-l1", ("B4", "B5"), "2015-05-02T00:00:00+00:00"
    )  # fmt: skip
    assert (record.bands[0].quantification, record.bands[0].offset) == (50000, -5000)
    valid = TileDataset(catalog, 6)[TileRef(0, 0, 0)]["valid"].numpy()[0]
    # Bit 7 alone is a low confidence of shadow.
    assert (valid == (np.isin(flags, (0, 1 << 7)) if collection else True)).all()


def test_a_file_that_the_metadata_names_may_be_absent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_landsat(tmp_path, leave_out=["B3"])
    assert "B3" not in only(Catalog.from_folder(tmp_path)).band_names
    assert "has no file of band B3" in caplog.text
