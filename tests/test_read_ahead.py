"""Results come in order, few are begun ahead, and an error ends the work."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from geoaug.read_ahead import in_order


@pytest.mark.parametrize("ahead", [0, 1, 5, 100])
@pytest.mark.parametrize("threads", [1, 4])
def test_results_come_in_the_order_in_which_they_were_asked_for(ahead: int, threads: int) -> None:
    def slow(number: int) -> int:
        time.sleep(0.002 * ((number * 7) % 5))
        return number

    with ThreadPoolExecutor(threads) as pool:
        assert list(in_order((pool.submit(slow, number) for number in range(30)), ahead)) == list(range(30))


@pytest.mark.parametrize("ahead", [0, 3])
def test_no_more_than_ahead_are_begun_besides_the_one_in_use(ahead: int) -> None:
    begun = list[int]()

    def futures() -> Iterator[Future[int]]:
        for number in range(20):
            begun.append(number)
            done = Future[int]()
            done.set_result(number)
            yield done

    for number in in_order(futures(), ahead):
        assert len(begun) == min(number + 1 + ahead, 20)


def test_ahead_may_change_on_the_way() -> None:
    begun = list[int]()
    allowed = [4]

    def futures() -> Iterator[Future[int]]:
        for number in range(20):
            begun.append(number)
            done = Future[int]()
            done.set_result(number)
            yield done

    for number in in_order(futures(), lambda: allowed[0]):
        if number == 5:
            allowed[0] = 0
        if number > 10:
            assert len(begun) == number + 1


@pytest.mark.parametrize("where", ["work", "source", "use"])
def test_an_error_cancels_what_has_not_begun(where: str) -> None:
    gate, closed = threading.Event(), list[bool]()
    submitted = list[Future[int]]()

    def work(number: int) -> int:
        if number == 1:
            gate.wait(10)
        if where == "work" and number == 0:
            raise RuntimeError("bad work")
        return number

    def futures(pool: ThreadPoolExecutor) -> Iterator[Future[int]]:
        try:
            for number in range(50):
                if where == "source" and number == 8:
                    raise RuntimeError("bad source")
                submitted.append(pool.submit(work, number))
                yield submitted[-1]
        finally:
            closed.append(True)

    def use(results: Iterator[int]) -> None:
        for _ in results:
            raise RuntimeError("bad use")

    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(RuntimeError, match=f"bad {where}"):
            use(in_order(futures(pool), 9))
        gate.set()
    assert closed == [True]
    assert sum(future.cancelled() for future in submitted) >= 5
    assert not any(future.cancelled() for future in submitted[:1])


def test_what_could_not_be_cancelled_is_handed_over() -> None:
    gate = threading.Event()
    kept = list[int]()

    def work(number: int) -> int:
        if number == 2:
            gate.set()
            time.sleep(0.05)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = in_order((pool.submit(work, number) for number in range(9)), 5, unused=kept.append)
        assert next(results) == 0
        gate.wait(10)
        results.close()
    assert kept[:2] == [1, 2]
    assert 0 not in kept
