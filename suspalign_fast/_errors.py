"""Errors that several layers raise."""


class ForkError(RuntimeError):
    """A forked process would use what only its parent has: threads, or an open file."""
