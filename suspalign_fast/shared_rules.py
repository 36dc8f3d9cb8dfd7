"""Compiled rules that compute the same are compiled once: what is compiled is never given back."""

import threading
from typing import Any
from weakref import WeakKeyDictionary

from ._code import compiled_parts, described
from .kernels.rules import MAX_RULES

_lock = threading.Lock()
_first: dict[str, Any] = {}
_as_compiled: "WeakKeyDictionary[Any, str]" = WeakKeyDictionary()


def representative(function: Any) -> Any:
    """Return the compiled function that stands for all that compute the same, about to be compiled.

    Numba keeps the values of globals that were there when it compiled a function. Where one of the
    parts was compiled with others than there are now, a function stands for itself alone.

    Parameters
    ----------
    function : numba function

    Examples
    --------
    >>> import numba
    >>> from suspalign_fast.shared_rules import representative
    >>> def rule_of(size):
    ...     return numba.njit(lambda row: size)
    >>> first = representative(rule_of(1e-3))
    >>> first(0)
    0.001
    >>> representative(rule_of(1e-3)) is first, representative(rule_of(2e-3)) is first
    (True, False)
    """
    with _lock:
        try:
            texts = {part: described(part) for part in compiled_parts(function)}
        except ValueError:  # it refers to what cannot be told apart
            return function
        if any(part.overloads and _as_compiled.get(part) != text for part, text in texts.items()):
            return function
        _as_compiled.update(texts)
        found = _first.get(texts[function])
        if found is None or not found.overloads:  # that one has not compiled
            found = _first[texts[function]] = function
        while len(_first) > MAX_RULES:
            del _first[next(iter(_first))]
        return found
