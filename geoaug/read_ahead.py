"""Work that runs ahead of its use: results in the order in which they were asked for, few of them waiting at once.

Which pool does the work, and what the work is, is settled by those who submit it.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TypeVar

_Result = TypeVar("_Result")


def in_order(
    futures: Iterable[Future[_Result]],
    ahead: int | Callable[[], int],
    *,
    unused: Callable[[_Result], None] | None = None,
) -> Generator[_Result, None, None]:
    """The results of futures, in their order; while one is used, up to `ahead` more have been begun.

    An error in a future, in `futures` or where the results are used ends the work: what has not begun is cancelled.

    Args:
        futures: gives each when it is asked for, so that a generator like `(pool.submit(work, item) for item in items)`
            begins no more than are wanted.
        ahead: how many more; asked anew each time where it is a function.
        unused: given the results of futures that could not be cancelled any more, after they have come to their end.
    """
    waiting: deque[Future[_Result]] = deque()
    source = iter(futures)
    try:
        for future in source:
            waiting.append(future)
            while len(waiting) > (ahead() if callable(ahead) else ahead):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        if isinstance(source, Generator):
            source.close()
        if unused is not None:
            for future in waiting:
                if not future.cancelled() and future.exception() is None:
                    unused(future.result())
