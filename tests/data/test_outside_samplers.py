"""Samplers of other packages: one method, and all that built-in ones do."""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from made_catalogs import made_catalog
from outside_package import install
from scenes import numbers, write_raster
from torch.utils.data import DataLoader

from geoaug.data import (
    Catalog,
    CatalogTiles,
    TileDataModule,
    TileDataset,
    TileDraws,
    TileLoader,
    TileRef,
    TileSampler,
    collate_tiles,
)
from geoaug.data.registry import SAMPLERS
from geoaug.errors import ConfigurationError, RasterError
from geoaug.rng.draws import sample_keys


class Diagonal(TileSampler):
    """Tiles along the diagonal of the first scene, a pixel further each epoch."""

    def tiles(self, positions: np.ndarray) -> list[TileRef]:
        at = positions + self.epoch
        return self.refs(positions, np.zeros_like(at), at, at)


class Scattered(TileSampler):
    """Tiles anywhere in scenes drawn alike."""

    endless: ClassVar[bool] = True

    def tiles(self, positions: np.ndarray) -> list[TileRef]:
        scene, down, across, _ = TileDraws(self.seed, 8).uniforms(positions, self.epoch).T
        scene = (scene * len(self.source.catalog)).astype(np.int64)
        grids, (height, width) = self.source.grids, self.source.size
        row = (down * (grids.height[scene] - height + 1)).astype(np.int64)
        col = (across * (grids.width[scene] - width + 1)).astype(np.int64)
        return self.refs(positions, scene, row, col)


def source() -> CatalogTiles:
    return CatalogTiles(made_catalog([(300, 420), (128, 700)]), 64)


def scenes(folder: Path, count: int = 2) -> Catalog:
    return Catalog.from_files(
        [write_raster(folder / f"s{number}.tif", numbers((3, 80, 90), "uint8") + 1) for number in range(count)]
    )


def test_an_order_has_the_positions_of_an_epoch_and_their_keys() -> None:
    sampler = Diagonal(source(), 10, seed=5)
    assert [ref[:3] for ref in sampler] == [(0, at, at) for at in range(10)]
    sampler.set_epoch(3)
    assert [ref[:3] for ref in sampler] == [(0, at + 3, at + 3) for at in range(10)]
    assert [ref.key for ref in sampler] == sample_keys(5, torch.arange(10), 3).tolist()


@pytest.mark.parametrize("kind", [Diagonal, Scattered])
def test_processes_share_an_epoch(kind: type[TileSampler]) -> None:
    alone = list(kind(source(), 10, seed=2))
    shared = [list(kind(source(), 10, seed=2, rank=rank, world_size=3)) for rank in range(3)]
    assert [len(refs) for refs in shared] == [4, 4, 4]
    together = [ref for turn in zip(*shared, strict=True) for ref in turn]
    assert together[:10] == alone
    if not kind.endless:
        assert together[10:] == alone[:2]  # where they do not divide, the first ones again


@pytest.mark.parametrize("kind", [Diagonal, Scattered])
def test_an_epoch_is_taken_up_where_it_stood(kind: type[TileSampler]) -> None:
    sampler = kind(source(), 12, seed=2)
    sampler.set_epoch(1)
    whole = list(sampler)
    begun = iter(sampler)
    some = [next(begun) for _ in range(5)]
    later = kind(source(), 12, seed=9)
    later.load_state_dict(sampler.state_dict())
    assert some + list(later) == whole
    other = Scattered if kind is Diagonal else Diagonal
    with pytest.raises(ConfigurationError, match=f"the state is of a {kind.__name__}"):
        other(source(), 12).load_state_dict(sampler.state_dict())


@pytest.mark.parametrize("kind", [Diagonal, Scattered])
def test_loaders_read_its_tiles_and_go_on_at_any_batch(tmp_path: Path, kind: type[TileSampler]) -> None:
    with TileDataset(scenes(tmp_path), 32) as dataset:
        sampler = kind(dataset, 10, seed=1)
        batches = list(TileLoader(dataset, sampler, 4))
        assert [len(batch["key"]) for batch in batches] == [4, 4, 2]
        refs = list(kind(dataset, 10, seed=1))
        assert torch.cat([batch["key"] for batch in batches]).tolist() == [ref.key for ref in refs]
        windows = torch.cat([batch["window"] for batch in batches])[:, :2]
        assert windows.tolist() == [[ref.row, ref.col] for ref in refs]
        loader = TileLoader(dataset, sampler, 4)
        next(iter(loader))
        state = loader.state_dict()
        again = TileLoader(dataset, kind(dataset, 10, seed=1), 4)
        again.load_state_dict(state)
        for found, wanted in zip(again, batches[1:], strict=True):
            assert torch.equal(found["image"], wanted["image"])
        plain = DataLoader(dataset, 4, sampler=kind(dataset, 10, seed=1), collate_fn=collate_tiles)
        for found, wanted in zip(plain, batches, strict=True):
            assert torch.equal(found["image"], wanted["image"])


def test_what_is_left_out_is_replaced_in_endless_orders_alone(tmp_path: Path) -> None:
    catalog = scenes(tmp_path, 4)
    (tmp_path / "s3.tif").write_bytes(b"no raster")
    with TileDataset(catalog, 32, on_error="skip") as dataset:
        scattered = TileLoader(dataset, Scattered(dataset, 40, seed=1), 8)
        batches = list(scattered)
        assert [len(batch["scene"]) for batch in batches] == [8] * 5
        assert scattered.skipped
        assert set(Counter(name for batch in batches for name in batch["scene"])) == {"s0", "s1", "s2"}
        keys = torch.cat([batch["key"] for batch in batches]).tolist()
        assert len(set(keys)) == 40
        assert keys == torch.cat([b["key"] for b in TileLoader(dataset, Scattered(dataset, 40, seed=1), 4)]).tolist()
    (tmp_path / "s0.tif").write_bytes(b"no raster")
    with TileDataset(catalog, 32, on_error="skip") as dataset, pytest.raises(RasterError, match="are left out"):
        list(TileLoader(dataset, Diagonal(dataset, 8), 4))


def test_a_data_module_trains_with_a_class_or_an_installed_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "geoaug.samplers", "diagonal", f"{__name__}:Diagonal")
    install(tmp_path, monkeypatch, "geoaug.samplers", "broken", "nowhere.at_all:Sampler")
    catalog = scenes(tmp_path)
    wanted = None
    for sampler in (Diagonal, "diagonal", lambda dataset, length, seed: Diagonal(dataset, length, seed=seed)):
        module = TileDataModule(catalog, 32, batch_size=4, length=10, seed=7, sampler=sampler)
        module.setup("fit")
        keys = torch.cat([batch["key"] for batch in module.train_dataloader()]).tolist()
        wanted = wanted or sample_keys(7, torch.arange(10), 0).tolist()
        assert keys == wanted
    with pytest.raises(ConfigurationError, match=r"'spiral' is not known.*there are broken, diagonal, locality"):
        TileDataModule(catalog, 32, sampler="spiral")
    with pytest.raises(ConfigurationError, match=r"the sampler 'broken' \(nowhere\.at_all:Sampler of outside-broken\)"):
        SAMPLERS.named("broken")


def test_each_built_in_sampler_is_a_tile_sampler() -> None:
    for name in SAMPLERS.built_in:
        found: Any = SAMPLERS.named(name)
        assert issubclass(found, TileSampler)
