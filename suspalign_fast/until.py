"""How many seeds are enough: until a mean is known as well as was asked for.

Runs that decide when to stop must not be part of the mean: where values have a long tail, those
that happen to be small have a small deviation, too, and would end a point early. So a point is
first tried with pilot runs, of seeds of their own, which are not kept; the mean of the others has
no bias then. How many there are follows from the point alone, whoever runs it.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _checks

#: Pilot runs of a point at first, unless it is told.
FIRST = 8
#: Pilots are doubled until they are this share of the runs that they call for.
SHARE = 0.25


class Until(NamedTuple):
    """A standard error of the mean over seeds, at every recorded step."""

    stderr: float
    variable: str
    first: int = FIRST

    @classmethod
    def of(cls, given: Any, variables: Sequence[str]) -> "Until":
        """Return what a user gave.

        Raises
        ------
        ValueError
            If it is not a mapping like ``{"stderr": 0.01}``.
        """
        if not isinstance(given, Mapping) or "stderr" not in given or set(given) - set(cls._fields):
            raise _checks.wrong(
                "until", given, "a mapping like {'stderr': 0.01, 'variable': 'loss', 'first': 8}"
            )
        variable = given.get("variable", variables[0] if variables else "")
        return cls(
            _checks.real("until['stderr']", given["stderr"]),
            _checks.choice("until['variable']", variable, tuple(variables)),
            _checks.integer("until['first']", given.get("first", FIRST), 2),
        )

    def pilots(self, start: int) -> tuple[int, ...]:
        """Return the seeds of the next pilots after so many: as many again."""
        return tuple(_seed(number) for number in range(start, max(2 * start, self.first)))

    def needed(self, values: Sequence[NDArray[np.float64]], most: int) -> tuple[int, bool]:
        """Return how many runs a point needs, and whether its pilots are enough to know it.

        Parameters
        ----------
        values : sequence of ndarray
            Of each pilot that came to its end.
        most : int
            Runs that there can be.
        """
        if len(values) < 2:
            return most, True
        with np.errstate(all="ignore"):
            variance = np.var(values, axis=0, ddof=1).max()
            count = float(variance / np.float64(self.stderr) ** 2) if variance else 0.0
        # The mean of 1 / s^2 of n normal numbers is (n - 1) / (n - 3) of that of theirs.
        count *= (len(values) - 1) / max(len(values) - 3, 1)
        if not count < most:
            return most, True
        runs = max(math.ceil(count), min(self.first, most))
        return runs, len(values) >= SHARE * runs


def _seed(number: int) -> int:
    """Return the seed of a pilot."""
    code = hashlib.blake2b(f"pilot {number}".encode(), digest_size=8).digest()
    return int.from_bytes(code, "little")
