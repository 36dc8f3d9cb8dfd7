"""What a function of Python computes, as a text: its code, and the values that it refers to."""

import types
from collections.abc import Iterator
from typing import Any

import numpy as np

#: Values that their own text tells apart from any other.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))


def described(function: Any) -> str:
    """Return a text that is the same for functions that compute the same in the same way.

    Functions, compiled or not, are followed into what they call by name, constants, closures and
    defaults into their values; of anything else the type counts. Names, comments and places of
    functions do not.

    Parameters
    ----------
    function : function, or one compiled by Numba

    Examples
    --------
    >>> from suspalign_fast._code import described
    >>> def twice(x):
    ...     return 2 * x
    >>> def double(x):  # the same
    ...     return 2 * x
    >>> def thrice(x):
    ...     return 3 * x
    >>> described(twice) == described(double), described(twice) == described(thrice)
    (True, False)
    """
    return "\n".join(_of(function, {}))


def _of(value: Any, seen: dict[int, int]) -> Iterator[str]:
    """Yield the parts of a value; a function that was met before is known by its number."""
    plain = getattr(value, "py_func", value)
    if isinstance(plain, types.FunctionType):
        if id(plain) in seen:
            yield f"function {seen[id(plain)]}"
            return
        seen[id(plain)] = len(seen)
        yield f"function {getattr(value, 'targetoptions', {}).get('fastmath', False)}"
        yield from _of_code(plain.__code__, is_documented=plain.__doc__ is not None)
        for part in (plain.__defaults__, plain.__kwdefaults__, _cells(plain)):
            yield from _of(part, seen)
        for name, known in sorted(_globals_of(plain).items()):
            yield name
            yield from _of(known, seen)
    elif isinstance(value, _PLAIN):
        yield repr(value)
    elif isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        yield f"{array.dtype} {array.shape} {array.tobytes().hex()}"
    elif isinstance(value, tuple | list):
        yield f"{type(value).__name__} {len(value)}"
        for part in value:
            yield from _of(part, seen)
    elif isinstance(value, dict):
        yield from _of(list(value.items()), seen)
    else:
        yield getattr(value, "__qualname__", type(value).__qualname__)


def _of_code(code: types.CodeType, *, is_documented: bool = False) -> Iterator[str]:
    """Yield what code does; its first constant may be a docstring, which is left out."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames[: code.co_argcount]}"
    for constant in code.co_consts[int(is_documented) :]:
        if isinstance(constant, types.CodeType):
            yield from _of_code(constant)
        elif isinstance(constant, frozenset):
            yield repr(sorted(map(repr, constant)))
        else:
            yield repr(constant)


def _cells(function: types.FunctionType) -> list[Any]:
    """Values of a closure, in the order of their names."""
    cells = function.__closure__ or ()
    return [cell.cell_contents for cell in cells]


def _globals_of(function: types.FunctionType) -> dict[str, Any]:
    """Global names that the code of a function and of those inside it reads, with their values.

    Of a module what the code may read from it.
    """
    names = set(_names(function.__code__))
    found = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, value in list(found.items()):
        if isinstance(value, types.ModuleType):
            found[name] = {part: vars(value)[part] for part in sorted(names) if part in vars(value)}
    return found


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
