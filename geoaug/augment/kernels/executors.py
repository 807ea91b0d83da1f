"""Which executor runs a plan: plain torch, compiled for the CPU by Numba, or one Triton kernel on a CUDA device.

All do the same work to rounding; what is equal bit for bit is in `docs/design.md`. The compiled ones are imported on
first use, since their libraries are large, and plain torch serves wherever one of them is absent.
"""

import ast
import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from geoaug.augment.kernels import portable
from geoaug.augment.kernels.portable import Encoding, Work
from geoaug.augment.kernels.sampling import Pixels
from geoaug.errors import ConfigurationError
from geoaug.rng.philox import use_words

Executor = Literal["auto", "torch", "cpu", "triton"]
Execute = Callable[[Pixels, Work, Encoding], Pixels]

EXECUTORS: tuple[str, ...] = get_args(Executor)


def executor_for(name: Executor, device: torch.device) -> Execute:
    """The function that runs fused stages on a device.

    Raises:
        ConfigurationError: where the executor asked for is absent, or does not run on that device.

    The environment variable `GEOAUG_EXECUTOR` stands in for "auto".
    """
    if name == "auto":
        name = _preferred()
    if name == "torch":
        return portable.execute
    if name == "auto":
        found = {"cpu": _compiled, "cuda": _triton}.get(device.type, lambda: None)()
        return portable.execute if found is None else found
    wanted = {"cpu": "cpu", "triton": "cuda"}[name]
    if device.type != wanted and not (name == "triton" and _interpreted()):
        raise ConfigurationError(f"executor='{name}' runs on {wanted} tensors; this batch is on {device.type}")
    execute = _compiled() if name == "cpu" else _triton()
    if execute is None:
        package = "numba" if name == "cpu" else "triton"
        raise ConfigurationError(f"executor='{name}' needs {package}: pip install {package}, or leave executor='auto'")
    return execute


def available_executors(device: torch.device) -> tuple[Executor, ...]:
    """Those that run on a device here, plain torch first."""
    compiled: tuple[tuple[Executor, str, Callable[[], Execute | None]], ...] = (
        ("cpu", "cpu", _compiled),
        ("triton", "cuda", _triton),
    )
    return ("torch", *(name for name, kind, find in compiled if device.type == kind and find() is not None))


def _preferred() -> Executor:
    """What stands in the environment for "auto"."""
    name = os.environ.get("GEOAUG_EXECUTOR") or "auto"
    for known in get_args(Executor):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise ConfigurationError(f"GEOAUG_EXECUTOR={name} is not one of {', '.join(EXECUTORS)}")


def _interpreted() -> bool:
    """Whether Triton runs its kernels on the CPU, step by step, as the tests do."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def to_be_compiled() -> bool:
    """Whether the first batch on the CPU will wait for Numba, as it does once for each version of geoaug."""
    if find_spec("numba") is None or _preferred() not in ("auto", "cpu"):
        return False
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or _cache_folder())
    return next(folder.rglob("*.nbi"), None) is None


@cache
def _compiled() -> Execute | None:
    try:
        from numba import config
    except ImportError:
        return None
    settings: Any = config
    before = settings.CACHE_DIR
    # Where compiled functions are kept is settled when they are defined. What another version of these sources left
    # behind may not even load, so each has a folder of its own.
    settings.CACHE_DIR = before or str(_cache_folder())
    try:
        from geoaug.augment.kernels import compiled
    finally:
        settings.CACHE_DIR = before
    # Philox is compiled, too, so plans take their words from there from now on: the same ones.
    use_words(compiled.parameter_words)
    return compiled.execute


def compiled_sources() -> list[Path]:
    """The modules that Numba compiles, and those here that they take constants from, by name."""
    here = Path(__file__).parent
    modules = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in here.glob("*.py")}
    imported = {name: _imported(tree) for name, tree in modules.items()}
    found = {name for name, others in imported.items() if "numba" in others}
    for name in list(found):
        found |= imported[name] & modules.keys()
    return [here / f"{name}.py" for name in sorted(found)]


def _imported(tree: ast.Module) -> set[str]:
    """Last names of what a module imports before it does anything else."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module.rpartition(".")[2], *(alias.name for alias in node.names)}
    return found


@cache
def _cache_folder() -> Path:
    """A folder of these very sources, in the user's cache, or a new temporary one if that cannot be written."""
    digest = hashlib.blake2b(digest_size=6)
    for source in compiled_sources():
        digest.update(source.read_bytes())
    user = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = (Path(user) if Path(user).is_absolute() else Path.home() / ".cache") / "geoaug" / digest.hexdigest()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):
        # No home, or none that can be written. What lies there is run, so it must be nobody else's: this process keeps
        # a folder to itself.
        return Path(tempfile.mkdtemp(prefix="geoaug-"))


@cache
def _triton() -> Execute | None:
    try:
        from geoaug.augment.kernels import tritonic
    except ImportError:
        return None
    return tritonic.execute
