"""What all tests share: array shapes checked at run time, where that is asked for, and the places of real data.

Where `GEOAUG_CHECK_ARRAYS=1`, every call of `geoaug.augment` and of what draws for it has its arrays held against their
annotations, for half as much time again. The import hook for that is there before any test module, so that it sees
these packages first.
"""

import os
import re
import sys
from pathlib import Path

import pytest
from compile_once import compile_in_one_process

PROJECT = Path(__file__).resolve().parents[1]

if sys.dont_write_bytecode:
    # Dozens of programs are started here, and each would compile torch and its own dependencies again: half a minute.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(PROJECT / ".pytest_cache" / "bytecode")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


# What Numba and Triton compile must reach them as it is written.
_COMPILED = re.compile(r"^@(njit|intrinsic|triton\.jit)\b", re.MULTILINE)


def _checked_modules() -> list[str]:
    files = [*(PROJECT / "geoaug" / "rng").glob("*.py"), *(PROJECT / "geoaug" / "augment").rglob("*.py")]
    names = [
        file for file in files if file.stem != "__init__" and not _COMPILED.search(file.read_text(encoding="utf-8"))
    ]
    return [".".join(file.relative_to(PROJECT).with_suffix("").parts) for file in names]


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported; but not in the process that only deals tests out, which needs no torch."""
    if config.option.dist != "no" and not hasattr(config, "workerinput"):
        return
    if "not slow" in config.option.markexpr:
        # A minute and a half of compiling is for the slow tests, and for the augmentation's own by compiled code.
        os.environ.setdefault("GEOAUG_EXECUTOR", "torch")
    # Several processes share the cores, and threads that wait for work must leave them to others; OpenMP asks when
    # torch loads it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Without a CUDA device, Triton's kernels are interpreted; it asks when they are defined.
    if not _has_cuda():
        os.environ.setdefault("TRITON_INTERPRET", "1")
    if os.environ.get("GEOAUG_CHECK_ARRAYS") == "1":
        from jaxtyping import install_import_hook

        install_import_hook(_checked_modules(), "array_checks.check_arrays")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is left out must be seen."""
    left_out = config.option.markexpr
    return [f"by markers: {left_out} (all tests: pytest -m '')"] if left_out.startswith("not ") else []


def pytest_collection_finish() -> None:
    """Where tests run in several processes, none compiles what another one does."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        compile_in_one_process()


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
    if not _has_cuda():
        pytest.skip("no CUDA device")
    return "cuda"
