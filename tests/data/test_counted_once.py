"""Evaluation counts each labelled pixel once, whatever the tile size: its figures are those of the ground."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import shapely
import torch
from scenes import numbers, scene_of, write_raster

from geoaug.data import Catalog, TileDataModule, TileDataset
from geoaug.data.sampling.counted_once import CountedOnce

SIDE = 150
TILES = [(150, 150), (64, 64), (100, 37), (149, 150)]


def labelled(folder: Path, splits: tuple[str, ...] = ("train", "val")) -> tuple[Catalog, npt.NDArray[Any]]:
    """Scenes with masks of their own, and the mask of the last one, a tenth of it without label."""
    records = []
    for number, _ in enumerate(splits):
        image = numbers((1, SIDE, SIDE), seed=number)
        mask = (image[0] > np.median(image)).astype(np.uint8)
        mask[: SIDE // 10] = 255
        path = write_raster(folder / f"s{number}.tif", image, tiled=True, blockxsize=64, blockysize=64)
        own = write_raster(folder / f"m{number}.tif", mask[None])
        records.append(replace(scene_of(path), mask_path=str(own)))
    catalog = Catalog.from_records(records, classes=["low", "high"])
    return catalog.with_column("split", list(splits)), mask


@pytest.mark.parametrize("size", TILES)
def test_batches_of_validation_hold_each_labelled_pixel_once(tmp_path: Path, size: tuple[int, int]) -> None:
    catalog, mask = labelled(tmp_path)
    module = TileDataModule(catalog, size, batch_size=3, classes=2)
    module.setup("validate")
    times = np.zeros((SIDE, SIDE), np.int64)
    right = known = 0
    for batch in module.val_dataloader():
        # What depends on a pixel alone answers alike in all tiles: here, wrongly for one in about three.
        answer = (batch["image"][:, 0].float() > 75).numpy().astype(np.uint8)
        counted = batch["mask"].numpy() != 255
        right += int((answer == batch["mask"].numpy())[counted].sum())
        known += int(counted.sum())
        for one, (row, col, height, width) in zip(counted, batch["window"].tolist(), strict=True):
            times[row : row + height, col : col + width] += one[: SIDE - row, : SIDE - col]
    assert np.array_equal(times, (mask != 255).astype(np.int64))
    whole = (numbers((1, SIDE, SIDE), seed=1)[0] > 75).astype(np.uint8)
    assert known == int((mask != 255).sum())
    assert right == int((whole == mask)[mask != 255].sum())
    assert 0.5 < right / known < 1


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_processes_together_count_each_pixel_once(tmp_path: Path, processes: int) -> None:
    catalog, mask = labelled(tmp_path, ("val",))
    dataset = TileDataset(catalog, 64, classes=2)
    total = 0
    for rank in range(processes):
        sampler = CountedOnce(dataset, rank=rank, world_size=processes)
        refs = list(sampler)
        assert len(refs) == -(-9 // processes)
        total += sum(int((dataset[ref]["mask"] != 255).sum()) for ref in refs)
    assert total == int((mask != 255).sum())


def test_tiles_of_any_stride_share_out_the_ground_they_cover(tmp_path: Path) -> None:
    catalog, _ = labelled(tmp_path, ("val",))
    dataset = TileDataset(catalog, (40, 40), classes=2)
    refs = list(CountedOnce(dataset, stride=25))
    windows = [shapely.box(ref.col, ref.row, ref.col + 40, ref.row + 40) for ref in refs]
    counted = [shapely.union_all([shapely.box(w.col, w.row, w.col_stop, w.row_stop) for w in r.counted]) for r in refs]
    own = [window.difference(done).area for window, done in zip(windows, counted, strict=True)]
    assert sum(own) == SIDE * SIDE
    assert torch.equal(dataset[refs[0]]["mask"], dataset[refs[0]._replace(counted=())]["mask"])
