"""What all tests share: array shapes checked at run time, and the places of real data.

Loaded before any test module, so that the import hook sees `geoaug.augment` and `geoaug.random` first.
"""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook(["geoaug.augment", "geoaug.random"], "array_checks.check_arrays")

PROJECT = Path(__file__).resolve().parents[1]


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
