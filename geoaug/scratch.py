"""Working memory that a thread keeps between calls.

A block of samples needs a few megabytes for a few milliseconds, hundreds of times a second. Handing them back to the
operating system in between can cost more than the work, in page faults; a thread keeps them instead, up to a limit.
"""

import math
import threading

import torch
from torch import Tensor

# A larger buffer is not kept: one huge tile must not hold its memory for ever.
_MOST_KEPT_BYTES = 64 * 2**20


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
