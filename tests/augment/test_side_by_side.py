"""Several processes and several streams: what happens to a sample is the same wherever it is, and nothing is shared."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from one_of_two import SAMPLES, recipe, samples

from geoaug import get_sensor, load_recipe
from geoaug.rng.draws import sample_keys


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch without gloo")
def test_two_processes_that_train_together_make_what_one_makes(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "support" / "one_of_two.py"
    environment = {**os.environ, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, script, tmp_path],
            env={**environment, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    made = torch.load(tmp_path / "made.pt")
    alone = recipe()(samples(list(range(SAMPLES))))
    assert torch.equal(made["image"], alone["image"])
    assert torch.equal(*made["gradients"])
    assert not torch.equal(alone["image"][0], samples([0])["image"][0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("executor", ["torch", "triton"])
def test_two_streams_do_not_disturb_each_other(executor: str) -> None:
    compose = load_recipe("sentinel-2-segmentation").compose(sensor=get_sensor("sentinel-2-l1c"))
    compose.executor = executor  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(0)
    batches = []
    for seed in range(2):
        image = (torch.rand(8, 13, 96, 96, generator=generator) * 5000).to(torch.uint16)
        batches.append({"image": image.cuda(), "key": sample_keys(seed, range(8)).cuda()})
    expected = [compose(batch)["image"].clone() for batch in batches]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in batches]
    seen: list[list[torch.Tensor]] = [[], []]
    for _ in range(5):
        for stream, batch, found in zip(streams, batches, seen, strict=True):
            with torch.cuda.stream(stream):
                found.append(compose(batch)["image"])
    torch.cuda.synchronize()
    for found, wanted in zip(seen, expected, strict=True):
        assert all(torch.equal(image, wanted) for image in found)
