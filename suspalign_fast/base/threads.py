"""How many threads kernels may use, now and in this process."""

import contextlib
import functools
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numba
from numba.np.ufunc import parallel

from . import checks
from .reports import ForkError

#: Turns that a thread of OpenMP waits before it gives up its processor. The step's other half has
#: mostly arrived by then; on a busy machine longer waiting takes time from the threads awaited.
SPINS = "1000"
_SPIN_COUNT = "GOMP_SPINCOUNT"
#: Quota and period of a control group, in both versions of the interface.
_QUOTAS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
_limit: ContextVar[int] = ContextVar("num_threads", default=sys.maxsize)
_forked_with_threads = False
_one_at_a_time = threading.RLock()
_own_pool: ThreadPoolExecutor | None = None


def allowed() -> int:
    """Return how many threads this thread of Python may use."""
    if parallel._is_initialized:
        return min(_limit.get(), int(numba.get_num_threads()))
    return min(_limit.get(), available())


def start() -> None:
    """Start the threads of parallel kernels; ForkError in a process that cannot have them."""
    _check_fork()
    # A parallel kernel loaded from the disk cache does not start them itself where the kernel that
    # calls it was compiled in a process that loaded it, too.
    with _impatient():
        numba.get_num_threads()


@contextmanager
def _impatient() -> Iterator[None]:
    """Limit how long threads that GNU's OpenMP starts meanwhile spin while they wait.

    OpenMP reads its environment once, when it is loaded. Nothing changes where it is loaded
    already, or where the user has said how threads wait.
    """
    if any(name in os.environ for name in ("OMP_WAIT_POLICY", _SPIN_COUNT)):
        yield
        return
    os.environ[_SPIN_COUNT] = SPINS
    try:
        yield
    finally:
        del os.environ[_SPIN_COUNT]


def _check_fork() -> None:
    if _forked_with_threads:
        raise ForkError(
            "this process was forked from one whose kernels had started threads, which it lacks: "
            "start it by multiprocessing's 'spawn' or 'forkserver', or use num_threads=1"
        )


@contextmanager
def limited(num_threads: int | None) -> Iterator[None]:
    """Limit the number of threads that runs use."""
    if num_threads is None:
        yield
        return
    token = _limit.set(bounded(num_threads, stacklevel=5))
    try:
        yield
    finally:
        _limit.reset(token)


def bounded(num_threads: int, *, stacklevel: int) -> int:
    """Return the number of threads, cut with a warning to what the machine has."""
    count = checks.integer("num_threads", num_threads, 1)
    if count > available():
        too_many = excess(f"num_threads = {count}")
        warnings.warn(too_many, RuntimeWarning, stacklevel=stacklevel + 1)
    return min(count, available())


def excess(said: str) -> str:
    """Return the warning about an argument that asks for more threads than there are."""
    return f"{said}: this machine has {available()}, which it takes"


@functools.cache
def available() -> int:
    """Return how many threads there may be: NUMBA_NUM_THREADS, or what this process is given."""
    count = int(numba.config.NUMBA_NUM_THREADS)
    return count if "NUMBA_NUM_THREADS" in os.environ else min(count, _quota() or count)


def _quota() -> int | None:
    """Processors that a Linux control group (container) may keep busy, rounded up."""
    for paths in _QUOTAS:
        with contextlib.suppress(OSError, ValueError, IndexError, ZeroDivisionError):
            words = " ".join(Path(path).read_text() for path in paths).split()
            quota, period = float(words[0]), float(words[1])  # "max" is no number
            if quota > 0:
                return math.ceil(quota / period)
    return None


@contextmanager
def turn(threads: int) -> Iterator[None]:
    """Let a parallel kernel run in this many threads.

    Numba's own pool of threads ("workqueue") aborts the process when two threads call it at once.
    """
    if threads == 1:
        yield
        return
    _check_fork()
    one_at_a_time = numba.threading_layer() == "workqueue"
    with _one_at_a_time if one_at_a_time else nullcontext():
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            yield
        finally:
            numba.set_num_threads(before)


def share(size: int, threads: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(first, last)`` for shares of a range, one a thread, at the same time.

    It must give up Python's lock to gain anything. The threads wait without using a processor.
    """
    threads = min(threads, size)
    if threads == 1:
        work(0, size)
        return
    ends = [size * i // threads for i in range(threads + 1)]
    others = []
    try:
        # Once the main thread has ended, Python starts no others, and this one does what is left.
        with contextlib.suppress(RuntimeError):
            for i in range(1, threads):
                others.append(_pool().submit(work, ends[i], ends[i + 1]))
        work(0, ends[1])
        if len(others) < threads - 1:
            work(ends[1 + len(others)], size)
    finally:
        for other in others:
            other.result()


def _pool() -> ThreadPoolExecutor:
    """Return the threads of this process."""
    global _own_pool
    with _one_at_a_time:
        if _own_pool is None:
            _own_pool = ThreadPoolExecutor(max(1, available() - 1), "suspalign")
        return _own_pool


def _remember() -> None:
    global _forked_with_threads, _own_pool, _one_at_a_time
    _forked_with_threads = _forked_with_threads or bool(parallel._is_initialized)
    _own_pool, _one_at_a_time = None, threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_remember)


# --- One thread for linear algebra while several runs are done at once ---------------------------
#
# Libraries of linear algebra start a thread a core in every process, and their threads spin: two
# processes on two cores would wait for each other. Without the package threadpoolctl nothing is
# limited.


_lock = threading.Lock()
#: Contexts that are open in this process, and the limit that the first of them has set.
_open = 0
_blas_limit: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Have libraries of linear algebra take one thread, of this process, as long as anyone asks."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _open, _blas_limit
    with _lock:
        if _open == 0 and (controller := _controller()) is not None:
            _blas_limit = controller.limit(limits=1, user_api="blas")
        _open += 1


def _leave() -> None:
    global _open, _blas_limit
    with _lock:
        _open -= 1
        if _open == 0 and _blas_limit is not None:
            _blas_limit.restore_original_limits()
            _blas_limit = None


@functools.cache
def limit_for_good() -> None:
    """Have the libraries take one thread from now on: for workers, once in each process."""
    controller = _controller()
    if controller is not None:
        controller.limit(limits=1, user_api="blas")


def _controller() -> Any:
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()
