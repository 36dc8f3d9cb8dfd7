"""How many seeds are enough: until a mean is known as well as was asked for.

Whether a point goes on is a function of its first seeds alone, of so many that neither executor nor
batches play a part.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _checks

#: Seeds of the first look at a point, unless it is told.
FIRST = 8


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

    def rounds(self, num_seeds: int) -> Iterator[int]:
        """Yield how many seeds there are before every look, twice as many each time."""
        count = self.first
        while count < num_seeds:
            yield count
            count *= 2
        yield num_seeds

    def is_reached(self, values: NDArray[np.float64]) -> bool:
        """Whether runs of a point, shape (seeds, ...), are enough."""
        if len(values) < 2:
            return False
        with np.errstate(all="ignore"):
            errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        return bool((errors <= self.stderr).all())
