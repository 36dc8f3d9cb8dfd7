"""Executors by name: threads, processes, the workers of a Dask scheduler."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from .. import _threads
from ..executors import end_with_parent

EXPECTED = "threads, threads:N, processes, processes:N or dask://HOST:PORT"
#: Seconds to wait for a scheduler.
PATIENCE = 10


@contextmanager
def executor(text: str) -> Iterator[Executor | None]:
    """Open the executor that a text names, None for that of `sweep` itself, and close it.

    Raises
    ------
    ValueError
        If it names none.
    OSError, ImportError
        If a scheduler does not answer, or its package is not installed.
    """
    kind, _, rest = text.partition(":")
    if kind == "dask" and rest.startswith("//") and rest[2:].rpartition(":")[0]:
        with _dask(f"tcp:{rest}") as pool:
            yield pool
    elif kind in _POOLS and (rest or ":" not in text):
        with _POOLS[kind](_count(text, rest)) as pool:
            yield pool
    else:
        raise ValueError(f"--executor must be {EXPECTED}, got {text!r}")


def _count(text: str, number: str) -> int | None:
    if not number:
        return None
    if not number.isascii() or not number.isdigit() or not 0 < int(number) <= 10_000:
        raise ValueError(f"--executor must be {EXPECTED}, N from 1 to 10000, got {text!r}")
    return int(number)


@contextmanager
def _threads_of_this_process(count: int | None) -> Iterator[Executor | None]:
    if count is None:
        yield None
        return
    with ThreadPoolExecutor(count) as pool:
        yield pool


@contextmanager
def _processes(count: int | None) -> Iterator[Executor]:
    """Spawned processes; when work is given up, they are, too."""
    pool = ProcessPoolExecutor(
        count or _threads.available(),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
    )
    try:
        yield pool
    except BaseException:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def start_worker() -> None:
    """Get a process ready to be ended by its parent, or with it, without a word.

    It ignores Ctrl-C, which a terminal sends to all processes, and progress bars, of which it shows
    none, get a lock of its own: one among processes would be left behind.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tqdm.set_lock(threading.RLock())
    end_with_parent()


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "--executor dask://... needs the package dask.distributed, which is not installed "
            "(pip install 'suspalign-fast[clusters]')"
        ) from error
    try:
        client: Any = Client(address, timeout=PATIENCE)
    except (OSError, ValueError, TypeError) as error:
        raise ConnectionError(f"--executor: no Dask scheduler answers at {address}") from error
    with client:
        yield client.get_executor()


_POOLS: dict[str, Any] = {"threads": _threads_of_this_process, "processes": _processes}
