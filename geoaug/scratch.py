"""Memory on the CPU that is kept between calls, because fresh pages can cost more than the work done in them.

A block of samples needs a few megabytes for a few milliseconds, hundreds of times a second: a thread keeps those, up
to a limit. A batch of output needs a few hundred megabytes, until its user drops it: those come back for the next
batch of the same size, as a GPU's allocator would have it.
"""

import math
import threading
import weakref
from collections import deque

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# A larger buffer is not kept: one huge tile must not hold its memory for ever.
_MOST_KEPT_BYTES = 64 * 2**20

# Bytes from which numpy asks Linux for huge pages, which are also the cheaper ones to touch first.
_LARGE_BYTES = 2**22

# Outputs that lie idle: one for the batch after the one in use, and one for a loader that runs ahead.
_MOST_IDLE = 2


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
    if device.type != "cpu" or count * dtype.itemsize > _MOST_KEPT_BYTES:
        return torch.empty(shape, dtype=dtype, device=device)
    buffer = _BUFFERS.by_name.get((name, dtype))
    if buffer is None or buffer.numel() < count:
        # Made outside inference mode, so that calls in and out of it can share it.
        with torch.inference_mode(False):
            buffer = torch.empty(count, dtype=dtype)
        _BUFFERS.by_name[name, dtype] = buffer
    return buffer[:count].view(shape)


class Outputs:
    """Large buffers, each lent out as long as any tensor uses it; `most_idle` of them are kept for the next batch."""

    def __init__(self, most_idle: int = _MOST_IDLE) -> None:
        # A deque takes and gives from any thread, also when the last tensor dies in the middle of a call here.
        self._idle: deque[npt.NDArray[np.uint8]] = deque(maxlen=most_idle)

    def keep(self, most_idle: int) -> None:
        """Keep at least so many buffers from now on."""
        if most_idle > (self._idle.maxlen or 0):
            self._idle = deque(self._idle, maxlen=most_idle)

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor on the CPU that is the caller's until it drops it, then perhaps the next one's."""
        size = math.prod(shape) * dtype.itemsize
        if size < _LARGE_BYTES:
            return torch.empty(shape, dtype=dtype)
        return self.take(size).view(dtype).view(shape)

    def take(self, size: int) -> Tensor:
        """`size` bytes that no other tensor uses."""
        buffer = self._fitting(size)
        # Torch holds on to this view until nothing uses the memory any more; its end brings the buffer back.
        view = buffer[:]
        weakref.finalize(view, self._take_back, buffer).atexit = False
        return torch.from_numpy(view)

    def _take_back(self, buffer: npt.NDArray[np.uint8]) -> None:
        self._idle.append(buffer)

    def _fitting(self, size: int) -> npt.NDArray[np.uint8]:
        while self._idle:
            try:
                buffer = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            if buffer.nbytes == size:
                return buffer
        return np.empty(size, dtype=np.uint8)


_OUTPUTS = Outputs()


def output_memory(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor that is the caller's until it drops it, then perhaps the next one's."""
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    return _OUTPUTS.tensor(shape, dtype)
