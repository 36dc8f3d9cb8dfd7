"""Signals that end long work: remembered when they come, answered where it can stop."""

import signal
import threading
from typing import Any, Self

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
    """Remembers signals while it lasts, in the main thread; what was ignored stays ignored.

    An exception out of a handler would be lost where Python cannot pass it on, as in a finalizer.
    A signal that comes too late to stop the work is raised again at the end.

    Attributes
    ----------
    received : int or None
    answered : bool
        Whether the work was stopped for it.
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
