"""Catalogs: saved and reopened as they are, read by others, chosen from, and refused with reason."""

import pickle
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from scenes import numbers, write_raster

from geoaug.data import Catalog
from geoaug.errors import ConfigurationError


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Scenes in two zones and in degrees, with and without dates."""
    places = [
        ("a_20200102", "EPSG:32632", Affine(10, 0, 600000, 0, -10, 5400000)),
        ("b", "EPSG:32633", Affine(20, 0, 400000, 0, -20, 5300000)),
        ("c", "EPSG:4326", Affine(1e-4, 0, 11.5, 0, -1e-4, 48.2)),
    ]
    for name, crs, transform in places:
        write_raster(tmp_path / "scenes" / f"{name}.tif", numbers((2, 30, 40)), crs=crs, transform=transform)
    return Catalog.from_folder(tmp_path / "scenes")


def test_a_saved_catalog_is_the_same_when_reopened(tmp_path: Path, catalog: Catalog) -> None:
    path = tmp_path / "new" / "catalog.parquet"
    catalog.with_notes(classes=["x", "y"]).save(path)
    opened = Catalog.open(path)
    assert list(opened) == list(catalog)
    assert opened.ids == catalog.ids
    assert opened.classes == ("x", "y")
    assert len(opened) == 3
    assert opened.table.equals(catalog.table)
    assert [item.name for item in path.parent.iterdir()] == ["catalog.parquet"]


def test_geopandas_reads_a_catalog_with_its_footprints(tmp_path: Path, catalog: Catalog) -> None:
    catalog.save(tmp_path / "catalog.parquet")
    frame = geopandas.read_parquet(tmp_path / "catalog.parquet")
    assert frame.crs.to_epsg() == 4326
    assert list(frame["id"]) == catalog.ids
    for record, outline in zip(catalog, frame.geometry, strict=True):
        with rasterio.open(record.path) as file:
            expected = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds, densify_pts=4)
        np.testing.assert_allclose(outline.bounds, expected, atol=1e-9)
    assert catalog.to_geopandas().geometry.geom_equals_exact(frame.geometry, 0).all()


def test_chosen_scenes_keep_their_order_and_what_is_known(catalog: Catalog) -> None:
    noted = catalog.with_notes(classes=["x"]).with_column("split", ["train", "val", "train"])
    assert noted.select([2, 0]).ids == ["c", "a_20200102"]
    assert noted.select(noted.column("split") == "train").ids == ["a_20200102", "c"]
    assert noted.select([1]).classes == ("x",)
    assert len(noted.select([])) == 0
    assert list(noted.with_column("split", ["test"] * 3).column("split")) == ["test"] * 3
    assert "split" not in catalog.table.column_names


def test_scenes_are_reached_by_place(catalog: Catalog) -> None:
    assert catalog[1].id == "b"
    for place in (-1, 3):
        with pytest.raises(IndexError, match=f"scene {place} of a catalog of 3"):
            catalog[place]
    with pytest.raises(ConfigurationError, match="the catalog has no column 'cloud'; it has id, kind"):
        catalog.column("cloud")


def test_an_opened_catalog_travels_and_survives_its_file(tmp_path: Path, catalog: Catalog) -> None:
    path = tmp_path / "catalog.parquet"
    catalog.save(path)
    opened = Catalog.open(path)
    assert list(pickle.loads(pickle.dumps(opened))) == list(catalog)
    other = Catalog.open(path)
    catalog.select([0]).save(path)  # replaced meanwhile
    assert list(other) == list(catalog)
    assert len(Catalog.open(path)) == 1


def test_ids_must_be_unique(catalog: Catalog) -> None:
    with pytest.raises(ConfigurationError, match="two scenes have the id 'b'"):
        Catalog.from_records([catalog[1], catalog[1]])


def test_what_is_no_catalog_is_refused(tmp_path: Path, catalog: Catalog) -> None:
    with pytest.raises(ConfigurationError, match="no such catalog; make one with geoaug index"):
        Catalog.open(tmp_path / "gone.parquet")
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(ConfigurationError, match="not a GeoParquet file"):
        Catalog.open(tmp_path / "text.parquet")
    pyarrow.parquet.write_table(pa.table({"id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(ConfigurationError, match="is no catalog of geoaug"):
        Catalog.open(tmp_path / "other.parquet")
    table = catalog.table.replace_schema_metadata({b"geoaug": b'{"version": 99}'})
    pyarrow.parquet.write_table(table, tmp_path / "newer.parquet")
    with pytest.raises(ConfigurationError, match="was made by another version of geoaug"):
        Catalog.open(tmp_path / "newer.parquet")
    catalog.save(tmp_path / "cut.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigurationError, match="not a GeoParquet file"):
        Catalog.open(tmp_path / "cut.parquet")
