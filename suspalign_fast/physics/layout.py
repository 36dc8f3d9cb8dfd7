"""Where the sums of a row lie, and which they are.

Kernels, rules, traces and files take names, widths and offsets from here. A row has sums for the
dominant and for the bulk band. `SUMS` lists them by groups, which lie one after the other in
ROW_SIZE numbers a band, padded to whole vectors of a processor.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BANDS = ("dominant", "bulk")

NUM_BANDS = len(BANDS)

#: Numbers of a vector register that rows are padded to.
VECTOR = 8


class Sums(NamedTuple):
    """A group of sums that every row has for each band.

    Attributes
    ----------
    name : str
        Of the column.
    letter : str
        S_1 is the sum of power 1 in the group of letter S.
    powers : tuple of int
        Powers of lambda, one a sum.
    takes_noise : bool
        Whether c^2 is weighted by s^2.
    meaning : str
    """

    name: str
    letter: str
    powers: tuple[int, ...]
    takes_noise: bool
    meaning: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the sums, like S1."""
        return tuple(f"{self.letter}{power}" for power in self.powers)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a row of the column: bands and powers."""
        return NUM_BANDS, len(self.powers)

    @property
    def dimension(self) -> str:
        """Name of the dimension of the powers."""
        return "noise_power" if self.takes_noise else "power"


POWER_SUMS = Sums("power_sums", "S", (1, 2, 3, 4), False, "S_p = sum lambda^p c^2 of each band")

NOISE_SUMS = Sums("noise_sums", "R", (4, 5, 6), True, "R_p = sum lambda^p s^2 c^2 of each band")

SUMS = (POWER_SUMS, NOISE_SUMS)

#: Dimensions of columns beside that of rows, which is a column.
DIMENSIONS = ("band", *(sums.dimension for sums in SUMS))

#: Sums of a band in a row, and the numbers that hold them.
NUM_SUMS = sum(len(sums.powers) for sums in SUMS)

ROW_SIZE = VECTOR * -(-NUM_SUMS // VECTOR)


def _slices() -> dict[str, slice]:
    ends = np.cumsum([len(sums.powers) for sums in SUMS]).tolist()
    return {
        sums.name: slice(end - len(sums.powers), end) for sums, end in zip(SUMS, ends, strict=True)
    }


#: Where the sums of each group lie.
SLICES = _slices()

#: Power of lambda in every sum, and whether it takes s^2.
SUM_POWERS = tuple((power, sums.takes_noise) for sums in SUMS for power in sums.powers)


class CrossSums(NamedTuple):
    """The group of sums that rows have where there is a velocity v beside the coefficients.

    Attributes
    ----------
    name : str
        Of the column.
    labels : tuple of str
        Names of the sums, like C1.
    terms : tuple of tuple
        Power of lambda, whether it takes s^2, and whether it is of c v or of v^2, of each.
    meaning : str
    """

    name: str
    labels: tuple[str, ...]
    terms: tuple[tuple[int, bool, bool], ...]
    meaning: str

    @property
    def dimension(self) -> str:
        """Name of the dimension of the sums."""
        return "cross"

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a row of the column: bands and sums."""
        return NUM_BANDS, len(self.terms)


_CROSS = {
    "C1": (1, False, True), "C2": (2, False, True), "C3": (3, False, True),
    "V1": (1, False, False), "V2": (2, False, False),
    "X4": (4, True, True), "X5": (5, True, True), "W4": (4, True, False),
}  # fmt: skip

CROSS_SUMS = CrossSums(
    "cross_sums",
    tuple(_CROSS),
    tuple(_CROSS.values()),
    "C_p = sum lambda^p c v, V_p of v^2, X_p = sum lambda^p s^2 c v, W_p of v^2, of each band",
)

#: With a velocity kernels sum three parts of ROW_SIZE numbers, laid out alike: of c^2, c v and v^2.
CROSS_ROW_SIZE = 3 * ROW_SIZE

#: Where the sums of `CROSS_SUMS` lie in them.
CROSS_COLUMNS = tuple(
    ROW_SIZE * (1 if is_of_both else 2) + SUM_POWERS.index((power, takes_noise))
    for power, takes_noise, is_of_both in CROSS_SUMS.terms
)

#: Columns of a row of three parts that kernels sum, in their order.
VELOCITY_COLUMNS = (*range(NUM_SUMS), *sorted(CROSS_COLUMNS))


def cross_sums_of(sums: Array) -> Array:
    """Return the sums of `CROSS_SUMS` of rows of three parts, none of rows of one."""
    columns = CROSS_COLUMNS if sums.shape[-1] == CROSS_ROW_SIZE else ()
    return sums[..., list(columns)] if columns else sums[..., :0]


def cross_terms(lam: Array, std: Array, c: Array, v: Array) -> list[Array]:
    """Return what directions add to every sum of `CROSS_SUMS`."""
    products = {True: c * v, False: v * v}
    return [
        (lam**power * std**2 if takes_noise else lam**power) * products[is_of_both]
        for power, takes_noise, is_of_both in CROSS_SUMS.terms
    ]


def sum_weights(lam: Array, std: Array) -> list[Array]:
    """Return what c^2 is multiplied by in every sum, for directions of given lambda and s."""
    return [lam**power * std**2 if takes_noise else lam**power for power, takes_noise in SUM_POWERS]


#: What belongs to a run: N_1, N_2 and K of each band, one of NOISE_CONSTANTS a column.
NOISE_CONSTANTS = ("N1", "N2", "K")

CONSTANTS_SHAPE = (NUM_BANDS, len(NOISE_CONSTANTS))

#: Powers of lambda in the sums of the noisy gradient, ``sum lambda^p h^2``.
NOISY_POWERS = (0, 1, 2)

NUM_NOISY = len(NOISY_POWERS)

#: What a step-size rule reads of each band: the sums of the row, then at these columns the
#: constants, the sums of the noisy gradient, and the weight of the band in the update.
CONSTANTS_AT = ROW_SIZE

NOISY_AT = CONSTANTS_AT + len(NOISE_CONSTANTS)

WEIGHT_AT = NOISY_AT + NUM_NOISY

#: Where there is a velocity, also its sums and the factors of the optimizer: pull and carry.
CROSS_AT = VECTOR * -(-(WEIGHT_AT + 1) // VECTOR)

FACTORS_AT = CROSS_AT + len(CROSS_SUMS.terms)

NUM_FACTORS = 2

RULE_COLUMNS = VECTOR * -(-(FACTORS_AT + NUM_FACTORS) // VECTOR)
