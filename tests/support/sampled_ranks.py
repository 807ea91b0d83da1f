"""Samplers as a process of a group makes them; in a module that such a process can import."""

from typing import Any

import torch
import torch.distributed
from made_catalogs import made_catalog

from geoaug.data import GridTileSampler, LocalityTileSampler, RandomTileSampler
from geoaug.data.sampling.tile_source import CatalogTiles

SAMPLERS: dict[str, Any] = {
    "random": lambda source: RandomTileSampler(source, 101, seed=3),
    "chips": lambda source: LocalityTileSampler(CatalogTiles(made_catalog([(64, 64)] * 60), 64), 60),
    "locality": lambda source: LocalityTileSampler(source, 101, seed=3, mixed=4, windows=5),
    "grid": lambda source: GridTileSampler(source),
}


def source() -> CatalogTiles:
    return CatalogTiles(made_catalog([(300, 420), (128, 700)]), 64)


def tiles_of_rank(rank: int, folder: str) -> None:
    """Run by a process of its own."""
    made = {name: make(source()) for name, make in SAMPLERS.items()}  # before the group exists: looked up when needed
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    try:
        found = {name: [tuple(tile) for tile in sampler] for name, sampler in made.items()}
        torch.save(found, f"{folder}/{rank}.pt")
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
