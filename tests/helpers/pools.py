"""Executors of every kind, for tests: each is shut down by whoever made it."""

import contextlib
import multiprocessing
import os
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest


def processes(count=2):
    """Return a pool of spawned processes."""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def loky():
    """Return loky's pool."""
    return pytest.importorskip("loky").get_reusable_executor(2)


def dask():
    """Return the executor of a cluster of Dask's on this machine."""
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, processes=True
    )
    client = distributed.Client(cluster)
    executor = client.get_executor()
    shutdown = executor.shutdown

    def close(**how):
        shutdown(**how)
        client.wait_for_workers(2, timeout=60)  # one that is just starting does not end well
        client.close()
        cluster.close()

    executor.shutdown = close
    return executor


POOLS = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": processes,
    "loky": loky,
    "dask": dask,
}


class Lethal:
    """A function that kills its process instead of returning, the first few times."""

    def __init__(self, function, folder, deaths):
        self.function = function
        self.folder = Path(folder)
        self.deaths = deaths

    def __call__(self, *arguments):
        result = self.function(*arguments)
        for death in range(self.deaths):
            with contextlib.suppress(FileExistsError):
                (self.folder / str(death)).touch(exist_ok=False)
                os._exit(1)
        return result


class Deadly(Executor):
    """Hands work to an executor whose workers die at it, a few times.

    Parameters
    ----------
    make : callable
        Makes the executor; it is called again where `renews` and that is broken.
    folder : Path
    deaths : int
    renews : bool
    when : callable
        ``when(work)`` says whether a worker may die at a piece of work.
    """

    def __init__(self, make, folder, deaths, *, renews=True, when=lambda work: True):
        self.make, self.folder, self.deaths, self.renews = make, folder, deaths, renews
        self.when = when
        self.pool = make()
        self._max_workers = 2

    def submit(self, function, work):
        """Hand out work."""
        if self.when(work):
            function = Lethal(function, self.folder, self.deaths)
        try:
            return self.pool.submit(function, work)
        except BrokenExecutor:
            if not self.renews:
                raise
            self.pool.shutdown(wait=False)
            self.pool = self.make()
            return self.pool.submit(function, work)

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Shut the executor down."""
        self.pool.shutdown(wait=wait)

    @property
    def died(self):
        """Workers that have died."""
        return len(list(self.folder.iterdir()))
