"""Underflow is rounding here: numbers that are too small to hold count as zero."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


def may_underflow(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function work alike under a caller's ``np.seterr(all="raise")``.

    Examples
    --------
    >>> import numpy as np
    >>> from suspalign_fast._underflow import may_underflow
    >>> @may_underflow
    ... def square(x):
    ...     return np.square(x)
    >>> with np.errstate(all="raise"):
    ...     print(square(1e-200))
    0.0
    """

    @functools.wraps(function)
    def calm(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(under="ignore"):
            return function(*args, **kwargs)

    return calm
