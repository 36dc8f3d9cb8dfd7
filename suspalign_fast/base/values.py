"""Objects as values: equality, pickling and copying, underflow."""

import functools
import os
import pickle
import stat
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numba import cloudpickle
from numpy.typing import NDArray


def same_values(one: Iterable[Any], other: Iterable[Any]) -> bool:
    """Whether two sequences hold equal values, arrays compared as a whole, NaN equal to NaN."""
    return all(_same(a, b) for a, b in zip(one, other, strict=True))


def _same(a: Any, b: Any) -> bool:
    if not (isinstance(a, np.ndarray) or isinstance(b, np.ndarray)):
        return bool(a == b)
    is_float = np.result_type(a).kind in "fc" and np.result_type(b).kind in "fc"
    return type(a) is type(b) and np.array_equal(a, b, equal_nan=is_float)


# --- Pickling and copying: what makes an object travels, what follows from it is made again ------
#
# Arrays that hold one number for every entry, which take no memory, travel as that number; arrays
# come back as read-only as they left.


class _Repeated(NamedTuple):
    """An array of no memory: one value and a shape."""

    value: Any
    shape: tuple[int, ...]


class _Frozen(NamedTuple):
    """An array that nobody may write to."""

    values: NDArray[Any]


class Travels:
    """Base of classes that pickle and copy without what they keep for later."""

    #: Attributes that are not sent, and what makes them anew.
    _made_anew: ClassVar[dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        left = {
            name
            for cls in type(self).__mro__
            for name, value in vars(cls).items()
            if isinstance(value, functools.cached_property)
        }
        kept = vars(self).items()
        return {
            name: _packed(value)
            for name, value in kept
            if name not in left and name not in self._made_anew
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _unpacked(value))
        for name, make in self._made_anew.items():
            object.__setattr__(self, name, make())


def _packed(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if value.size > 1 and not any(value.strides):
        return _Repeated(value.flat[0], value.shape)
    return value if value.flags.writeable else _Frozen(value)


def _unpacked(value: Any) -> Any:
    if isinstance(value, _Repeated):
        return np.broadcast_to(value.value, value.shape)
    if isinstance(value, _Frozen):
        value.values.flags.writeable = False
        return value.values
    return value


def main_is_lost() -> bool:
    """Whether new processes would look for the program in a file that does not exist."""
    file = _main_file()
    return file is not None and not os.path.exists(file)


def main_travels() -> bool:
    """Whether other processes can import what the program defines: in notebooks they cannot."""
    file = _main_file()
    return bool(_main_name()) or (
        file is not None and os.path.exists(file) and stat.S_ISREG(os.lstat(file).st_mode)
    )


def _main_name() -> str | None:
    return getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None)


def _main_file() -> str | None:
    """Return the file by which multiprocessing has other processes import the program."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    is_shell = file is not None and os.path.splitext(os.path.basename(file))[0] == "ipython"
    return None if _main_name() or is_shell else file


def packed(value: Any) -> bytes:
    """Return a pickle of a user's function: by its place, or as a whole where others lack that."""
    if main_travels():
        try:
            return pickle.dumps(value)
        except Exception:  # a function inside another one, or without a name
            return bytes(cloudpickle.dumps(value))
    return bytes(cloudpickle.dumps(value))


# --- Underflow is rounding here: numbers that are too small to hold count as zero ----------------


P = ParamSpec("P")
R = TypeVar("R")


def may_underflow(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function work alike under a caller's ``np.seterr(all="raise")``."""

    @functools.wraps(function)
    def calm(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(under="ignore"):
            return function(*args, **kwargs)

    return calm
