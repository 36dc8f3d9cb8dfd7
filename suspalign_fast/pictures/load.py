"""Importing Matplotlib when the first picture is drawn."""

import contextlib
import importlib
import os
import sys
from typing import Any

#: The environment variable that names a backend. Pictures need none.
_BACKEND = "MPLBACKEND"


def load() -> Any:
    """Import `pictures.figure`, whatever backend the environment asks for.

    Importing Matplotlib fails where that backend is unknown, so the backend is set afterwards.
    """
    if "matplotlib" not in sys.modules and (asked := os.environ.get(_BACKEND)):
        del os.environ[_BACKEND]
        try:
            matplotlib = importlib.import_module("matplotlib")
        finally:
            os.environ[_BACKEND] = asked
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = asked
    return importlib.import_module(f"{__package__}.figure")
