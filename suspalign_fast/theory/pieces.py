"""Step sizes known in advance, cut where a size begins that many steps share."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..step_size import ConstantStep, KnownStepSize

#: Steps of one size from which on their closed form is taken.
LONG = 32


class Piece(NamedTuple):
    """Some steps in a row.

    Attributes
    ----------
    rule : KnownStepSize
        A `ConstantStep` where all of them have one size.
    start : int
    ends : ndarray of int64
        Ascending steps after `start` at which the state is wanted; the last is where it ends.
    """

    rule: KnownStepSize
    start: int
    ends: NDArray[np.int64]

    @property
    def is_constant(self) -> bool:
        """Whether the state at each end has a closed form in the state at the start."""
        return type(self.rule) is ConstantStep

    @property
    def num_steps(self) -> int:
        """Number of steps."""
        return int(self.ends[-1]) - self.start

    def moves(self) -> Iterator[tuple[int, int]]:
        """Yield beginning and end of the move to each of `ends`.

        All from the start where that has a closed form, so that no error adds up, else each from
        the one before.
        """
        now = self.start
        for end in self.ends.tolist():
            yield (self.start if self.is_constant else now), end
            now = end


def pieces(rule: KnownStepSize, times: NDArray[np.int64]) -> Iterator[Piece]:
    """Yield the pieces of the steps up to the last of some times, which are ascending.

    Examples
    --------
    >>> import numpy as np
    >>> from suspalign_fast import Schedule
    >>> from suspalign_fast.theory.pieces import pieces
    >>> sizes = Schedule(np.r_[0.3, np.full(50, 0.2), 0.1])
    >>> [(x.is_constant, x.start, x.ends.tolist()) for x in pieces(sizes, np.array([20, 52]))]
    [(False, 0, [1]), (True, 1, [20, 51]), (False, 51, [52])]
    """
    last = int(times.max(initial=0))
    if last == 0:
        return
    if type(rule) is ConstantStep:
        yield Piece(rule, 0, np.unique(times[times > 0]))
        return
    sizes = rule.values(0, last)
    starts = np.flatnonzero(np.diff(sizes, prepend=np.nan) != 0.0)
    stops = np.append(starts[1:], last)
    shared = (stops - starts >= LONG) & (sizes[starts] > 0.0)
    cuts = np.unique(np.concatenate([[0], starts[shared], stops[shared], [last]])).tolist()
    of_one_size = set(starts[shared].tolist())
    for start, stop in itertools.pairwise(cuts):
        inside = np.unique(times[(times > start) & (times < stop)])
        part = ConstantStep(float(sizes[start])) if start in of_one_size else rule
        yield Piece(part, start, np.append(inside, stop))
