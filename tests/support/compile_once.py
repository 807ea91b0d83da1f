"""Numba compiles a function in one process of a test run: the others wait for it, and load what it left on disk.

Without a cache of an earlier run, every process would compile the same loops at the same time, a minute each.
"""

import os
import tempfile
import threading
from functools import wraps
from pathlib import Path
from typing import Any


def compile_in_one_process() -> None:
    """Let this process compile only while no other process of this user's test runs does."""
    try:
        import fcntl

        from numba.core.dispatcher import Dispatcher
    except ImportError:  # Windows, or no Numba: each compiles for itself
        return
    file = (Path(tempfile.gettempdir()) / f"geoaug-tests-{os.getuid()}.lock").open("a")
    mine, held = threading.RLock(), 0
    compiles = Dispatcher.compile

    @wraps(compiles)
    def waits_and_compiles(self: Any, signature: Any) -> Any:
        nonlocal held
        # Compiling one function compiles those that it calls; before it begins, Numba looks for it on disk once more.
        with mine:
            if not held:
                fcntl.flock(file, fcntl.LOCK_EX)
            held += 1
            try:
                return compiles(self, signature)
            finally:
                held -= 1
                if not held:
                    fcntl.flock(file, fcntl.LOCK_UN)

    Dispatcher.compile = waits_and_compiles
