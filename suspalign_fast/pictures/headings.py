"""Colours and words around a picture: headings, keys.

Colours are those of Okabe and Ito (2008), which people of any colour vision tell apart, and greys.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .curves import Keys

DOMINANT, BULK, EXACT, CRITICAL, SHADE = "#D55E00", "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SIMULATED, TOTAL, QUIET = "0.15", "0.8", "0.35"
#: The same colours for every row of curves whose average is drawn on them.
PALE_DOMINANT, PALE_BULK, PALE_CRITICAL, PALE = "#F2C4A3", "#A6CEE3", "#A3DCCB", "0.72"


# --- Where words go: a heading that is broken into lines, keys above panels, nothing over data ---


#: Parts of a line, and what lies between them.
SEPARATOR = ",  "
#: Points around the picture and between key and note; the height of a line in letters.
MARGIN = 6.0
GAP = 8.0
LEADING = 1.3
#: Letters take whole pixels: at another resolution, or in a PDF, text may be this much wider.
SLACK = 1.15
#: Text and lines shrink to this part of their size at most.
SMALLEST = 0.45


@dataclass(frozen=True)
class Sizes:
    """Sizes of text in points, and of lines and marks as a part of their usual ones."""

    title: float
    text: float
    small: float
    scale: float

    @classmethod
    def scaled(cls, scale: float) -> "Sizes":
        """Return the sizes for a picture of `scale` times the default size, never larger ones."""
        scale = min(1.0, max(SMALLEST, scale))
        return cls(11.0 * scale, 9.5 * scale, 8.5 * scale, scale)

    def apply(self, panels: Any) -> None:
        """Set the sizes of all that the panels hold."""
        for axes in panels:
            axes.xaxis.label.set_size(self.text)
            axes.yaxis.label.set_size(self.text)
            axes.tick_params(which="both", labelsize=self.small, width=0.7 * self.scale)
            axes.tick_params(length=3.5 * self.scale)
            axes.tick_params(which="minor", length=2.0 * self.scale)
            for spine in axes.spines.values():
                spine.set_linewidth(0.8 * self.scale)
            for line in axes.lines:
                line.set_linewidth(self.scale * line.get_linewidth())
                line.set_markersize(self.scale * line.get_markersize())
            for text in axes.texts:
                text.set_fontsize(self.small)


def lines(parts: list[str], fits: Callable[[str], bool]) -> list[str]:
    """Join parts to as few lines as fit."""
    found: list[str] = []
    for part in parts:
        longer = found[-1] + SEPARATOR + part if found else part
        if found and fits(longer):
            found[-1] = longer
        else:
            found.append(part)
    return found


def heading(figure: Any, title: list[str], words: list[str], sizes: Sizes) -> None:
    """Write title and words at the top, and leave the panels the room below."""
    width, height = (72.0 * side for side in figure.get_size_inches())
    top = MARGIN
    for parts, size, style in (
        (title, sizes.title, {}),
        (words, sizes.small, {"color": QUIET}),
    ):
        text = figure.text(MARGIN / width, 1.0, "", fontsize=size, va="top", **style)

        def fits(line: str, text: Any = text) -> bool:
            text.set_text(line)
            return _width(text) <= width - 2.0 * MARGIN

        broken = lines(parts, fits)
        text.set_text("\n".join(broken))
        text.set_linespacing(LEADING)
        text.set_y(1.0 - top / height)
        top += max(_height(text), len(broken) * size) + (LEADING - 1.0) * size
    figure.get_layout_engine().set(rect=(0.0, 0.0, 1.0, 1.0 - (top + MARGIN / 2) / height))


def keys(figure: Any, panels: list[tuple[Any, Keys, str]], sizes: Sizes) -> None:
    """Write every panel's key above it, in as many columns as fit, and its note to the right."""
    figure.draw_without_rendering()
    for axes, key, note in panels:
        room = axes.get_window_extent().width * 72.0 / figure.dpi
        taken = _note(axes, note, sizes) + GAP if note else 0.0
        if key and not _key(axes, key, len(key), 0.0, sizes) + taken <= room:
            raised = (LEADING + 0.3) * sizes.small if note else 0.0
            columns = len(key)
            while _key(axes, key, columns, raised, sizes) > room and columns > 1:
                columns -= 1


def _note(axes: Any, note: str, sizes: Sizes) -> float:
    """Write a note above the right end of a panel; return its width in points."""
    text = axes.annotate(
        note, (1.0, 1.0), xycoords="axes fraction", xytext=(0.0, 0.35 * sizes.small),
        textcoords="offset points", ha="right", va="bottom", fontsize=sizes.small, color=QUIET,
        gid="note",
    )  # fmt: skip
    return _width(text)


def _key(axes: Any, key: Keys, columns: int, raised: float, sizes: Sizes) -> float:
    """Write a key above a panel, raised by some points; return its width in points."""
    from matplotlib.transforms import ScaledTranslation

    up = ScaledTranslation(0.0, raised / 72.0, axes.get_figure().dpi_scale_trans)
    parts = [artist for artist, _ in key]
    # Matplotlib leaves out what has an underscore in front.
    labels = [f" {label}" if label.startswith("_") else label for _, label in key]
    legend = axes.legend(
        parts, labels, loc="lower left", bbox_to_anchor=(0.0, 1.0),
        bbox_transform=axes.transAxes + up, ncols=columns, fontsize=sizes.small, frameon=False,
        borderaxespad=0.1, borderpad=0.2, handlelength=1.8, handletextpad=0.5, columnspacing=1.4,
    )  # fmt: skip
    return _width(legend)


def _height(artist: Any) -> float:
    """Height of text in points."""
    return float(artist.get_window_extent().height) * 72.0 / float(artist.get_figure().dpi)


def _width(artist: Any) -> float:
    """Width of text or key in points, with some slack."""
    pixels = float(artist.get_window_extent().width)
    return SLACK * pixels * 72.0 / float(artist.get_figure().dpi)
