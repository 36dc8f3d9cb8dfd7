"""The figure of a picture: it draws itself alike in a file, in a notebook and on a screen."""

import contextlib
import importlib
import io
import os
import sys
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# --- Importing Matplotlib when the first picture is drawn ----------------------------------------


#: The environment variable that names a backend. Pictures need none.
_BACKEND = "MPLBACKEND"


def load() -> Any:
    """Import what figures are made with, whatever backend the environment asks for.

    Matplotlib cannot be imported where that backend is unknown: it is told of it afterwards.

    Returns
    -------
    module
        `suspalign_fast.pictures.figure`.
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


def settings() -> Any:
    """Return a context in which pictures are made: LaTeX is not needed, and reads no text."""
    return rc_context({"text.usetex": False})


class Picture(Figure):
    """A figure that ``pyplot`` does not know; notebooks show it as an image.

    Parameters
    ----------
    inches : tuple of two float
        Width and height.
    dots : int
        Dots an inch.
    """

    def __init__(self, inches: tuple[float, float], dots: int) -> None:
        super().__init__(figsize=inches, dpi=dots, layout="constrained")
        FigureCanvasAgg(self)

    def draw(self, renderer: Any) -> None:
        """Draw all of it; marks and texts that are only made now are as the others."""
        with settings():
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        """Return the image that notebooks show."""
        written = io.BytesIO()
        self.savefig(written, format="png")
        return written.getvalue()
