"""An epoch whose process is killed goes on in another one at the same tile, in the same order."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from scenes import numbers, write_raster

BATCHES, KILLED_AFTER = 12, 5

# As a training does: a batch is used, then written down with the state that goes on after it.
READER = """
import json, sys, time
from geoaug.data import Catalog, LocalityTileSampler, TileDataset, TileLoader

scenes, log, resume, pause = sys.argv[1].split(","), sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4])
dataset = TileDataset(Catalog.from_files(scenes), 32)
sampler = LocalityTileSampler(dataset, 48, seed=3)
sampler.set_epoch(2)
loader = TileLoader(dataset, sampler, 4)
if resume:
    loader.load_state_dict(resume)
with open(log, "a") as file:
    for batch in loader:
        pixels = batch["image"].long().sum((1, 2, 3))
        tiles = [batch["scene"], *(part.tolist() for part in (batch["window"], batch["key"], pixels))]
        print(json.dumps({"tiles": tiles, "state": loader.state_dict()}), file=file, flush=True)
        time.sleep(pause)
"""


def read(scenes: list[Path], log: Path, resume: Any = None, pause: float = 0.0) -> subprocess.Popen[bytes]:
    told = [",".join(map(str, scenes)), str(log), json.dumps(resume), str(pause)]
    return subprocess.Popen([sys.executable, "-c", READER, *told])


def lines(log: Path) -> list[dict[str, Any]]:
    """What is written whole: the process may be killed in the middle of a line."""
    return [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.slow
def test_an_epoch_killed_in_the_middle_goes_on_at_the_same_tile(tmp_path: Path) -> None:
    scenes = [
        write_raster(tmp_path / f"{n}.tif", numbers((2, 256, 256), seed=n), tiled=True, blockxsize=64, blockysize=64)
        for n in range(2)
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert read(scenes, whole).wait() == 0
    expected = [line["tiles"] for line in lines(whole)]
    assert len(expected) == BATCHES

    process = read(scenes, killed, pause=0.3)
    while not killed.exists() or len(lines(killed)) < KILLED_AFTER:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = lines(killed)
    assert KILLED_AFTER <= len(before) < BATCHES
    killed.write_text("")
    assert read(scenes, killed, resume=before[-1]["state"]).wait() == 0
    assert [line["tiles"] for line in before + lines(killed)] == expected
