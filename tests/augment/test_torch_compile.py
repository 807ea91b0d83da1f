"""`torch.compile` of what a plan does to pixels: one graph, and no other for other parameters."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from geoaug.rng.draws import sample_keys
from geoaug.rng.noise import standard_normal, whole_normal


def compiled(backend: str, *names: str) -> dict[str, tuple[int, float]]:
    """Graphs and the greatest difference by name."""
    script = Path(__file__).parents[1] / "support" / "compiled_plans.py"
    run = subprocess.run([sys.executable, script, backend, *names], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    lines = [line.split() for line in run.stdout.splitlines()]
    return {name: (int(graphs), float(worst)) for name, graphs, worst in lines}


def check(found: dict[str, tuple[int, float]], *names: str) -> None:
    assert list(found) == list(names)
    for name, (graphs, worst) in found.items():
        assert graphs == 1, name
        # Uncompiled, the CPU's sampler rounds coordinates.
        assert worst < 3e-5, name


@pytest.mark.slow
def test_one_graph_serves_all_parameters() -> None:
    names = ("bilinear", "bicubic", "nearest", "standard", "sentinel-1")
    check(compiled("eager", *names), *names)


@pytest.mark.slow
def test_clouds_and_their_shadows_are_one_graph() -> None:
    names = ("strong", "aerial-rgb")
    check(compiled("aot_eager", *names), *names)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_inductor_does_the_same() -> None:
    check(compiled("inductor", "bilinear"), "bilinear")


def test_noise_in_one_piece_is_the_noise_in_pieces() -> None:
    key = sample_keys(5, range(3))
    assert torch.equal(whole_normal(key, 2, 37, 258), standard_normal(key, 2, 37, 258))
