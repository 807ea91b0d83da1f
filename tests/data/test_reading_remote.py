"""Scenes behind a web server: only the bytes that tiles need, and a connection that breaks is made anew."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from range_server import RangeServer
from rasterio.shutil import copy
from scenes import numbers, write_raster

from geoaug.data import Catalog, TileDataset, TileLoader, TileRef
from geoaug.errors import RasterError

IMAGE = np.random.default_rng(1).integers(0, 60000, (3, 1024, 1024)).astype("uint16")
BLOCK_BYTES = 256 * 256 * 3 * 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RangeServer]:
    plain = write_raster(tmp_path / "plain.tif", IMAGE)
    copy(plain, tmp_path / "scene.tif", driver="COG", compress="none", blocksize=256, overviews="none")
    with RangeServer(tmp_path).running() as running:
        yield running


def test_only_the_blocks_that_a_tile_touches_are_fetched(server: RangeServer) -> None:
    catalog = Catalog.from_files([f"{server.address}/scene.tif"])
    assert server.sent < 100_000, "the header alone is read by indexing"
    with TileDataset(catalog, 100) as dataset:
        before = server.sent
        batch = dataset.read([TileRef(0, 300, 600), TileRef(0, 400, 650)])
        fetched = server.sent - before
    np.testing.assert_array_equal(batch["image"].numpy()[1], IMAGE[:, 400:500, 650:750])
    # Both tiles lie in one block of 256 x 256; GDAL fetches by 16 KiB, and the header again for the new handle.
    assert BLOCK_BYTES <= fetched < BLOCK_BYTES + 150_000


def test_small_blocks_are_fetched_one_by_one(server: RangeServer, tmp_path: Path) -> None:
    copy(tmp_path / "plain.tif", tmp_path / "small.tif", driver="COG", compress="none", blocksize=128, overviews="none")
    with TileDataset(Catalog.from_files([f"{server.address}/small.tif"]), 128) as dataset:
        before = server.sent
        batch = dataset.read([TileRef(0, 256, 384)])
        fetched = server.sent - before
    np.testing.assert_array_equal(batch["image"].numpy()[0], IMAGE[:, 256:384, 384:512])
    assert BLOCK_BYTES / 4 <= fetched < BLOCK_BYTES / 4 + 100_000


@pytest.mark.slow
def test_a_server_that_falls_silent_is_given_up(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "1")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    catalog = Catalog.from_files([f"{server.address}/scene.tif"])
    with TileDataset(catalog, 100) as dataset:
        server.silent_from = 20_000
        with pytest.raises(RasterError, match="scene 'scene': cannot read rows 256 to 511"):
            dataset.read([TileRef(0, 300, 600)])


def test_a_connection_that_breaks_is_made_anew(server: RangeServer) -> None:
    catalog = Catalog.from_files([f"{server.address}/scene.tif"])
    with TileDataset(catalog, 100) as dataset:
        server.cut, server.cut_from = 2, 20_000
        batch = dataset.read([TileRef(0, 300, 600)])
        assert server.cut == 0
    np.testing.assert_array_equal(batch["image"].numpy()[0], IMAGE[:, 300:400, 600:700])


def test_a_connection_that_always_breaks_is_an_error_that_names_the_scene(server: RangeServer) -> None:
    catalog = Catalog.from_files([f"{server.address}/scene.tif"])
    with TileDataset(catalog, 100) as dataset:
        dataset.read([TileRef(0, 0, 0)])
        server.cut, server.cut_from = 10**6, 20_000
        with pytest.raises(
            RasterError,
            match=r"scene 'scene': cannot read rows 256 to 511.*/scene\.tif: 3 attempts over the network failed: the "
            r"connection may have broken, or the file may be damaged \(",
        ):
            dataset.read([TileRef(0, 300, 600)])
        server.cut = 0
        batch = dataset.read([TileRef(0, 300, 600)])
    np.testing.assert_array_equal(batch["image"].numpy()[0], IMAGE[:, 300:400, 600:700])


def test_a_file_that_cannot_be_opened_any_more_is_told(server: RangeServer, tmp_path: Path) -> None:
    catalog = Catalog.from_files([f"{server.address}/scene.tif"])
    (tmp_path / "scene.tif").rename(tmp_path / "moved.tif")
    with (
        TileDataset(catalog, 100) as dataset,
        pytest.raises(RasterError, match=r"/scene\.tif: not a raster.*; 3 attempts .* or the file may be gone$"),
    ):
        dataset.read([TileRef(0, 300, 600)])


def test_a_file_that_was_changed_is_no_fault_of_the_network(server: RangeServer) -> None:
    [record] = Catalog.from_files([f"{server.address}/scene.tif"])
    bands = tuple(replace(band, grid=replace(band.grid, height=900)) for band in record.bands)
    catalog = Catalog.from_records([replace(record, bands=bands)])
    with TileDataset(catalog, 100) as dataset, pytest.raises(RasterError, match="was changed since") as told:
        dataset.read([TileRef(0, 300, 600)])
    assert "network" not in str(told.value)


def test_a_scene_that_is_gone_is_left_out_and_the_rest_goes_on(server: RangeServer, tmp_path: Path) -> None:
    write_raster(tmp_path / "other.tif", numbers((3, 1024, 1024)), tiled=True, blockxsize=256, blockysize=256)
    catalog = Catalog.from_files([f"{server.address}/scene.tif", f"{server.address}/other.tif"])
    (tmp_path / "other.tif").rename(tmp_path / "moved.tif")
    with TileDataset(catalog, 64, on_error="skip") as dataset:
        places = [TileRef(scene, 256 * turn, 256 * turn) for turn in range(4) for scene in (0, 1)]
        batches = list(TileLoader(dataset, places, 4))
    assert [scene for batch in batches for scene in batch["scene"]] == ["scene"] * 4
    assert sum(dataset.skipped.values()) == 4
    assert all("scene 'other'" in line for line in dataset.skipped)
