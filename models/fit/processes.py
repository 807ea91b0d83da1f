"""Which of a training's processes this one is, before they know of each other.

Lightning starts a process for each further device by running the same command again; torchrun and SLURM start all of
them. What is written once is written by the first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["is_first_process", "started_together", "telling_others"]

_GLOBAL = ("RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
_NODE = ("NODE_RANK", "GROUP_RANK")
_COUNTS = {"RANK": "WORLD_SIZE", "LOCAL_RANK": "WORLD_SIZE", "SLURM_PROCID": "SLURM_NTASKS"}
_READY = "GEOAUG_FIT_READY"


def is_first_process() -> bool:
    """Whether this process is the first of its training, or the only one."""
    for name in _GLOBAL:
        if name in os.environ:
            return int(os.environ[name]) == 0
    local = int(os.environ.get("LOCAL_RANK", 0))
    return local == 0 and all(int(os.environ.get(name, 0)) == 0 for name in _NODE)


def started_together() -> bool:
    """Whether several processes run this command from its beginning, none of which waits for another."""
    if _READY in os.environ:
        return False
    counts = [int(os.environ.get(count, 1)) for rank, count in _COUNTS.items() if rank in os.environ]
    return not is_first_process() or any(count > 1 for count in counts)


@contextmanager
def telling_others() -> Iterator[None]:
    """What is started within finds what the first process has prepared."""
    before = os.environ.get(_READY)
    os.environ[_READY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_READY]
        else:
            os.environ[_READY] = before
