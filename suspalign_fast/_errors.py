"""Errors that several layers raise."""


class ForkError(RuntimeError):
    """A forked process would use what only its parent has: threads, or an open file."""


class NotCompiledError(RuntimeError):
    """Numba is told to compile nothing, which kernels and rules need."""
