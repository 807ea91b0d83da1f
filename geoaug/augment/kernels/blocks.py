"""Samples on the threads of the CPU, in blocks or one by one.

Torch splits every operation over its threads and waits for all of them at its end; for a few hundred small operations
a batch that is mostly waiting. Here each thread takes whole blocks of samples instead, runs them alone, and meets the
others once, at the end.
"""

import ctypes
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import torch

Block = TypeVar("Block")


def for_each_block(run: Callable[[Block], None], blocks: Iterable[Block]) -> None:
    """Run every block, on as many threads as torch has; an error in one of them surfaces here.

    The caller's gradient and inference modes hold in all threads.
    """
    work, threads = list(blocks), torch.get_num_threads()
    if threads == 1 or len(work) <= 1:
        for block in work:
            run(block)
        return
    inference, gradient = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run_alone(block: Block) -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradient and not inference):
            run(block)

    for _ in _pool(threads, os.getpid()).map(run_alone, work):
        pass


def on_every_thread(run: Callable[[], None]) -> None:
    """Call `run` on as many threads as torch has, this one included; an error in one of them surfaces here.

    For compiled loops, which share their work out among themselves and do nothing in torch.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        run()
        return
    others = [_pool(threads, os.getpid()).submit(run) for _ in range(threads - 1)]
    try:
        run()
    finally:
        wait(others)
    for other in others:
        other.result()


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads whose own torch operations are not split further; one pool a process, for a fork copies no threads."""
    met = Barrier(threads + 1)

    def settle() -> None:
        torch.set_num_threads(1)
        met.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="geoaug")
    for _ in range(threads):
        pool.submit(settle)
    met.wait()
    # The number is kept per thread, but threads that start later take the one set last: put the caller's back.
    torch.set_num_threads(threads)
    _let_mkl_choose()
    return pool


def _let_mkl_choose() -> None:
    """Give back to MKL, where torch is built with it, the choice of using fewer threads.

    Torch takes it away whenever a number of threads is set, for the whole process: from then on a hundred exponentials
    are split, and wait for a thread that may not be running. A plan is made of such.
    """
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    with suppress(OSError, AttributeError):
        ctypes.CDLL(str(library)).MKL_Set_Dynamic(1)
