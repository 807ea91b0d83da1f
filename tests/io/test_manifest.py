"""The manifest opens in geopandas, and its footprints lie where the tiles do."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import rasterio.warp
from affine import Affine

from geoaug.errors import GeoaugError, RasterError
from geoaug.io.geotiff import write_geotiff
from geoaug.io.manifest import MANIFEST_SCHEMA, Manifest, TileRecord, read_manifest

NORTH_UP = Affine(10.0, 0.0, 399960.0, 0.0, -10.0, 4200000.0)


def record(**changes: object) -> TileRecord:
    values: dict[str, object] = {
        "image": "images/a_0.tif",
        "mask": "masks/a_0.tif",
        "source": "/scenes/a.tif",
        "scene": "a",
        "row": 128,
        "col": 256,
        "height": 64,
        "width": 96,
        "copy": 1,
        "seed": 3,
        "key": 2**62 + 5,
        "crs": "EPSG:32633",
        "transform": NORTH_UP,
        "valid_fraction": 0.75,
        "class_counts": {0: 4000, 255: 2144},
        "parameters": {"RandomRotation": {"degrees": 12.5}},
    }
    return TileRecord(**{**values, **changes})  # type: ignore[arg-type]


def written(path: Path, *records: TileRecord) -> geopandas.GeoDataFrame:
    manifest = Manifest()
    for entry in records:
        manifest.add(entry)
    assert len(manifest) == len(records)
    manifest.write(path)
    return geopandas.read_parquet(path)


def test_every_value_is_read_back(tmp_path: Path) -> None:
    table = written(tmp_path / "manifest.parquet", record(), record(mask=None, class_counts=None, copy=2))
    assert list(table.columns) == MANIFEST_SCHEMA.names
    first = table.iloc[0]
    assert (first["image"], first["mask"], first["scene"], first["row"]) == (
        "images/a_0.tif",
        "masks/a_0.tif",
        "a",
        128,
    )
    assert first["key"] == 2**62 + 5
    assert Affine(*first["transform"]) == NORTH_UP
    assert json.loads(first["class_counts"]) == {"0": 4000, "255": 2144}
    assert json.loads(first["parameters"]) == {"RandomRotation": {"degrees": 12.5}}
    assert table["mask"].isna().tolist() == [False, True]
    assert table["class_counts"].isna().tolist() == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.parquet"]


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3857", "EPSG:3413", "EPSG:4326", "EPSG:2193"])
def test_footprints_lie_where_rasterio_says(tmp_path: Path, crs: str) -> None:
    north_up = {
        "EPSG:4326": Affine(1e-4, 0, 12.0, 0, -1e-4, 38.0),
        "EPSG:2193": Affine(10.0, 0, 1700000.0, 0, -10.0, 5400000.0),
    }.get(crs, NORTH_UP)
    table = written(tmp_path / "m.parquet", record(crs=crs, transform=north_up))
    assert table.crs.to_epsg() == 4326
    bounds = rasterio.transform.array_bounds(64, 96, north_up)
    expected = rasterio.warp.transform_bounds(crs, "EPSG:4326", *bounds)
    np.testing.assert_allclose(table.total_bounds, expected, atol=1e-6)


def test_a_rotated_tile_has_a_rotated_footprint(tmp_path: Path) -> None:
    rotated = NORTH_UP * Affine.translation(48, 32) * Affine.rotation(30) * Affine.translation(-48, -32)
    write_geotiff(tmp_path / "a.tif", np.zeros((1, 64, 96), "uint8"), transform=rotated, crs="EPSG:32633")
    table = written(tmp_path / "m.parquet", record(transform=rotated))
    with rasterio.open(tmp_path / "a.tif") as dataset:
        corners = [dataset.transform * corner for corner in ((0, 0), (96, 0), (96, 64), (0, 64))]
    longitude, latitude = rasterio.warp.transform("EPSG:32633", "EPSG:4326", *zip(*corners, strict=True))
    expected = sorted(zip(longitude, latitude, strict=True))
    found = sorted(table.geometry[0].exterior.coords[:-1])
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert table.to_crs("EPSG:32633").area[0] == pytest.approx(64 * 96 * 100, rel=1e-6)
    assert table.geometry[0].exterior.is_ccw


def test_the_footprint_is_that_of_the_written_size(tmp_path: Path) -> None:
    table = written(tmp_path / "m.parquet", record(size=(224, 224)))
    assert table.to_crs("EPSG:32633").area[0] == pytest.approx(224 * 224 * 100, rel=1e-6)


def test_a_tile_without_a_crs_has_no_footprint_but_its_transform(tmp_path: Path) -> None:
    table = written(tmp_path / "m.parquet", record(), record(crs=None))
    assert table.geometry[0] is not None
    assert table.geometry[1] is None
    assert Affine(*table["transform"][1]) == NORTH_UP
    alone = written(tmp_path / "alone.parquet", record(crs=None))
    assert alone.geometry.isna().all()
    assert alone.crs.to_epsg() == 4326


def test_an_empty_manifest_has_all_columns_and_types(tmp_path: Path) -> None:
    empty = written(tmp_path / "m.parquet")
    assert len(empty) == 0
    assert empty.crs.to_epsg() == 4326
    assert pq.read_schema(tmp_path / "m.parquet").equals(MANIFEST_SCHEMA, check_metadata=False)


def test_numbers_of_numpy_become_json(tmp_path: Path) -> None:
    drawn = {"RandomHaze": {"aod": np.float32(0.25), "bands": np.arange(3)}}
    table = written(tmp_path / "m.parquet", record(parameters=drawn, class_counts={np.uint8(4): np.int64(9)}))
    assert json.loads(table["parameters"][0]) == {"RandomHaze": {"aod": 0.25, "bands": [0, 1, 2]}}
    assert json.loads(table["class_counts"][0]) == {"4": 9}


def test_reading_tells_a_manifest_from_other_files(tmp_path: Path) -> None:
    written(tmp_path / "m.parquet", record())
    assert len(read_manifest(tmp_path / "m.parquet")) == 1
    with pytest.raises(RasterError, match=r"none\.parquet: not a manifest"):
        read_manifest(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(RasterError, match=r"text\.parquet: not a manifest"):
        read_manifest(tmp_path / "text.parquet")
    other = geopandas.GeoDataFrame({"image": ["a"]}, geometry=geopandas.points_from_xy([0], [0]), crs=4326)
    other.to_parquet(tmp_path / "other.parquet")
    with pytest.raises(RasterError, match="has no column mask"):
        read_manifest(tmp_path / "other.parquet")


def test_a_manifest_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    with pytest.raises(GeoaugError, match=r"missing.m\.parquet: cannot be written"):
        Manifest().write(tmp_path / "missing" / "m.parquet")
