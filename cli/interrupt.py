"""Ctrl-C during a long job: the first one asks it to end in good order, the second ends it at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from geoaug.cli.console import print_note


@contextmanager
def cancel_on_interrupt() -> Iterator[threading.Event]:
    """An event that the first SIGINT (or SIGTERM) sets. Has no effect outside the main thread."""
    cancel = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return

    def interrupted(number: int, frame: FrameType | None) -> None:
        if cancel.is_set():
            os._exit(130)  # threads that hang in a read would keep the process alive
        cancel.set()
        print_note("stopping: finishing the tiles in flight (again to stop at once)")

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
