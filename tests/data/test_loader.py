"""Batches come whole, in the sampler's order, the same however they are read; a killed epoch goes on where it was."""

import itertools
import logging
import pickle
import threading
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import catalog_of, numbers, write_raster
from torch.utils.data import DataLoader, Sampler

from geoaug import Compose, scratch
from geoaug.augment import RandomD4, RandomHaze
from geoaug.data import (
    GridTileSampler,
    LocalityTileSampler,
    RandomTileSampler,
    TileDataset,
    TileLoader,
    TileRef,
    collate_tiles,
)
from geoaug.data.loading.options import TileMemory
from geoaug.errors import ConfigurationError, RasterError

BLOCKS = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}


class Places(Sampler[TileRef]):
    """A fixed list of tiles."""

    def __init__(self, refs: list[TileRef]) -> None:
        self.refs = refs

    def __len__(self) -> int:
        return len(self.refs)

    def __iter__(self) -> Iterator[TileRef]:
        return iter(self.refs)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three scenes with a hole each, which tests only read."""
    folder, made = tmp_path_factory.mktemp("scenes"), []
    for scene in range(3):
        image = numbers((3, 400, 420), seed=scene)
        image[:, 100:200, 50:250] = 0
        made.append(write_raster(folder / f"s{scene}.tif", image, nodata=0, **BLOCKS))
    return made


def some_places(count: int, seed: int = 0) -> list[TileRef]:
    generator = np.random.default_rng(seed)
    return [TileRef(int(generator.integers(3)), int(generator.integers(336)), int(generator.integers(356)), n)
            for n in range(count)]  # fmt: skip


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            np.testing.assert_array_equal(found[name].numpy(), value.numpy(), err_msg=name)
        else:
            assert found[name] == value, name


@pytest.mark.parametrize("look_ahead", [1, 3, 50])
def test_batches_are_those_of_the_dataset_in_order(paths: list[Path], look_ahead: int) -> None:
    refs = some_places(23)
    with TileDataset(catalog_of(*paths), 64) as dataset:
        loader = TileLoader(dataset, Places(refs), 5, look_ahead=look_ahead)
        batches = list(loader)
        assert len(batches) == len(loader) == 5
        for number, batch in enumerate(batches):
            assert_same(batch, dataset.read(refs[5 * number : 5 * number + 5]))
        dropping = TileLoader(dataset, Places(refs), 5, look_ahead=look_ahead, drop_last=True)
        assert [len(batch["image"]) for batch in dropping] == [5] * 4
        assert len(dropping) == 4


@pytest.mark.parametrize("workers", ["none", "fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_torchs_own_loader_gives_the_same_batches(paths: list[Path], workers: str) -> None:
    refs = some_places(20)
    with TileDataset(catalog_of(*paths), 64) as dataset:
        # The parent has read before its workers are forked, and goes on reading.
        expected = [dataset.read(refs[start : start + 5]) for start in range(0, 20, 5)]
        context = {} if workers == "none" else {"num_workers": 2, "multiprocessing_context": workers}
        loader = DataLoader(dataset, 5, sampler=Places(refs), collate_fn=collate_tiles, **context)
        for batch, known in zip(loader, expected, strict=True):
            assert_same(batch, known)
            dataset.read(refs[:3])


def test_workers_forked_while_threads_read_do_not_hang(paths: list[Path]) -> None:
    refs = some_places(400)
    with TileDataset(catalog_of(*paths), 64) as dataset:
        reading = iter(TileLoader(dataset, Places(refs), 20))
        for _ in range(3):
            next(reading)
            workers = DataLoader(
                dataset, 10, sampler=Places(refs[:40]), num_workers=2, collate_fn=collate_tiles,
                multiprocessing_context="fork", timeout=60,
            )  # fmt: skip
            for number, batch in enumerate(workers):
                assert_same(batch, dataset.read(refs[10 * number : 10 * number + 10]))


def test_a_dataset_survives_pickling(paths: list[Path]) -> None:
    refs = some_places(4)
    with TileDataset(catalog_of(*paths), 64) as dataset:
        expected = dataset.read(refs)
        with pickle.loads(pickle.dumps(dataset)) as copy:
            assert_same(copy.read(refs), expected)


def test_a_dataset_that_was_closed_reads_again(paths: list[Path]) -> None:
    dataset = TileDataset(catalog_of(*paths), 64)
    expected = dataset.read(some_places(4))
    dataset.close()
    assert_same(dataset.read(some_places(4)), expected)
    dataset.close()


def test_samples_by_number_are_the_tiles_of_a_grid(paths: list[Path]) -> None:
    with TileDataset(catalog_of(*paths), 100) as dataset:
        assert len(dataset) == 3 * 4 * 5
        sample = dataset[7]
        assert sample["image"].shape == (3, 100, 100)
        assert sample["window"].tolist() == [100, 200, 100, 100]
        assert "key" not in sample, "Compose draws one, else every epoch would be augmented alike"
        np.testing.assert_array_equal(dataset[-1]["image"].numpy(), dataset[59]["image"].numpy())
        with pytest.raises(IndexError):
            dataset[60]
        shuffled = DataLoader(dataset, 8, shuffle=True, collate_fn=collate_tiles)
        assert sum(len(batch["scene"]) for batch in shuffled) == 60


@pytest.mark.parametrize("kind", [RandomTileSampler, LocalityTileSampler])
def test_what_is_left_out_is_replaced_by_the_same_tile_however_it_is_read(paths: list[Path], kind: Any) -> None:
    with TileDataset(catalog_of(*paths), 64, min_valid=0.9) as dataset:
        runs = []
        for batch_size, look_ahead in [(10, 1), (10, 4), (6, 3)]:
            sampler = kind(dataset, 60, seed=3)
            batches = list(TileLoader(dataset, sampler, batch_size, look_ahead=look_ahead))
            assert [len(batch["image"]) for batch in batches] == [batch_size] * (60 // batch_size)
            runs.append({name: np.concatenate([batch[name].numpy() for batch in batches])
                         for name in ("image", "valid", "window", "key")})  # fmt: skip
        assert all((run["valid"].mean(axis=(1, 2, 3)) >= 0.9).all() for run in runs)
        for run in runs[1:]:
            for name, value in runs[0].items():
                np.testing.assert_array_equal(run[name], value)
        assert dataset.skipped["scene 's0': less than 0.9 of a tile is valid"] > 0


def test_a_grid_leaves_out_without_replacing(paths: list[Path]) -> None:
    with TileDataset(catalog_of(*paths), 50, min_valid=0.5) as dataset:
        count = sum(len(batch["image"]) for batch in TileLoader(dataset, GridTileSampler(dataset), 16))
        # Rows 100 to 199, columns 50 to 249: two by four tiles of 50 hold nothing.
        assert count == 3 * (8 * 9 - 8)


@pytest.mark.parametrize("kind", [RandomTileSampler, LocalityTileSampler, GridTileSampler])
@pytest.mark.parametrize("stop", [3, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (0, 1, 7))])
def test_a_killed_epoch_goes_on_at_the_same_sample_in_the_same_order(paths: list[Path], kind: Any, stop: int) -> None:
    def loader(dataset: TileDataset) -> TileLoader:
        arguments = () if kind is GridTileSampler else (60,)
        return TileLoader(dataset, kind(dataset, *arguments), 6, look_ahead=2)

    with TileDataset(catalog_of(*paths), 64, min_valid=0.7) as dataset:
        whole = loader(dataset)
        whole.set_epoch(2)
        expected = list(whole)
        killed = loader(dataset)
        killed.set_epoch(2)
        batches = iter(killed)
        for _ in range(stop):
            next(batches)
        state = pickle.loads(pickle.dumps(killed.state_dict()))
        batches.close()  # type: ignore[attr-defined]
    with TileDataset(catalog_of(*paths), 64, min_valid=0.7) as dataset:
        resumed = loader(dataset)
        resumed.load_state_dict(state)
        rest = list(resumed)
        for found, known in zip(rest, expected[stop:], strict=True):
            assert_same(found, known)
        # The next epoch begins at its beginning.
        resumed.set_epoch(3)
        whole.set_epoch(3)
        assert_same(next(iter(resumed)), next(iter(whole)))


def test_a_loader_that_is_dropped_in_the_middle_starts_anew(paths: list[Path]) -> None:
    with TileDataset(catalog_of(*paths), 64) as dataset:
        loader = TileLoader(dataset, Places(some_places(30)), 5)
        first = next(iter(loader))
        assert_same(next(iter(loader)), first)
        assert len(list(loader)) == 6


def test_buffers_are_not_used_again_while_somebody_holds_them(paths: list[Path]) -> None:
    refs = some_places(300)
    with TileDataset(catalog_of(*paths), 64) as dataset:
        loader = TileLoader(dataset, Places(refs), 60, look_ahead=1)
        held = list(itertools.chain(loader, loader))
        for number, batch in enumerate(held):
            start = number % 5 * 60
            np.testing.assert_array_equal(
                batch["image"].numpy(), dataset.read(refs[start : start + 60])["image"].numpy()
            )


@pytest.mark.parametrize(
    "memory_mb", [2, pytest.param(2048, marks=pytest.mark.slow)]
)  # blocks are decoded for each tile, or once
@pytest.mark.parametrize("look_ahead", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_two_groups_and_the_batch_in_use_are_all_that_is_held(
    paths: list[Path], look_ahead: int, memory_mb: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    in_own_pages = scratch._in_own_pages
    monkeypatch.setattr(scratch, "_in_own_pages", lambda size: made.append(size) or in_own_pages(size))
    image = 180 * 3 * 64 * 64 * 2
    with TileDataset(catalog_of(*paths), 64, memory_mb=memory_mb) as dataset:
        loader = TileLoader(dataset, Places(some_places(180 * 14)), 180, look_ahead=look_ahead)
        for batch in loader:
            assert batch["image"].nbytes == image
    assert look_ahead < made.count(image) <= 2 * look_ahead + 1


@pytest.mark.parametrize("memory_mb", [1, 64, 512, 4096])
@pytest.mark.parametrize("block", [2**16, 2**24])
def test_the_shares_of_memory_leave_some_to_libraries(memory_mb: int, block: int) -> None:
    shares = astuple(TileMemory.of(memory_mb, block, 8))
    whole = memory_mb * 2**20
    assert min(shares) > 0
    assert sum(shares) == whole - min(whole // 4, 128 * 2**20)


def test_batches_go_through_compose(paths: list[Path]) -> None:
    with TileDataset(catalog_of(*paths), 64) as dataset:
        compose = Compose([RandomD4(), RandomHaze(aod=(0.1, 0.2))], sensor=dataset.sensor, size=56)
        for batch in TileLoader(dataset, RandomTileSampler(dataset, 20), 10):
            out = compose(batch)
            assert out["image"].shape == (10, 3, 56, 56)
            assert out["image"].dtype == torch.float32
            assert out["transform"].shape == (10, 6)


@pytest.mark.parametrize(
    ("options", "message"), [({"batch_size": 0}, "batch size is 0"), ({"look_ahead": 0}, "look_ahead")]
)
def test_wrong_options_are_refused(paths: list[Path], options: dict[str, int], message: str) -> None:
    with TileDataset(catalog_of(*paths), 64) as dataset, pytest.raises(ConfigurationError, match=message):
        TileLoader(dataset, Places([]), **{"batch_size": 4, **options})


def test_no_tile_at_all_is_no_batch(paths: list[Path]) -> None:
    with TileDataset(catalog_of(*paths), 64) as dataset:
        assert list(TileLoader(dataset, Places([]), 4)) == []


def read_slowly(dataset: TileDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read = dataset.reader.read
    monkeypatch.setattr(dataset.reader, "read", lambda *arguments: time.sleep(0.02) or read(*arguments))


@pytest.mark.parametrize("who", ["this thread", "another"])
def test_closing_in_the_middle_of_an_epoch_leaves_nobody_waiting(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    ended: list[BaseException | None] = []
    with TileDataset(catalog_of(*paths), 64, threads=1) as dataset:
        read_slowly(dataset, monkeypatch)
        batches = iter(TileLoader(dataset, Places(some_places(200)), 5, look_ahead=8))

        def go_on() -> None:
            try:
                for _ in batches:
                    if who == "this thread":
                        dataset.close()
                ended.append(None)
            except BaseException as error:
                ended.append(error)

        assert len(next(batches)["image"]) == 5
        loop = threading.Thread(target=go_on, daemon=True)
        loop.start()
        if who == "another":
            time.sleep(0.05)
            dataset.close()
        loop.join(60)
        assert not loop.is_alive()
    if ended[0] is not None:
        assert isinstance(ended[0], RasterError)
        assert "was closed while" in str(ended[0])


def test_a_wait_for_what_was_dropped_by_closing_ends(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with TileDataset(catalog_of(*paths), 64, threads=1) as dataset:
        read_slowly(dataset, monkeypatch)
        refs = some_places(40)
        reading = dataset.start([refs[:5], refs[5:]])
        reading.batch(0)
        dataset.close()
        with pytest.raises(RasterError, match="was closed while"):
            reading.batch(1)
        assert len(dataset.read(refs[5:])["image"]) == 35


def test_what_begins_while_the_threads_are_stopped_is_told(paths: list[Path]) -> None:
    with TileDataset(catalog_of(*paths), 64) as dataset:
        dataset.reader._threads().shutdown()
        with pytest.raises(RasterError, match="was closed while"):
            dataset.read(some_places(4))


def test_batches_too_large_for_the_memory_are_told_and_take_that_of_blocks(
    paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with TileDataset(catalog_of(*paths), 256, memory_mb=64) as dataset, caplog.at_level(logging.WARNING, "geoaug"):
        TileLoader(dataset, RandomTileSampler(dataset, 8), 4)
        assert not caplog.records
        assert dataset.reader.budget == dataset.memory.chunks
        TileLoader(dataset, RandomTileSampler(dataset, 200), 100)
        [record] = caplog.records
        assert "memory_mb=64 has no room" in record.getMessage()
        assert dataset.reader.budget == dataset.reader.chunks.budget == dataset.memory.chunks // 4
        wanted = int(record.getMessage().split("give it ")[1].split(",")[0])
    with TileDataset(catalog_of(*paths), 256, memory_mb=wanted) as dataset:
        caplog.clear()
        TileLoader(dataset, RandomTileSampler(dataset, 200), 100)
        assert not caplog.records


def test_an_epoch_of_which_nothing_is_left_is_an_error(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "empty.tif", np.zeros((2, 128, 128), np.uint16), nodata=0)
    with TileDataset(catalog_of(path), 64, min_valid=0.5) as dataset:
        for sampler in (GridTileSampler(dataset), RandomTileSampler(dataset, 6)):
            with pytest.raises(RasterError, match=r"all tiles of the epoch are left out: .*less than 0\.5 of a tile"):
                list(TileLoader(dataset, sampler, 4))
