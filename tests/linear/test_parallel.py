"""Samples side by side: their order, how far it looks ahead, and how it ends."""

import threading
import time

import numpy as np  # noqa: F401  (its BLAS is looked at)
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from nmref.errors import NmrefError
from nmref.linear.parallel import in_order

WAIT = 20
"""Seconds after which a test gives up."""


def until(condition):
    """Wait for what other threads do."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def workers():
    return [t for t in threading.enumerate() if t.name.startswith("nmref-samples")]


def blas_threads():
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


class Watched:
    """An iterable that knows how much was taken from it."""

    def __init__(self, count):
        self.left, self.taken = iter(range(count)), 0

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self.left)
        self.taken += 1
        return item


@pytest.mark.parametrize("threads", [1, 2, 5, None])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 17])
def test_results_come_in_order(threads, count):
    def work(i):
        time.sleep(0.002 * ((i * 7) % 3))  # later ones are ready earlier
        return i * i

    assert list(in_order(work, range(count), threads)) == [i * i for i in range(count)]


def test_a_later_result_waits_for_an_earlier_one():
    free = threading.Event()

    def work(i):
        if i == 0:
            assert free.wait(WAIT)
        else:
            free.set()  # 1 ends first
        return i

    assert list(in_order(work, range(2), 2)) == [0, 1]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_as_many_at_once_as_asked_for(threads):
    meet = threading.Barrier(threads, timeout=WAIT)
    running, most, lock = set(), [0], threading.Lock()

    def work(i):
        with lock:
            running.add(i)
            most[0] = max(most[0], len(running))
        meet.wait()  # only together do they go on
        with lock:
            running.discard(i)

    list(in_order(work, range(3 * threads), threads))
    assert most[0] == threads


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_it_looks_no_further_ahead_than_it_says(threads):
    """While a caller holds result n, threads + 1 more are begun or wait at most."""
    items = Watched(20)
    for number, result in enumerate(in_order(lambda i: i, items, threads)):
        assert result == number
        assert items.taken == min(number + 1 + threads + 1, 20)


def test_nothing_is_taken_before_the_first_result_is_asked_for():
    items = Watched(3)
    results = in_order(lambda i: i, items, 1)
    assert items.taken == 0
    assert next(results) == 0


def test_what_work_raises_is_raised_in_its_place():
    begun = []

    def work(i):
        begun.append(i)
        if i == 3:
            raise ValueError("three")
        return i

    results = in_order(work, range(100), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match=r"^three$"):
        next(results)
    assert len(begun) <= 7
    assert not workers()


def test_of_two_failures_the_earlier_sample_counts():
    second = threading.Event()

    def work(i):
        if i == 0:
            assert second.wait(WAIT)
        second.set()
        raise ValueError(f"sample {i}")

    with pytest.raises(ValueError, match=r"^sample 0$"):
        list(in_order(work, range(2), 2))


def test_what_the_items_raise_is_raised():
    def items():
        yield 1
        yield 2
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match=r"^no more$"):
        list(in_order(lambda i: i, items(), 1))
    assert not workers()


def test_blas_has_one_thread_inside_and_what_it_had_after():
    with threadpool_limits(2, "blas"):
        if blas_threads() != [2] * len(blas_threads()):
            pytest.skip("a BLAS with one thread only")
        for inside in in_order(lambda i: blas_threads(), range(3), 2):
            assert set(inside) == {1}
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {2}
        with pytest.raises(ZeroDivisionError):
            list(in_order(lambda i: 1 // i, range(3), 2))
        assert set(blas_threads()) == {2}
        results = in_order(lambda i: i, range(9), 1)
        next(results)
        assert set(blas_threads()) == {1}
        results.close()
        assert set(blas_threads()) == {2}


def test_closed_early_it_begins_nothing_more_and_waits_for_what_runs():
    gate, begun, ended = threading.Event(), [], []

    def work(i):
        begun.append(i)
        if i:
            assert gate.wait(WAIT)
        ended.append(i)
        return i

    results = in_order(work, range(50), 2)
    assert next(results) == 0
    until(lambda: len(begun) == 3)
    threading.Timer(0.05, gate.set).start()
    results.close()
    assert sorted(begun) == sorted(ended) == [0, 1, 2]  # 3 waited and never began
    assert not workers()


def test_an_interrupted_caller_leaves_no_thread():
    ended = []

    def work(i):
        time.sleep(0.01)
        ended.append(i)
        return i

    def caller():
        for _ in in_order(work, range(1000), 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caller()
    assert not workers()
    assert len(ended) <= 4


def test_an_interruption_inside_work_is_raised():
    def work(i):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_order(work, range(5), 1))
    assert not workers()


def test_the_number_of_threads_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("NMREF_THREADS", "3")
    items = Watched(20)
    next(in_order(lambda i: i, items))
    assert items.taken == 5
    monkeypatch.setenv("NMREF_THREADS", "none")
    with pytest.raises(NmrefError, match=r"^T_ARGUMENT NMREF_THREADS: 'none', want 1 or more$"):
        list(in_order(lambda i: i, range(3)))


def test_blas_has_one_thread_until_the_last_of_several_is_out():
    """In whatever order they come and go."""
    with threadpool_limits(2, "blas"):
        if blas_threads() != [2] * len(blas_threads()):
            pytest.skip("a BLAS with one thread only")
        for order in ((0, 1), (1, 0)):
            both = [in_order(lambda i: i, range(9), 1) for _ in range(2)]
            assert [next(results) for results in both] == [0, 0]
            both[order[0]].close()
            assert set(blas_threads()) == {1}
            both[order[1]].close()
            assert set(blas_threads()) == {2}
