"""STAC items become scenes: placed and scaled as they say, without opening files where they say enough."""

import json
import sys
from pathlib import Path
from typing import Any

import pystac
import pytest
import rasterio
from stac_api import make_item, stac_api

from geoaug.data import Catalog, SceneRecord, TileDataset, TileRef
from geoaug.errors import ConfigurationError, RasterError


def only(catalog: Catalog) -> SceneRecord:
    assert len(catalog) == 1
    return catalog[0]


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_an_item_that_says_enough_is_not_opened(tmp_path: Path, version: str) -> None:
    item = make_item(tmp_path, version=version)
    headers = {}
    for path in tmp_path.rglob("*.tif"):
        with rasterio.open(path) as file:
            headers[str(path)] = (file.transform, file.shape, file.crs.to_epsg(), file.dtypes[0], file.nodata)
        path.write_bytes(b"cannot be opened")
    record = only(Catalog.from_stac(item))
    assert record.id == item["id"]
    assert record.kind == "stac"
    assert record.sensor == "sentinel-2-l2a"
    assert record.band_names == ("B04", "B08", "B11")
    assert record.datetime == "2023-06-17T10:36:29+00:00"
    assert record.quality is not None
    for band in (*record.bands, record.quality.band):
        transform, shape, epsg, dtype, nodata = headers[band.path]
        assert (band.grid.transform, (band.grid.height, band.grid.width)) == (transform, shape)
        assert (band.grid.crs, band.dtype) == (f"EPSG:{epsg}", dtype)
        if band is not record.quality.band:
            assert (band.nodata, band.quantification, band.offset) == (nodata, 10000, -1000)
    assert Catalog.from_stac(item).column("cloud_cover")[0] == 12.5


@pytest.mark.parametrize(("projection", "raster"), [(False, True), (True, False), (False, False)])
def test_what_an_item_leaves_out_is_read_from_the_files(tmp_path: Path, projection: bool, raster: bool) -> None:
    whole = only(Catalog.from_stac(make_item(tmp_path)))
    item = make_item(tmp_path, projection=projection, raster=raster, properties={"s2:processing_baseline": "05.09"})
    record = only(Catalog.from_stac(item))
    for band, expected in zip(record.bands, whole.bands, strict=True):
        assert band.grid == expected.grid
        assert (band.name, band.dtype, band.nodata) == (expected.name, expected.dtype, expected.nodata)
        assert (band.quantification, band.offset) == (10000, -1000)


@pytest.mark.parametrize(("pixels", "half"), [(0.5, True), (-0.5, True), (3.0, False)])
def test_an_item_that_is_half_a_pixel_off_is_told_what_helps(tmp_path: Path, pixels: float, half: bool) -> None:
    item = make_item(tmp_path)

    def shift(part: Any) -> None:
        if isinstance(part, dict):
            for key, value in part.items():
                if key == "proj:transform":
                    value[2] += pixels * value[0]
                    value[5] += pixels * value[4]
                else:
                    shift(value)

    shift(item)
    catalog = Catalog.from_stac(item)
    with pytest.raises(RasterError) as caught:
        TileDataset(catalog, 48)[TileRef(0, 0, 0)]
    assert ("half a pixel from where the catalog has it, which counts from pixel centres" in str(caught.value)) == half
    assert ("--refresh" in str(caught.value)) == (not half)
    assert "open_headers=True" in str(caught.value)
    helped = TileDataset(Catalog.from_stac(item, open_headers=True), 48)[TileRef(0, 0, 0)]
    assert [int(band[0, 0]) for band in helped["image"]] == [1000, 2000, 3000]


def test_an_offset_that_was_taken_out_is_not_applied_again(tmp_path: Path) -> None:
    item = make_item(tmp_path, properties={"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.09"})
    assert {band.offset for band in only(Catalog.from_stac(item)).bands} == {0}


def test_a_baseline_before_4_has_no_offset(tmp_path: Path) -> None:
    item = make_item(tmp_path, raster=False, properties={"s2:processing_baseline": "02.14"})
    assert {band.offset for band in only(Catalog.from_stac(item)).bands} == {0}


def test_items_are_read_as_tiles_with_their_clouds(tmp_path: Path) -> None:
    catalog = Catalog.from_stac(make_item(tmp_path))
    tile = TileDataset(catalog, 48)[TileRef(0, 0, 0)]
    assert [int(band[0, 0]) for band in tile["image"]] == [1000, 2000, 3000]
    assert not tile["valid"][0, :6].any()
    assert tile["valid"][0, 6:].all()


def test_assets_bands_and_sensor_can_be_chosen(tmp_path: Path) -> None:
    item = make_item(tmp_path)
    assert only(Catalog.from_stac(item, assets=["nir", "red"])).band_names == ("B04", "B08")
    assert only(Catalog.from_stac(item, bands=["swir16", "nir"])).band_names == ("B11", "B08")
    assert only(Catalog.from_stac(item, sensor="sentinel-2-l1c")).sensor == "sentinel-2-l1c"
    assert only(Catalog.from_stac(item, invalid=[])).quality is None
    opened = only(Catalog.from_stac(item, open_headers=True)).bands[0]
    with rasterio.open(opened.path) as file:
        assert opened.block_shape == file.block_shapes[0]


def static_catalog(folder: Path, items: list[dict[str, Any]]) -> pystac.Catalog:
    """A catalog in files, with the last item in itself and the others in a collection."""
    catalog = pystac.Catalog("root", "a catalog")
    collection = pystac.Collection(
        "sentinel-2-l2a", "a collection",
        pystac.Extent(pystac.SpatialExtent([[10, 48, 11, 49]]), pystac.TemporalExtent([[None, None]])),
    )  # fmt: skip
    catalog.add_child(collection)
    collection.add_items([pystac.Item.from_dict(item) for item in items[:-1]])
    catalog.add_item(pystac.Item.from_dict(items[-1]))
    catalog.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    return catalog


def test_static_catalogs_are_walked(tmp_path: Path) -> None:
    items = [make_item(tmp_path, f"S2A_32UQV_2023061{day}_0_L2A") for day in range(3)]
    catalog = static_catalog(tmp_path / "stac", items)
    collected = tmp_path / "items.json"
    collected.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    names = {item["id"] for item in items}
    saved = tmp_path / "stac" / "catalog.json"
    whole = Catalog.from_stac(saved)
    assert set(whole.ids) == names
    assert all(Path(record.path).is_file() for record in whole)
    assert len(Catalog.from_stac(str(tmp_path / "stac" / "sentinel-2-l2a" / "collection.json"))) == 2
    assert set(Catalog.from_stac(catalog).ids) == names
    assert set(Catalog.from_stac(pystac.ItemCollection(items)).ids) == names
    assert set(Catalog.from_stac(collected).ids) == names
    assert set(Catalog.from_stac([items[0], pystac.Item.from_dict(items[1])]).ids) == names - {items[2]["id"]}
    assert len(Catalog.from_stac([items[0], items[0]])) == 1


def test_an_api_is_searched_page_by_page(tmp_path: Path) -> None:
    items = [make_item(tmp_path, f"S2A_32UQV_2023061{day}_0_L2A") for day in range(3)]
    with stac_api(items) as (address, asked):
        found = Catalog.from_stac(address, search={"collections": ["sentinel-2-l2a"], "bbox": [10, 48, 11, 49]})
        assert found.ids == [item["id"] for item in items]
        assert len(asked) == 3
        assert asked[0]["collections"] == ["sentinel-2-l2a"]
        assert len(Catalog.from_stac(address, search={"max_items": 1})) == 1
    with stac_api([]) as (address, _), pytest.raises(ConfigurationError, match="holds no item that the search finds"):
        Catalog.from_stac(address, search={"collections": ["none"]})


def test_remote_assets_become_paths_of_gdal(tmp_path: Path) -> None:
    item = make_item(tmp_path)
    for asset in item["assets"].values():
        asset["href"] = f"https://example.org/{Path(asset['href']).name}?token=a"
    record = only(Catalog.from_stac(item))
    assert record.bands[0].path == "/vsicurl/https://example.org/B04.tif?token=a"
    assert (record.size, record.mtime_ns) == (0, 0)


def test_items_that_cannot_be_used_are_errors_or_left_out(tmp_path: Path) -> None:
    good, bad = make_item(tmp_path), make_item(tmp_path, "S2A_32UQV_20230618_0_L2A")
    bad["assets"] = {"thumbnail": bad["assets"]["thumbnail"]}
    with pytest.raises(RasterError, match="no asset of item 'S2A_32UQV_20230618_0_L2A' has bands to read"):
        Catalog.from_stac([good, bad])
    catalog = Catalog.from_stac([good, bad], on_error="skip")
    assert only(catalog).id == good["id"]
    assert len(catalog.notes["skipped"]) == 1
    with pytest.raises(RasterError, match="has no asset blue; it has red, nir"):
        Catalog.from_stac(good, assets=["blue"])


WRONG: dict[str, tuple[tuple[Any, ...], Any]] = {
    "a shape of one number": (("properties", "proj:shape"), 64),
    "a transform of words": (("properties", "proj:transform"), ["a", "b", "c", "d", "e", "f"]),
    "a transform of two numbers": (("properties", "proj:transform"), [10, 0]),
    "clouds in words": (("properties", "eo:cloud_cover"), "many"),
    "bands by number": (("assets", "red", "bands"), 4),
    "bands that are names": (("assets", "red", "bands"), ["B04"]),
    "a type of numbers": (("assets", "red", "bands", 0, "data_type"), "decimal"),
    "roles by number": (("assets", "red", "roles"), [1]),
    "a scale in words": (("assets", "red", "bands", 0, "raster:scale"), "large"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_item_with_a_field_of_another_type_is_an_error_or_left_out(tmp_path: Path, what: str) -> None:
    good, bad = make_item(tmp_path, version="1.1.0"), make_item(tmp_path, version="1.1.0")
    bad["id"] = "odd"
    (*way, last), value = WRONG[what]
    holder = bad
    for step in way:
        holder = holder[step]
    holder[last] = value
    if what in ("a shape of one number", "a transform of words", "a transform of two numbers"):
        for asset in bad["assets"].values():
            asset.pop(last, None)
    with pytest.raises(RasterError, match="item 'odd' has a field that cannot be understood"):
        Catalog.from_stac(bad)
    catalog = Catalog.from_stac([good, bad], on_error="skip")
    assert only(catalog).id == good["id"]


@pytest.mark.parametrize("fault", ["gone", "no json", "no item", "wrong kind"])
@pytest.mark.parametrize("within", ["catalog.json", "sentinel-2-l2a/collection.json"])
def test_an_item_of_a_collection_that_cannot_be_read_is_an_error_or_left_out(
    tmp_path: Path, fault: str, within: str
) -> None:
    names = [f"S2A_32UQV_2023061{day}_0_L2A" for day in range(3)]
    static_catalog(tmp_path / "stac", [make_item(tmp_path, name) for name in names])
    (bad,) = (tmp_path / "stac").rglob(f"{names[0]}.json")
    if fault == "gone":
        bad.unlink()
    else:
        catalog = (tmp_path / "stac" / "catalog.json").read_text()
        bad.write_text({"no json": "{", "no item": '{"type": "Feature"}', "wrong kind": catalog}[fault])
    with pytest.raises(
        RasterError, match=rf"{names[0]}\.json: the item that .*collection\.json links to cannot be read"
    ):
        Catalog.from_stac(tmp_path / "stac" / within)
    catalog = Catalog.from_stac(tmp_path / "stac" / within, on_error="skip")
    assert set(catalog.ids) == {*names[1 : 3 if within == "catalog.json" else 2]}
    assert list(catalog.notes["skipped"]) == [str(bad)]
    assert names[0] in catalog.notes["skipped"][str(bad)]


def test_a_collection_that_is_gone_and_one_without_items_are_told(tmp_path: Path) -> None:
    names = [f"S2A_32UQV_2023061{day}_0_L2A" for day in range(2)]
    static_catalog(tmp_path / "stac", [make_item(tmp_path, name) for name in names])
    collection = tmp_path / "stac" / "sentinel-2-l2a" / "collection.json"
    (collection.parent / names[0] / f"{names[0]}.json").unlink()
    with pytest.raises(RasterError, match=r"none of 1 scenes can be read: .*the item that"):
        Catalog.from_stac(collection, on_error="skip")
    collection.unlink()
    with pytest.raises(
        RasterError, match=r"collection\.json: the catalog that .*catalog\.json links to cannot be read"
    ):
        Catalog.from_stac(tmp_path / "stac" / "catalog.json")
    catalog = Catalog.from_stac(tmp_path / "stac" / "catalog.json", on_error="skip")
    assert catalog.ids == names[1:]
    assert list(catalog.notes["skipped"]) == [str(collection)]


def test_an_item_of_a_file_of_items_that_is_broken_is_an_error_or_left_out(tmp_path: Path) -> None:
    good = make_item(tmp_path)
    broken = {**good, "id": "broken", "properties": {"datetime": "never"}}
    place = tmp_path / "items.json"
    place.write_text(json.dumps({"type": "FeatureCollection", "features": [broken, good]}))
    with pytest.raises(RasterError, match=r"items\.json#broken: item 1 of it cannot be read"):
        Catalog.from_stac(place)
    catalog = Catalog.from_stac(place, on_error="skip")
    assert catalog.ids == [good["id"]]
    assert list(catalog.notes["skipped"]) == [f"{place}#broken"]


def test_what_is_no_stac_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "some.json"
    for content in ("no json", "[1]", '{"type": "Feature"}', '{"a": 1}'):
        place.write_text(content)
        with pytest.raises(ConfigurationError, match=r"some\.json"):
            Catalog.from_stac(place)
    with pytest.raises(ConfigurationError, match="no such file of STAC JSON"):
        Catalog.from_stac(tmp_path / "gone.json")
    with pytest.raises(ConfigurationError, match="is no STAC item"):
        Catalog.from_stac(7)
    with pytest.raises(ConfigurationError, match="cannot be fetched"):
        Catalog.from_stac("http://127.0.0.1:9/item.json")


def test_without_pystac_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystac", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'geoaug\[stac\]'"):
        Catalog.from_stac(tmp_path / "item.json")
