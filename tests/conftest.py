"""What all tests share: array shapes checked at run time, and the places of real data.

Loaded before any test module, so that the import hook sees `geoaug.augment` and what draws for it first.
"""

import os
import re
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

PROJECT = Path(__file__).resolve().parents[1]

# Without a CUDA device, Triton's kernels are interpreted; it asks when they are defined.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# What Numba and Triton compile must reach them as it is written.
_COMPILED = re.compile(r"^@(njit|intrinsic|triton\.jit)\b", re.MULTILINE)


def _checked_modules() -> list[str]:
    files = [*(PROJECT / "geoaug" / "rng").glob("*.py"), *(PROJECT / "geoaug" / "augment").rglob("*.py")]
    names = [
        file for file in files if file.stem != "__init__" and not _COMPILED.search(file.read_text(encoding="utf-8"))
    ]
    return [".".join(file.relative_to(PROJECT).with_suffix("").parts) for file in names]


install_import_hook(_checked_modules(), "array_checks.check_arrays")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests go first: one of three minutes that begins last keeps the other processes waiting."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds `pyproject.toml`."""
    return PROJECT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real rasters beside the project; the test is skipped where it is absent."""
    folder = PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {os.path.relpath(folder, PROJECT)} is absent")
    return folder


@pytest.fixture(scope="session")
def cuda() -> str:
    """The name of a CUDA device; the test is skipped where there is none."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return "cuda"
