"""One thread for linear algebra while several runs are done at once.

Libraries of linear algebra start a thread a core in every process, and their threads spin: two
processes on two cores would wait for each other. Without the package threadpoolctl nothing is
limited.
"""

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which libraries of linear algebra take one thread, of this process."""
    controller = _controller()
    return nullcontext() if controller is None else controller.limit(limits=1, user_api="blas")


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
