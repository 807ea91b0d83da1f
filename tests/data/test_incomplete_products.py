"""Products that lack their metadata or quality layer are what is left of them, and what is missing is told."""

from pathlib import Path

import numpy as np
import pytest
from products import make_landsat, make_safe, write_jp2
from scenes import write_raster

from geoaug.data import Catalog, SceneRecord

LAYERS = {
    2: "ST_B10 ST_QA ST_ATRAN ST_CDIST ST_DRAD ST_EMIS ST_EMSD ST_TRAD ST_URAD SR_QA_AEROSOL QA_RADSAT",
    1: "SAA SZA VAA VZA QA_RADSAT",
}


def only(catalog: Catalog) -> SceneRecord:
    assert len(catalog) == 1
    return catalog[0]


@pytest.mark.parametrize("level", [1, 2])
def test_without_its_metadata_a_product_is_its_bands_and_flags_alone(tmp_path: Path, level: int) -> None:
    product = make_landsat(tmp_path, level=level)
    next(product.glob("*_MTL.txt")).unlink()
    layers = [product / f"{product.name}_{layer}.TIF" for layer in LAYERS[level].split()]
    for layer in layers:
        write_raster(layer, np.ones((1, 40, 40), np.int16))
    catalog = Catalog.from_folder(tmp_path)
    record = only(catalog)
    assert (record.kind, record.sensor) == ("bands", f"landsat-8-l{level}")
    assert {"B1", "B4", "B7"} <= set(record.band_names)
    assert "B10" not in record.band_names
    assert record.quality is not None
    assert record.quality.band.path.endswith("_QA_PIXEL.TIF")
    assert catalog.notes["passed_over"] == {"count": len(layers), "examples": sorted(map(str, layers))[:10]}
    assert only(Catalog.from_files(sorted(product.glob("*.TIF")))).band_names == record.band_names
    # A layer that is named by itself is what a person wants.
    assert only(Catalog.from_files(layers[:1])).path == str(layers[0])
    assert len(Catalog.from_folder(tmp_path, kind="raster")) == len(list(product.iterdir()))


def test_layers_of_a_product_without_reflectance_are_passed_over(tmp_path: Path) -> None:
    name = "LT05_L2SP_195026_19990617_20200907_02_T1"
    for layer in ("ST_B6", "ST_QA", "QA_RADSAT"):
        write_raster(tmp_path / f"{name}_{layer}.TIF", np.ones((1, 8, 8), np.uint16))
    write_raster(tmp_path / "field.tif", np.ones((1, 8, 8), np.uint16))
    catalog = Catalog.from_folder(tmp_path)
    assert catalog.ids == ["field"]
    assert catalog.notes["passed_over"]["count"] == 3


@pytest.mark.parametrize(
    "name", ["post_B10", "west_B6", "saa", "field_SZA", "test_qa", "LC08_ndvi", "LC08_L2SP_195026_20230617_ST_B10_C"]
)
def test_ordinary_names_are_no_layers(tmp_path: Path, name: str) -> None:
    for stem in (name, "other"):
        write_raster(tmp_path / f"{stem}.tif", np.ones((1, 8, 8), np.uint16))
    assert len(Catalog.from_folder(tmp_path)) == 2


@pytest.mark.parametrize("collection", [1, 2])
def test_a_landsat_product_without_its_flags_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, collection: int
) -> None:
    product = make_landsat(tmp_path)
    next(product.glob("*_QA_PIXEL.TIF")).unlink()
    layer = "QA_PIXEL"
    if collection == 1:
        (metadata,) = product.glob("*_MTL.txt")
        metadata.write_text(metadata.read_text().replace("QA_PIXEL.TIF", "BQA.TIF"))
        layer = "BQA"
    assert only(Catalog.from_folder(tmp_path)).quality is None
    assert caplog.messages == [f"{product}: has no file of the quality layer {layer}; clouds count as valid"]
    caplog.clear()
    Catalog.from_folder(tmp_path, invalid=[])
    assert not caplog.messages


@pytest.mark.parametrize(
    ("level", "gone", "told"),
    [
        ("L2A", ["SCL"], "SCL; clouds count as valid"),
        ("L1C", ["MSK_CLASSI"], "MSK_CLASSI; clouds count as valid"),
        ("L2A", ["SCL", "with mask"], "SCL; MSK_CLASSI, opaque clouds alone, takes its place"),
    ],
)
def test_a_sentinel_product_without_its_classes_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, level: str, gone: list[str], told: str
) -> None:
    product = make_safe(tmp_path, level)
    for path in product.rglob(f"*{gone[0]}*.jp2"):
        path.unlink()
    if "with mask" in gone:
        (granule,) = (product / "GRANULE").iterdir()
        write_jp2(granule / "QI_DATA" / "MSK_CLASSI_B00.jp2", np.zeros((3, 20, 20), np.uint8), 60)
    quality = only(Catalog.from_folder(tmp_path)).quality
    assert (quality is not None) == ("with mask" in gone)
    assert caplog.messages == [f"{product}: has no file of the quality layer {told}"]
    caplog.clear()
    Catalog.from_folder(tmp_path, invalid=[])
    assert not caplog.messages


def test_level_1c_before_clouds_were_rasters_is_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_safe(tmp_path, "L1C", old=True, offset=None, baseline="02.01")
    assert only(Catalog.from_folder(tmp_path)).quality is None
    assert not caplog.messages
