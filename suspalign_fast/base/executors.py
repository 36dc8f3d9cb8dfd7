"""Work handed to any executor: in batches of about the wanted time, or piece by piece in order."""

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from itertools import islice
from multiprocessing import connection
from typing import Any, Generic, Self, TypeVar

from . import checks
from .threads import limit_for_good
from .values import main_is_lost

# --- Signals that end long work: remembered when they come, answered where it can stop -----------


#: Signals that end a run with a file after a checkpoint, and a sweep after what is done.
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal after writing a checkpoint, or a sweep after what it had done.

    Attributes
    ----------
    signal_number : int
    """

    def __init__(self, message: str, signal_number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.signal_number = signal_number

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.signal_number)


class Signals:
    """Remembers signals in the main thread while it is open; ignored ones stay ignored.

    An exception out of a handler would be lost where Python cannot pass it on, as in a finalizer. A
    signal that comes too late to stop the work is raised again at the end. `answered` says whether
    the work was stopped for it.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.answered = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.received is not None and not self.answered:
            signal.raise_signal(self.received)

    def _receive(self, number: int, frame: object) -> None:
        self.received = number

    def answer(self, message: str) -> None:
        """Raise Interrupted if a signal has come."""
        if self.received is not None:
            self.answered = True
            raise Interrupted(message, self.received)


Item = TypeVar("Item")
Result = TypeVar("Result")

#: Seconds that a batch should take, and batches that wait for each worker.
BATCH_SECONDS, WAITING = 0.5, 2
#: Work that is cancelled wakes nobody, nor does a signal: they are looked for this often.
WAKE_SECONDS = 0.2
#: Workers of an executor that does not say how many it has.
WORKERS = 8
#: Workers that may be lost at the same piece of work.
ATTEMPTS = 4


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
            end_with_parent()
        results = [self.work(item) for item in batch]
        return time.perf_counter() - started, results


@functools.cache
def end_with_parent() -> None:
    """End this process when its parent is gone: workers of a pool would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_its_end() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait_for_its_end, name="parent", daemon=True).start()


def check(executor: Any) -> None:
    """Raise ValueError unless something takes work as executors do, and can do ours."""
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise checks.wrong("executor", executor, "a concurrent.futures.Executor")
    interpreters = getattr(futures, "InterpreterPoolExecutor", None)  # since Python 3.14
    if interpreters is not None and isinstance(executor, interpreters):
        expected = "one of threads or processes (NumPy does not load in a second interpreter)"
        raise checks.wrong("executor", executor, expected)
    if cannot_start(executor):
        raise ValueError(f"executor must be of workers that can start, got {executor!r}: {NO_FILE}")


#: Why the processes of an executor cannot start.
NO_FILE = "the program is no file that they can import, like one read from standard input"


def cannot_start(executor: Any) -> bool:
    """Whether new processes of an executor would fail before they get to any work."""
    context = getattr(executor, "_mp_context", None)
    is_spawned = context is not None and context.get_start_method() != "fork"
    return isinstance(executor, ProcessPoolExecutor) and is_spawned and main_is_lost()


def workers_of(executor: Executor) -> int:
    """Return how many workers an executor has, as far as it says."""
    for name in ("_max_workers", "max_workers", "num_workers"):
        count = getattr(executor, name, None)
        if isinstance(count, int) and count > 0:
            return count
    threads = getattr(getattr(executor, "_client", None), "nthreads", None)  # Dask's
    return (sum(threads().values()) if callable(threads) else 0) or WORKERS


def in_batches(
    executor: Executor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    heed: Callable[[], None] = lambda: None,
) -> Iterator[list[tuple[Item, Result]]]:
    """Yield batches of items with their results, in whatever order they are done.

    What `work` or `heed`, called again and again, raises ends it; ExecutorStoppedError if the
    executor takes no more work.
    """
    left, workers = deque(items), workers_of(executor)
    timed: _Timed[Item, Result] = _Timed(work)
    waiting: dict[Future[tuple[float, list[Result]]], list[Item]] = {}
    seconds = BATCH_SECONDS  # of an item, until one is measured
    stopped: Exception | None = None
    try:
        while left or waiting:
            heed()
            while left and len(waiting) < WAITING * workers:
                size = _size(seconds, len(left), workers)
                batch = [left.popleft() for _ in range(size)]
                try:
                    waiting[_submitted(executor, timed, batch)] = batch
                except ExecutorStoppedError as error:  # what it has may still be done
                    stopped = error
                    left.clear()
            wait(waiting, WAKE_SECONDS, return_when=FIRST_COMPLETED)
            for future in [future for future in waiting if future.done()]:
                batch = waiting.pop(future)
                try:
                    took, results = _result(future)
                except ExecutorStoppedError as error:  # others may be done
                    stopped = error
                    left.clear()
                    continue
                seconds = max(took / len(batch), 1e-6)
                yield list(zip(batch, results, strict=True))
        if stopped is not None:
            raise stopped
    finally:
        for future in waiting:
            future.cancel()


def in_order(
    executor: Executor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield the results of items in their order; a few are worked on ahead.

    An item whose worker is lost is handed out again, ATTEMPTS times at most. Items are made when
    there is a place for them. Raises ExecutorStoppedError once the executor takes no more work.
    """
    left = iter(items)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    ahead = WAITING * workers_of(executor)
    try:
        while True:
            for item in islice(left, ahead - len(waiting)):
                waiting.append((item, _submitted(executor, work, item)))
            if not waiting:
                return
            yield _first_result(executor, work, waiting)
    finally:
        for _, future in waiting:
            future.cancel()


def _first_result(
    executor: Executor,
    work: Callable[[Item], Result],
    waiting: deque[tuple[Item, Future[Result]]],
) -> Result:
    """Take the first of those who wait, and return its result."""
    for attempt in range(1, ATTEMPTS + 1):
        item, future = waiting[0]
        try:
            result = future.result()
        except Exception as error:
            if not _is_lost(error):
                raise
            if attempt == ATTEMPTS:
                raise ExecutorStoppedError(
                    f"{ATTEMPTS} workers in turn were lost at the same piece of work: {error}"
                ) from error
            waiting[0] = item, _submitted(executor, work, item)
        else:
            waiting.popleft()
            return result
    raise AssertionError("unreachable")


def _is_lost(error: Exception) -> bool:
    """Whether an error is that of a worker or of the way to it, not of its work."""
    lost = BrokenExecutor, CancelledError, OSError, EOFError, MemoryError
    return isinstance(error, lost) or type(error).__module__.partition(".")[0] == "distributed"


def _size(seconds: float, left: int, workers: int) -> int:
    """Items of the next batch: of the wanted time, but some for every worker."""
    fair = -(-left // (WAITING * workers))
    return max(1, min(int(BATCH_SECONDS / seconds), fair))


def _submitted(executor: Executor, work: Any, item: Any) -> Any:
    try:
        return executor.submit(work, item)
    except (RuntimeError, BrokenExecutor) as error:
        raise ExecutorStoppedError(f"the executor takes no more work: {error}") from error


def _result(future: Any) -> Any:
    try:
        return future.result()
    except CancelledError as error:
        raise ExecutorStoppedError("work was taken back from the executor") from error
    except BrokenExecutor as error:
        raise ExecutorStoppedError(f"workers of the executor died: {error}") from error
