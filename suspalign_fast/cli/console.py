"""What the command line prints, and how it ends: one line an error, a status for every end."""

import contextlib
import errno
import multiprocessing
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import click
from tqdm import tqdm

from ..base import threads, words
from ..base.executors import end_with_parent
from ..base.reports import ForkError, NotCompiledError
from ..model import devices

#: Exit status where an argument, a file or the machine stands in the way, and of a run that
#: diverged; 1 is that of a claim which fails, 128 and more those of signals.
ERROR, DIVERGED = 2, 3
#: Options behind arguments that have another name.
_ALIASES = {
    "num_steps": "--steps",
    "num_threads": "--threads",
    "std": "--noise-std",
    "path": "--output",
    "record_at": "--rows",
}
_ARGUMENT = re.compile(r"^(\w+)(?= must| is not)")
_ERRORS = (
    ValueError,
    OSError,
    MemoryError,
    OverflowError,
    ImportError,  # of an extra that is not installed
    devices.DeviceError,
    ForkError,
    NotCompiledError,
)


def say(text: Any = "", *, error: bool = False) -> None:
    """Print a text plainly; a stream that nobody reads or that is full ends no run."""
    try:
        click.echo(words.lines(str(text)), err=error)
    except (OSError, ValueError) as failure:
        _silence("stderr" if error else "stdout", failure)


def warn(text: str) -> None:
    """Print a warning to standard error."""
    say(f"warning    {text}", error=True)


@contextlib.contextmanager
def warned() -> Iterator[None]:
    """Print warnings as the other lines are."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = lambda message, *_, **__: warn(" ".join(str(message).split()))
        yield


def _silence(name: str, failure: Exception) -> None:
    """Send what follows to the null device; say why, unless the reader has just left."""
    stream = getattr(sys, name)
    null = open(os.devnull, "w")  # noqa: SIM115 - it stays open as the new stream
    with contextlib.suppress(Exception):
        os.dup2(null.fileno(), stream.fileno())
    setattr(sys, name, null)
    left = isinstance(failure, OSError) and failure.errno == errno.EPIPE
    if name == "stdout" and not left:
        say(f"Error: standard output cannot be written: {failure}", error=True)
        _lost.append(failure)


#: Why standard output did not take what was printed.
_lost: list[Exception] = []


class Commands(click.Group):
    """A group of commands whose errors are one line and whose statuses are told apart."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and exit."""
        _lost.clear()
        try:
            status = super().main(*args, **extra | {"standalone_mode": False})
        except _StoppedError as stop:
            say(str(stop.cause) or "stopped", error=True)
            status = 128 + getattr(stop.cause, "signal_number", signal.SIGINT)
        except click.ClickException as error:
            status = _fail(error.format_message())
        except _ERRORS as error:
            status = _fail(_in_words_of_the_command(self, str(error) or type(error).__name__))
        except Exception as error:
            if not devices.is_from_driver(error):
                raise
            status = _fail(f"the GPU failed: {error or type(error).__name__}")
        _flush()
        number = status if isinstance(status, int) else 0
        sys.exit(ERROR if _lost and number == 0 else number)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; click would forget which signal stopped it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise _StoppedError(stop) from None


class _StoppedError(Exception):
    """A command was stopped by a signal."""

    def __init__(self, cause: KeyboardInterrupt) -> None:
        super().__init__(cause)
        self.cause = cause


def _fail(message: str) -> int:
    say(f"Error: {words.plain(message)}", error=True)
    return ERROR


def _flush() -> None:
    if sys.stdout is None:  # it was closed before the start
        return
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as failure:
        _silence("stdout", failure)


def _in_words_of_the_command(group: click.Group, message: str) -> str:
    """Name options where a message names the arguments behind them."""
    options = dict(_ALIASES)
    for command in group.commands.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.name:
                options.setdefault(parameter.name, max(parameter.opts, key=len))
    return _ARGUMENT.sub(lambda found: options.get(found[1], found[1]), message)


# --- Executors by name: threads, processes, the workers of a Dask scheduler ----------------------


EXPECTED = "threads, threads:N, processes, processes:N or dask://HOST:PORT"
#: Seconds to wait for a scheduler.
PATIENCE = 10


@contextmanager
def executor(text: str) -> Iterator[Executor | None]:
    """Open the executor that a text names, None for `sweep`'s own, and close it at the end."""
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
        count or threads.available(),
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
    """Get a process ready to end with its parent, without a word.

    It ignores Ctrl-C, which a terminal sends to all processes. Progress bars get a lock of their
    own: one shared by processes would be left behind.
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
