"""Kernels that work on some parts of a problem, called for all of them in threads.

Between two recorded rows no part needs another: threads meet once a call, and are Python's own,
which wait without using a processor.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _threads
from ..kernels import advance, jump, momentum, momentum_jump
from ..kernels.plan import Plan

#: Blocks times steps from which on a second thread brings more than it costs.
MIN_WORK = 256


def keep_parts(plan: Plan, table: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Set rows, with a line for each part, to the sums of the parts."""
    out[:] = table.swapaxes(0, 1)


class Shared:
    """A kernel for all parts: ``kernel(first, last, state, plan, *arguments, table)``.

    Parameters
    ----------
    kernel : callable
    finish : callable
        ``finish(plan, table, out)`` makes rows of what the parts left in the table.
    """

    def __init__(self, kernel: Any, finish: Any = advance.add_parts) -> None:
        self.kernel: Any = kernel
        self.finish: Any = finish

    def apart(self) -> "Shared":
        """Return the same with rows that keep the parts apart."""
        return Shared(self.kernel, keep_parts)

    def __call__(self, state: NDArray[Any], plan: Plan, *arguments: Any) -> None:
        """Call the kernel and write the sums of all parts to the last argument, which has rows.

        The fourth argument from the end has an entry for every step.
        """
        *most, out = arguments
        steps = most[-3].size
        parts = plan.parts.shape[0]
        table = np.empty((parts, *out.shape[::2]))

        def work(first: int, last: int) -> None:
            self.kernel(first, last, state, plan, *most, table)

        is_worth_it = plan.blocks.shape[0] * steps >= MIN_WORK
        _threads.share(parts, plan.threads if is_worth_it else 1, work)
        self.finish(plan, table, out)


#: Steps of known moves: (state, plan, first_step, moves, slots, key_0, key_1, out).
advance_known = Shared(advance.advance_parts)
#: The same with a velocity: (state, plan, velocity, factors, first_step, moves, slots, key_0, ...).
advance_velocity_known = Shared(momentum.advance_velocity_parts)
#: Moves to recorded rows: (state, plan, level_ends, a, b, steps, key_0, key_1, out).
jump_rows = Shared(jump.jump_parts)
#: Moves of one step size: (state, plan, lengths, eta, weights, log, steps, key_0, key_1, out).
jump_rows_by_size = Shared(jump.jump_parts_by_size)
#: Moves with a velocity: (state, plan, velocity, level_ends, seven of moves, steps, key_0, ...).
jump_velocity_rows = Shared(momentum_jump.jump_velocity_parts)
