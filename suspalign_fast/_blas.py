"""One thread for linear algebra while several runs are done at once.

Libraries of linear algebra start a thread a core in every process, and their threads spin: two
processes on two cores would wait for each other. Without the package threadpoolctl nothing is
limited.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
#: Contexts that are open in this process, and the limit that the first of them has set.
_open = 0
_limit: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Have libraries of linear algebra take one thread, of this process, as long as anyone asks."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _open, _limit
    with _lock:
        if _open == 0 and (controller := _controller()) is not None:
            _limit = controller.limit(limits=1, user_api="blas")
        _open += 1


def _leave() -> None:
    global _open, _limit
    with _lock:
        _open -= 1
        if _open == 0 and _limit is not None:
            _limit.restore_original_limits()
            _limit = None


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
