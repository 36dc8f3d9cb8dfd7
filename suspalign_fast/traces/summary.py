"""A trace in a few numbers, read piece by piece: no column is ever held as a whole."""

from typing import NamedTuple

import numpy as np

from ..physics import formulas as physics
from .trace import Trace

#: Rows read at once.
PIECE = 65_536


class Mark(NamedTuple):
    """A value and the step it was recorded at."""

    value: float
    step: int


class Course(NamedTuple):
    """A column at the first row, at its lowest and at the last row.

    Attributes
    ----------
    start, end : Mark
    minimum : Mark or None
        None where no row has a finite value.
    """

    start: Mark
    minimum: Mark | None
    end: Mark


def courses(trace: Trace) -> dict[str, Course]:
    """Return the courses of alignment and loss; the trace must have a row."""
    found: dict[str, Course] = {}
    for start in range(0, len(trace), PIECE):
        stop = min(len(trace), start + PIECE)
        steps, sums = (trace.read(name, start, stop) for name in ("step", "power_sums"))
        is_run = trace.problem is not None
        loss = physics.loss(sums) if is_run else trace.read("loss", start, stop)
        for name, values in (("alignment", physics.alignment(sums)), ("loss", loss)):
            piece = _course(values, steps)
            found[name] = _joined(found[name], piece) if name in found else piece
    return found


def _course(values: np.ndarray, steps: np.ndarray) -> Course:
    first, last = (Mark(float(values[row]), int(steps[row])) for row in (0, -1))
    if not np.isfinite(values).any():
        return Course(first, None, last)
    row = int(np.nanargmin(values))
    return Course(first, Mark(float(values[row]), int(steps[row])), last)


def _joined(before: Course, after: Course) -> Course:
    lowest = [course.minimum for course in (before, after) if course.minimum is not None]
    return Course(before.start, min(lowest, key=lambda m: m.value, default=None), after.end)
