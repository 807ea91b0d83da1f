"""What a state leads to: the rest of its epoch, or the whole of another, in the order that it was taken from."""

from collections.abc import Iterator
from typing import Any

import pytest
from scenes import catalog_of, numbers, write_raster

from geoaug.data import (
    Catalog,
    GridTileSampler,
    LocalityTileSampler,
    RandomTileSampler,
    TileDataset,
    TileLoader,
)
from geoaug.data.datamodule import CountedLoader
from geoaug.errors import ConfigurationError

KINDS = [RandomTileSampler, LocalityTileSampler, GridTileSampler]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder, image = tmp_path_factory.mktemp("scenes"), numbers((2, 640, 640))
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    return catalog_of(*(write_raster(folder / f"s{scene}.tif", image, **tiled) for scene in range(2)))


@pytest.fixture
def dataset(catalog: Catalog) -> Iterator[TileDataset]:
    with TileDataset(catalog, 128) as opened:
        yield opened


def loader_of(dataset: TileDataset, kind: Any, *, counted: bool = False, drop_last: bool = False) -> Any:
    loader = TileLoader(dataset, kind(dataset, *(() if kind is GridTileSampler else (50,))), 8, drop_last=drop_last)
    return CountedLoader(loader) if counted else loader


def keys(batches: Any) -> list[list[int]]:
    return [batch["key"].tolist() for batch in batches]


def epoch_of(loader: Any, epoch: int) -> list[list[int]]:
    loader.set_epoch(epoch)
    return keys(loader)


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_another_epoch_begins_at_its_start_whatever_was_resumed(dataset: TileDataset, kind: Any, counted: bool) -> None:
    whole = loader_of(dataset, kind, counted=counted)
    expected = [epoch_of(whole, epoch) for epoch in range(3)]
    stopped = loader_of(dataset, kind, counted=counted)
    stopped.set_epoch(1)
    batches = iter(stopped)
    begun = keys(next(batches) for _ in range(3))
    state = stopped.state_dict()
    batches.close()
    assert begun == expected[1][:3]
    resumed = loader_of(dataset, kind, counted=counted)
    resumed.load_state_dict(state)
    assert epoch_of(resumed, 2) == expected[2]
    resumed.load_state_dict(state)
    assert epoch_of(resumed, 1) == expected[1][3:], "the epoch of the state goes on"
    assert [epoch_of(resumed, epoch) for epoch in (2, 0)] == [expected[2], expected[0]]
    # The one that was stopped may go on to another epoch, too.
    assert epoch_of(stopped, 2) == expected[2]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_after_the_last_batch_nothing_is_left_of_an_epoch(
    dataset: TileDataset, kind: Any, counted: bool, drop_last: bool
) -> None:
    def made() -> Any:
        return loader_of(dataset, kind, counted=counted, drop_last=drop_last)

    whole = made()
    expected = [epoch_of(whole, epoch) for epoch in range(2)]
    taken = made()
    taken.set_epoch(0)
    states = [taken.state_dict() for _ in taken]
    assert len(states) == len(taken)
    for state in (states[-1], taken.state_dict()):
        resumed = made()
        resumed.load_state_dict(state)
        assert epoch_of(resumed, 0) == []
        assert epoch_of(resumed, 1) == expected[1]
    assert epoch_of(taken, 1) == expected[1]


def test_an_order_is_the_same_on_any_number_of_cores(catalog: Catalog) -> None:
    orders = []
    for threads in (1, 3, 64):
        with TileDataset(catalog, 128, threads=threads, memory_mb=16) as dataset:
            sampler = LocalityTileSampler(dataset, 60)
            orders.append((sampler.windows, sampler.mixed, list(sampler)))
    assert orders[0] == orders[1] == orders[2]


def test_an_order_goes_on_where_there_is_other_memory(catalog: Catalog) -> None:
    with TileDataset(catalog, 128, memory_mb=1) as dataset:
        small = LocalityTileSampler(dataset, 60)
        whole = list(small)
        given = iter(small)
        for _ in range(23):
            next(given)
        state = small.state_dict()
    with TileDataset(catalog, 128, memory_mb=1024) as dataset:
        large = LocalityTileSampler(dataset, 60)
        assert (large.windows, large.mixed) != (small.windows, small.mixed)
        assert list(large) != whole
        large.load_state_dict(state)
        assert (large.windows, large.mixed) == (small.windows, small.mixed)
        assert list(large) == whole[23:]


def test_a_state_of_another_order_is_refused(catalog: Catalog, dataset: TileDataset) -> None:
    state = RandomTileSampler(dataset, 50).state_dict()
    with pytest.raises(ConfigurationError, match="state is of a RandomTileSampler, this is a LocalityTileSampler"):
        LocalityTileSampler(dataset, 50).load_state_dict(state)
    state = LocalityTileSampler(dataset, 50).state_dict()
    with (
        TileDataset(catalog.select([0]), 128) as other,
        pytest.raises(ConfigurationError, match="state is of an order over"),
    ):
        LocalityTileSampler(other, 50).load_state_dict(state)


@pytest.mark.parametrize("kind", [RandomTileSampler, LocalityTileSampler])
def test_a_state_of_another_number_of_processes_is_refused_within_an_epoch(dataset: TileDataset, kind: Any) -> None:
    of_two = kind(dataset, 50, rank=0, world_size=2)
    given = iter(of_two)
    for _ in range(7):
        next(given)
    state = of_two.state_dict()
    alone = kind(dataset, 50)
    alone.load_state_dict(state)
    with pytest.raises(ConfigurationError, match="of 2 processes, here are 1"):
        list(alone)
    loader = TileLoader(dataset, kind(dataset, 50), 8)
    loader.load_state_dict({"sampler": state, "position": 7})
    with pytest.raises(ConfigurationError, match="of 2 processes, here are 1"):
        list(loader)
    loader.set_epoch(1)
    assert len(list(loader)) == 7, "a whole epoch may begin"
