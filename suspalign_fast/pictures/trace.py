"""Pictures of a trace: alignment, losses and step size against step."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import checks
from ..storage import paths
from ..traces.trace import Trace
from . import caption, headings, panels
from .load import load

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Endings of a picture's name.
FORMATS = ("png", "pdf", "svg", "eps", "ps", "jpg", "jpeg", "tif", "tiff", "webp")
#: Width and height in inches of pictures with two and three panels, and heights of the panels.
SIZES = {2: (7.5, 5.8), 3: (7.5, 7.6)}
HEIGHTS = (1.0, 0.9, 0.8)
#: Width and height in inches.
SMALLEST, LARGEST = (3.0, 2.0), (50.0, 50.0)
SIDES = "from 3 x 2 to 50 x 50"
DOTS_PER_INCH = 150
_SOFTWARE = "suspalign-fast"


def plot_trace(
    trace: Trace,
    path: str | os.PathLike[str] | None = None,
    *,
    log_alignment: bool = False,
    size: tuple[float, float] | None = None,
    step_size: bool = True,
) -> "Figure":
    """Plot alignment, losses and step size against step, steps on a logarithmic axis from 0.

    Where the step sizes are known in advance, exact mean and standard deviation of the alignment
    are drawn beside the simulated one; where these are missing the picture says why. The heading
    says how the run was made and how it ended; a run that is not complete is marked at its end.

    Parameters
    ----------
    trace : Trace
        Also one that is still being written.
    path : path-like, optional
        Save the figure there; the ending chooses the format. PDF, PS and EPS hold text in TrueType
        sizes.
    log_alignment : bool
        Whether the alignment has a logarithmic axis.
    size : tuple of two float, optional
        Width and height in inches, from 3 x 2 to 50 x 50. Text is smaller below the default size.
    step_size : bool
        Whether a third panel shows the step size beside the critical one: alignment is expected to
        fall where the step size is below it and to rise where it is above.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to ``pyplot``: no display is needed, and there is nothing to close. Notebooks show
        it as an image.

    Raises
    ------
    ValueError
        If `trace` is no trace, a size is out of range or an ending is not that of a picture.
    OSError
        If the picture cannot be written.

    Notes
    -----
    A curve is drawn by at most 4,000 rows: the first, the last, the lowest and the highest one of
    each of 1,000 columns of the axis. They paint what all rows would paint. Where a curve has more
    than 1,000 rows these are pale, and a line on them is the mean of rows within a hundredth of the
    axis; the median in the third panel, where single rows may have no critical step size.

    Examples
    --------
    >>> import suspalign_fast as sa
    >>> problem = sa.Quadratic(sa.Spectrum.two_level(1_000, 10, 2.0, 0.1), initial=10.0)
    >>> trace = sa.simulate(problem, sa.CriticalStep(0.9), 300)
    >>> figure = sa.plot_trace(trace, "run.pdf", log_alignment=True)  # doctest: +SKIP
    """
    if not isinstance(trace, Trace):
        raise checks.wrong("trace", trace, "a Trace")
    target = None if path is None else check_ending(path)
    count = 3 if checks.truth("step_size", step_size) else 2
    checks.truth("log_alignment", log_alignment)
    width, height = SIZES[count] if size is None else check_size(size)
    sizes = headings.Sizes.scaled(min(width / SIZES[count][0], height / SIZES[count][1]))
    with load().settings():
        figure = load().Picture((width, height), DOTS_PER_INCH)
        axes = figure.subplots(count, 1, sharex=True, height_ratios=HEIGHTS[:count])
        panels.steps(axes, trace)
        drawn = [
            panels.alignment(axes[0], trace, logarithmic=log_alignment),
            panels.losses(axes[1], trace),
        ]
        if step_size:
            drawn.append(panels.step_sizes(axes[2], trace))
        sizes.apply(axes)
        headings.heading(figure, caption.title(trace), caption.caption(trace), sizes)
        headings.keys(figure, [(a, *parts) for a, parts in zip(axes, drawn, strict=True)], sizes)
    if target is not None:
        save(figure, target)
    return figure


def check_ending(path: Any, name: str = "path") -> Path:
    """Return the path of a picture; raise ValueError unless it names a file with such an ending."""
    expected = f"a picture's name, ending in .{', .'.join(FORMATS)}"
    try:
        target = paths.absolute(path)
    except ValueError:
        raise checks.wrong(name, path, expected) from None
    if target.suffix.lower().removeprefix(".") not in FORMATS:
        raise checks.wrong(name, os.fsdecode(path), expected)
    return Path(os.fsdecode(path))


def check_size(size: Any) -> tuple[float, float]:
    """Return width and height in inches; ValueError if one is out of range."""
    expected = f"width and height in inches, {SIDES}"
    try:
        width, height = (checks.real("size", s) for s in checks.pair("size", size, expected))
    except ValueError:
        raise checks.wrong("size", size, expected) from None
    sides = zip(SMALLEST, (width, height), LARGEST, strict=True)
    if not all(low <= side <= high for low, side, high in sides):
        raise checks.wrong("size", size, expected)
    return width, height


def save(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure to a file; text stays text in PDF and PS, in TrueType fonts (kind 42).

    It is written beside its place: a picture that was there stays until the new one is whole.
    """
    from matplotlib import rc_context

    target = paths.real(path)
    ending = target.suffix.lower().removeprefix(".")
    about = {"Software": _SOFTWARE} if ending == "png" else None
    paths.check_new(target, overwrite=True)
    new = paths.Replacement(target)
    try:
        with rc_context({"pdf.fonttype": 42, "ps.fonttype": 42}), open(new.path, "wb") as file:
            figure.savefig(file, format=ending, metadata=about)
        new.put(overwrite=True)
    finally:
        new.discard()


def is_own_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a PNG that `plot_trace` wrote."""
    head = paths.first_bytes(Path(path), 4096) or b""
    return head.startswith(b"\x89PNG") and f"Software\0{_SOFTWARE}".encode() in head
