"""Memory on the CPU that is kept between calls, because fresh pages can cost more than the work done in them.

A block of samples needs a few megabytes for a few milliseconds, hundreds of times a second: a thread keeps those, up
to a limit. A batch of output needs a few hundred megabytes, until its user drops it: those come back for the next
batch of the same size, as a GPU's allocator would have it.
"""

import math
import mmap
import threading
import weakref
from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# A larger buffer is not kept: one huge tile must not hold its memory for ever.
_MOST_KEPT_BYTES = 64 * 2**20

# Bytes from which numpy asks Linux for huge pages, which are also the cheaper ones to touch first.
_LARGE_BYTES = 2**22

_CACHE_LINE = 64

_LEAST_PAGES = 2**18  # bytes worth pages of their own

# Outputs that lie idle: one for the batch after the one in use, and one for a loader that runs ahead.
_MOST_IDLE = 2
_MOST_SIZES = 4


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.by_name: dict[tuple[str, torch.dtype], Tensor] = {}


_BUFFERS = _Buffers()


def scratch(name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor, valid until the same thread asks for the same name again.

    Args:
        name: what it is for; two buffers in use at once have two names.
        shape: of the tensor.
        dtype: of the tensor.
        device: memory is kept for the CPU alone; other devices have an allocator that does as much.
    """
    count = math.prod(shape)
    if torch.compiler.is_compiling() or device.type != "cpu" or count * dtype.itemsize > _MOST_KEPT_BYTES:
        return torch.empty(shape, dtype=dtype, device=device)
    buffer = _BUFFERS.by_name.get((name, dtype))
    if buffer is None or buffer.numel() < count:
        # Made outside inference mode, so that calls in and out of it can share it.
        with torch.inference_mode(False):
            buffer = torch.empty(count, dtype=dtype)
        _BUFFERS.by_name[name, dtype] = buffer
    return buffer[:count].view(shape)


class Outputs:
    """Large buffers, each lent out as long as any tensor uses it; `most_idle` of a size are kept for the next batch.

    The parts of a batch have different sizes: those of the four sizes asked for last are kept.

    With `own_pages` each lies in pages of its own, which go back to the system with it: many buffers of some megabytes
    that live and die in threads would leave holes in the memory of C's allocator.
    """

    def __init__(self, most_idle: int = _MOST_IDLE, *, own_pages: bool = False) -> None:
        self._own_pages = own_pages and hasattr(mmap, "MAP_PRIVATE")
        self._most_idle = most_idle
        self._choosing = threading.Lock()  # never taken to give back: a tensor may die in the middle of a call here
        self._idle: dict[int, deque[npt.NDArray[np.uint8]]] = {}

    def keep(self, most_idle: int) -> None:
        """Keep at least so many buffers from now on."""
        if most_idle > self._most_idle:
            self._most_idle = most_idle
            self._idle = {size: deque(buffers, maxlen=most_idle) for size, buffers in list(self._idle.items())}

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor on the CPU that is the caller's until it drops it, then perhaps the next one's."""
        size = math.prod(shape) * dtype.itemsize
        if size < _LARGE_BYTES:
            return torch.empty(shape, dtype=dtype)
        return self.take(size).view(dtype).view(shape)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """As `tensor`, for numpy."""
        size = math.prod(shape) * dtype.itemsize
        if size < _LEAST_PAGES:
            return np.empty(shape, dtype=dtype)
        # Numpy would forget the view that ends with its user, and hold the buffer itself; torch does not.
        array: npt.NDArray[Any] = self.take(size).numpy().view(dtype).reshape(shape)
        return array

    def take(self, size: int) -> Tensor:
        """`size` bytes that no other tensor uses."""
        buffer = self._fitting(size)
        # Torch holds on to this view until nothing uses the memory any more; its end brings the buffer back.
        view = buffer[:]
        weakref.finalize(view, self._take_back, buffer).atexit = False
        return torch.from_numpy(view)

    def _take_back(self, buffer: npt.NDArray[np.uint8]) -> None:
        if (idle := self._idle.get(buffer.nbytes)) is not None:
            idle.append(buffer)

    def _fitting(self, size: int) -> npt.NDArray[np.uint8]:
        with self._choosing:
            # Taken out and put back, so that the size asked for last stands last.
            idle = self._idle.pop(size, None) or deque(maxlen=self._most_idle)
            self._idle[size] = idle
            while len(self._idle) > _MOST_SIZES:
                del self._idle[next(iter(self._idle))]
            if idle:
                return idle.pop()
        return _in_own_pages(size) if self._own_pages else _in_whole_lines(size)


def _in_whole_lines(size: int) -> npt.NDArray[np.uint8]:
    """Memory that begins with a cache line, so that whole lines of it can be stored past the cache."""
    memory = np.empty(size + _CACHE_LINE, dtype=np.uint8)
    lead = -memory.ctypes.data % _CACHE_LINE
    return memory[lead : lead + size]


def _in_own_pages(size: int) -> npt.NDArray[np.uint8]:
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, dtype=np.uint8)


_OUTPUTS = Outputs()


def output_memory(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor that is the caller's until it drops it, then perhaps the next one's."""
    if torch.compiler.is_compiling() or device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    return _OUTPUTS.tensor(shape, dtype)
