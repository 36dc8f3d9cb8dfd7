"""What the command line prints, and how it ends: one line an error, a status for every end."""

import contextlib
import errno
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from .. import _words, devices
from .._errors import ForkError, NotCompiledError

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
        click.echo(_words.lines(str(text)), err=error)
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
    say(f"Error: {_words.plain(message)}", error=True)
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
