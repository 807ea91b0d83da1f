"""Orders among processes: ranks of torch.distributed, and workers of torch's DataLoader."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sampled_ranks import SAMPLERS, source, tiles_of_rank
from torch.utils.data import DataLoader, Dataset

from geoaug.data import TileRef


@pytest.mark.slow
def test_ranks_of_a_group_share_an_epoch(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=tiles_of_rank, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, make in SAMPLERS.items():
        assert len(first[name]) == len(second[name])
        alone = [tuple(tile) for tile in make(source())]
        together = [tile for pair in zip(first[name], second[name], strict=True) for tile in pair]
        keys = {tile[3] for tile in together}
        assert keys >= {tile[3] for tile in alone}, "the keys of one process alone"
        assert len({tile[3] for tile in first[name]} & {tile[3] for tile in second[name]}) <= 1
        if name in ("random", "grid"):
            assert together[: len(alone)] == alone
        if name == "chips":
            assert sorted(tile[0] for tile in together) == list(range(60))


class Echo(Dataset[Any]):
    """Gives back what it is asked for."""

    def __getitem__(self, ref: TileRef) -> torch.Tensor:
        return torch.tensor([ref.scene, ref.row, ref.col, ref.key])


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_order_does_not_depend_on_workers(name: str) -> None:
    given = []
    for workers in (0, 2):
        sampler = SAMPLERS[name](source())
        given.append(torch.cat(list(DataLoader(Echo(), 8, sampler=sampler, num_workers=workers))).numpy())
    np.testing.assert_array_equal(*given)
    np.testing.assert_array_equal(given[0], [ref[:4] for ref in SAMPLERS[name](source())])
