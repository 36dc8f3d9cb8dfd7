"""How many threads kernels may use, now and in this process."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import numba
from numba.np.ufunc import parallel

from . import _checks
from ._errors import ForkError

_forked_with_threads = False
_one_at_a_time = threading.RLock()


def for_kernels(*, serial: bool = False) -> int:
    """Return how many threads a kernel may use, and start them.

    Raises
    ------
    ForkError
        If there are none in this process, and waiting for them would take for ever.
    """
    # A parallel kernel loaded from the disk cache does not start them itself where the kernel that
    # calls it was compiled in a process that loaded it, too.
    count = numba.get_num_threads()
    if serial or count == 1:
        return 1
    _check_fork()
    return count


def _check_fork() -> None:
    if _forked_with_threads:
        raise ForkError(
            "this process was forked from one whose kernels had started threads, which it lacks: "
            "start it by multiprocessing's 'spawn' or 'forkserver', or use num_threads=1"
        )


@contextmanager
def limited(num_threads: int | None) -> Iterator[None]:
    """Let kernels use so many threads."""
    if num_threads is None:
        yield
        return
    count = _checks.integer("num_threads", num_threads, 1, available())
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def available() -> int:
    """Return how many threads kernels may use at most."""
    return int(numba.config.NUMBA_NUM_THREADS)


def turn(threads: int) -> Any:
    """Return a context in which a kernel with so many threads may run.

    Numba's own pool of threads ("workqueue") aborts the process when two threads call it at once.
    """
    if threads == 1:
        return nullcontext()
    _check_fork()
    return _one_at_a_time if numba.threading_layer() == "workqueue" else nullcontext()


def share(size: int, piece: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(first, last)`` for pieces of a range, some at a time.

    It must give up Python's lock to gain anything.
    """
    pieces = [(first, min(first + piece, size)) for first in range(0, size, piece)]
    if threads == 1 or len(pieces) == 1:
        for first, last in pieces:
            work(first, last)
        return
    with ThreadPoolExecutor(min(threads, len(pieces))) as pool:
        for _ in pool.map(work, *zip(*pieces, strict=True)):
            pass


def _remember() -> None:
    global _forked_with_threads
    _forked_with_threads = _forked_with_threads or bool(parallel._is_initialized)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember)
