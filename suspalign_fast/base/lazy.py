"""Parts of SciPy that take a quarter of a second to import, loaded when they are first used."""

import importlib
from typing import Any


class _Lazy:
    """Stands for a module until something of it is wanted."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


special: Any = _Lazy("scipy.special")
optimize: Any = _Lazy("scipy.optimize")
