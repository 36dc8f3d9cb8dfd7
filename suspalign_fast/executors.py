"""Work handed to any executor, in batches that take about as long as they should."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import Any, Generic, TypeVar

from ._blas import limit_for_good

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Seconds that a batch should take, and batches that wait for each worker.
BATCH_SECONDS, WAITING = 0.5, 2
#: Workers of an executor that does not say how many it has.
WORKERS = 8


class ExecutorStoppedError(RuntimeError):
    """An executor was shut down, or its workers died, before all was done."""


class _Timed(Generic[Item, Result]):
    """A function of one item as one of a batch of them, with the seconds that it took."""

    def __init__(self, work: Callable[[Item], Result]) -> None:
        self.work = work
        self.caller = os.getpid()

    def __call__(self, batch: list[Item]) -> tuple[float, list[Result]]:
        started = time.perf_counter()
        if os.getpid() != self.caller:
            limit_for_good()
        results = [self.work(item) for item in batch]
        return time.perf_counter() - started, results


def workers_of(executor: Executor) -> int:
    """Return how many workers an executor has, as far as it says."""
    for name in ("_max_workers", "max_workers", "num_workers"):
        count = getattr(executor, name, None)
        if isinstance(count, int) and count > 0:
            return count
    return WORKERS


def in_batches(
    executor: Executor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[list[tuple[Item, Result]]]:
    """Yield batches of items with their results, in whatever order they are done.

    Parameters
    ----------
    executor : Executor
    work : callable
        ``work(item)``; what it raises ends the iteration.
    items : iterable

    Raises
    ------
    ExecutorStoppedError
        If the executor takes no more work.
    """
    left, workers = deque(items), workers_of(executor)
    timed: _Timed[Item, Result] = _Timed(work)
    waiting: dict[Future[tuple[float, list[Result]]], list[Item]] = {}
    seconds = BATCH_SECONDS  # of an item, until one is measured
    try:
        while left or waiting:
            while left and len(waiting) < WAITING * workers:
                size = _size(seconds, len(left), workers)
                batch = [left.popleft() for _ in range(size)]
                waiting[_submitted(executor, timed, batch)] = batch
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                batch = waiting.pop(future)
                took, results = _result(future)
                seconds = max(took / len(batch), 1e-6)
                yield list(zip(batch, results, strict=True))
    finally:
        for future in waiting:
            future.cancel()


def _size(seconds: float, left: int, workers: int) -> int:
    """Items of the next batch: of the wanted time, but some for every worker."""
    fair = -(-left // (WAITING * workers))
    return max(1, min(int(BATCH_SECONDS / seconds), fair))


def _submitted(executor: Executor, work: Any, batch: list[Any]) -> Any:
    try:
        return executor.submit(work, batch)
    except (RuntimeError, BrokenExecutor) as error:
        raise ExecutorStoppedError(f"the executor takes no more work: {error}") from error


def _result(future: Any) -> Any:
    try:
        return future.result()
    except BrokenExecutor as error:
        raise ExecutorStoppedError(f"workers of the executor died: {error}") from error
