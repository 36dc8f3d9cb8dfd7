"""The figure of a picture: it draws itself alike in a file, in a notebook and on a screen."""

import io
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def settings() -> Any:
    """Return a context in which pictures are made: LaTeX is not needed, and reads no text."""
    return rc_context({"text.usetex": False})


class Picture(Figure):
    """A figure that ``pyplot`` does not know; notebooks show it as an image."""

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
