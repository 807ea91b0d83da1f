"""Memory on the CPU that is kept between calls, because fresh pages can cost more than the work done in them.

A block of samples needs a few megabytes for a few milliseconds, hundreds of times a second: a thread keeps those, up
to a limit. A batch of output needs a few hundred megabytes, until its user drops it: those come back for the next
batch of the same size, as a GPU's allocator would have it.
"""

import math
import sys
import threading

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# A larger buffer is not kept: one huge tile must not hold its memory for ever.
_MOST_KEPT_BYTES = 64 * 2**20

# Bytes from which numpy asks Linux for huge pages, which are also the cheaper ones to touch first.
_LARGE_BYTES = 2**22

# Outputs known for reuse: the batch in use, the next one, and a little more for a loader that runs ahead.
_MOST_OUTPUTS = 4


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


class _Outputs:
    """Large buffers whose last tensor may be gone."""

    def __init__(self) -> None:
        self._buffers: list[npt.NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> Tensor:
        """`size` bytes that no other tensor uses."""
        with self._lock:
            used: list[npt.NDArray[np.uint8]] = []
            free: list[npt.NDArray[np.uint8]] = []
            while self._buffers:
                buffer = self._buffers.pop()
                # A tensor holds on to its array: one known to this function and its call alone is free.
                (free if sys.getrefcount(buffer) <= 2 else used).append(buffer)
            fitting = [position for position, buffer in enumerate(free) if buffer.nbytes == size]
            taken = free.pop(fitting[0]) if fitting else np.empty(size, dtype=np.uint8)
            # Newest last; of what lies idle, one stays.
            self._buffers = [*reversed([taken, *used, *free[:1]][:_MOST_OUTPUTS])]
            return torch.from_numpy(taken)


_OUTPUTS = _Outputs()


def output_memory(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor that is the caller's until it drops it, then perhaps the next one's."""
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or size < _LARGE_BYTES:
        return torch.empty(shape, dtype=dtype, device=device)
    return _OUTPUTS.take(size).view(dtype).view(shape)
