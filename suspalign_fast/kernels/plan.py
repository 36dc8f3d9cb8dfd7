"""How a problem is cut for the kernels: parts, the unit of parallel work, and blocks.

A block is up to 1,024 coordinates of one band that stay in L1 cache while many steps are applied
to them. Blocks start at multiples of 1,024; where a band starts or ends inside one, the block is
an *edge*: it is worked on in a buffer of whole groups whose other coordinates have eigenvalue,
noise and coefficient zero, which stay zero and add nothing to any sum.

The cut depends on the dimension and the number of dominant directions alone and sums are added in
its order, so neither the number of threads nor the chunking of steps can change a bit.

The seven sums of a row cost seven multiply-adds a coordinate when added up directly. In a block
whose eigenvalues lie close together they are combinations of few moments ``m_j = sum c^2 x^j`` with
``x = (lambda - center) / half_width`` in [-1, 1]: one moment where all eigenvalues are equal, four
where they are narrow,

    S_p = sum_j binom(p, j) center^(p-j) half_width^j m_j,

with x^4 and higher powers replaced by their Chebyshev series up to degree 3, which errs by 1/8 in
x^4. S_1, S_2 and S_3, and with them loss and alignment, lose nothing; with r = half_width / center,
S_4 errs by r^4 / 8 < 1e-12 and R_4 ... R_6, which only tell how sure a step is, are sums of at most
power 8 and err by at most 70 r^4 / 8 + ... < 6e-11. Only a wide block needs the direct sums.
"""

import functools
from collections.abc import Callable
from functools import partial
from math import comb
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from .._checks import read_only
from ..noise import Scaling
from ..problem import Quadratic
from ..row import ROW_SIZE, SUM_POWERS
from ..shard import Shard
from .batch import BATCH
from .normals import GROUP

BLOCK = BATCH * GROUP
MAX_PARTS = 256
#: Weights of four moments in a row, then x = SCALE * lambda + OFFSET.
NUM_MOMENTS = 4
SCALE = NUM_MOMENTS * ROW_SIZE
OFFSET = SCALE + 1
WEIGHTS = SCALE + 2

#: Largest half_width / center of a narrow block.
NARROW_RATIO = 1.6e-3

# Columns of a plan's blocks and parts.
START, STOP, EDGE, KIND, LAM, STD = range(6)
BAND, FIRST, LAST = range(3)

# How the sums of a block are taken.
DIRECT, EQUAL, NARROW = range(3)


class Plan(NamedTuple):
    """A problem cut into blocks and parts, as the kernels take it.

    Attributes
    ----------
    blocks : ndarray of int64, shape (blocks, 6)
        Coordinates START ... STOP - 1, which EDGE it is (from 1, or 0), its KIND of sums, where its
        eigenvalues and noise standard deviations start: in `lam` and `std` where not negative,
        else at ``-1 - value`` in `shared`.
    edges : ndarray of int64, shape (edges,)
        Blocks that are edges.
    parts : ndarray of int64, shape (parts, 3)
        BAND and blocks FIRST ... LAST - 1.
    lam, std : ndarray of float64
        Values of all coordinates, or empty.
    shared : ndarray of float64
        Values of edges, and of blocks that have the same ones.
    moment_weights : ndarray of float64, shape (blocks, WEIGHTS)
        How moments make up sums.
    threads : int
        How many may work on it at once.
    first_group : int
        Group of coordinate 0 among those of the whole problem, of which this may be a shard.
    """

    blocks: NDArray[np.int64]
    edges: NDArray[np.int64]
    parts: NDArray[np.int64]
    lam: NDArray[np.float64]
    std: NDArray[np.float64]
    shared: NDArray[np.float64]
    moment_weights: NDArray[np.float64]
    threads: int
    first_group: int


def part_length(dim: int) -> int:
    """Coordinates at whose multiples the parts of a problem of a dimension end."""
    return BLOCK * -(-dim // (MAX_PARTS * BLOCK))


def make_plan(problem: Quadratic, shard: Shard | None = None) -> Plan:
    """Cut a problem into blocks and parts, for one thread.

    Parameters
    ----------
    problem : Quadratic
    shard : Shard, optional
        Which directions of a whole problem these are; it starts where a part does.
    """
    spectrum = problem.spectrum
    blocks = _cut(spectrum.dim, spectrum.num_dominant)
    levels = None if spectrum.is_simple else np.cumsum(spectrum.multiplicities)
    stds = problem.stds
    law = problem.noise_law  # without one nothing is known of the noise, not even an order
    isotropic = law is not None and law.power == 0
    empty = np.empty(0)
    lam_all = spectrum.eigenvalues if levels is None else empty
    std_all = stds if levels is None and not isotropic else empty
    pool = _Pool()
    blocks[:, LAM] = pool.place(
        blocks, spectrum.eigenvalues, levels, in_place=lam_all.size > 0, sorted_values=True
    )
    blocks[:, STD] = pool.place(
        blocks, stds, levels, in_place=std_all.size > 0, sorted_values=law is not None
    )
    largest = _values_at(blocks[:, START], spectrum.eigenvalues, levels)
    smallest = _values_at(blocks[:, STOP] - 1, spectrum.eigenvalues, levels)
    center, half_width = (largest + smallest) / 2.0, (largest - smallest) / 2.0
    blocks[:, KIND] = np.where(half_width <= NARROW_RATIO * center, NARROW, DIRECT)
    blocks[half_width == 0.0, KIND] = EQUAL
    if law is None:
        blocks[:, KIND] = DIRECT
    return Plan(
        blocks,
        np.flatnonzero(blocks[:, EDGE]),
        _parts(blocks, part_length(shard.dim if shard else spectrum.dim), spectrum.num_dominant),
        read_only(lam_all),
        read_only(std_all),
        read_only(pool.values()),
        _moment_weights(center, half_width, law),
        1,
        shard.first // GROUP if shard else 0,
    )


def _cut(dim: int, num_dominant: int) -> NDArray[np.int64]:
    """Return blocks with START, STOP and EDGE set."""
    cuts = np.arange(0, dim, BLOCK)
    cuts = np.unique(np.concatenate([cuts, [num_dominant, dim]]))
    blocks = np.zeros((cuts.size - 1, 6), dtype=np.int64)
    blocks[:, START], blocks[:, STOP] = cuts[:-1], cuts[1:]
    is_edge = np.diff(cuts) < BLOCK
    blocks[:, EDGE] = np.where(is_edge, np.cumsum(is_edge), 0)
    return blocks


def _parts(blocks: NDArray[np.int64], length: int, num_dominant: int) -> NDArray[np.int64]:
    """Group blocks of one band into parts that end at multiples of a fixed length."""
    band = blocks[:, START] >= num_dominant
    stretch = 2 * (blocks[:, START] // length) + band
    first = np.flatnonzero(np.diff(stretch, prepend=-1))
    last = np.append(first[1:], len(blocks))
    return np.stack([band[first].astype(np.int64), first, last], axis=1)


def _values_at(
    coordinates: NDArray[np.int64], values: NDArray[np.float64], levels: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """Values of the levels that coordinates belong to; `levels` are the levels' ends."""
    at = coordinates if levels is None else np.searchsorted(levels, coordinates, side="right")
    return values[at]


class _Pool:
    """Buffers of BLOCK values, each kept once, made when all are known."""

    def __init__(self) -> None:
        self._buffers: list[Callable[[NDArray[np.float64]], None]] = []
        self._seen: dict[Any, int] = {}

    def place(
        self,
        blocks: NDArray[np.int64],
        values: NDArray[np.float64],
        levels: NDArray[np.int64] | None,
        *,
        in_place: bool,
        sorted_values: bool,
    ) -> NDArray[np.int64]:
        """Return where each block finds its values: in place, or ``-1 - offset`` in the pool."""
        where = blocks[:, START].copy()
        first = _values_at(blocks[:, START], values, levels)
        constant = first == _values_at(blocks[:, STOP] - 1, values, levels)
        constant &= sorted_values & (blocks[:, EDGE] == 0)
        if not in_place:
            for value in np.unique(first[constant]):
                if value not in self._seen:
                    self._seen[value] = self._add(partial(_fill, value))
                where[constant & (first == value)] = -1 - self._seen[value]
        own = (blocks[:, EDGE] != 0) if in_place else ~constant
        for b in np.flatnonzero(own):
            start, stop = map(int, blocks[b, :2])
            where[b] = -1 - self._add(partial(_fill_block, start, stop, values, levels))
        return where

    def _add(self, fill: Callable[[NDArray[np.float64]], None]) -> int:
        self._buffers.append(fill)
        return BLOCK * (len(self._buffers) - 1)

    def values(self) -> NDArray[np.float64]:
        """All buffers, one after the other."""
        out = np.zeros((len(self._buffers), BLOCK))
        for fill, buffer in zip(self._buffers, out, strict=True):
            fill(buffer)
        return out.reshape(-1)


def _fill(value: float, buffer: NDArray[np.float64]) -> None:
    buffer[:] = value


def _fill_block(
    start: int,
    stop: int,
    values: NDArray[np.float64],
    levels: NDArray[np.int64] | None,
    buffer: NDArray[np.float64],
) -> None:
    lane = start % GROUP
    buffer[lane : lane + stop - start] = _values_at(np.arange(start, stop), values, levels)


def _moment_weights(
    center: NDArray[np.float64], half_width: NDArray[np.float64], law: Scaling | None
) -> NDArray[np.float64]:
    """Weights of moments m_0 ... m_3 in the sums of every block; without a law none uses them."""
    weights = np.zeros((center.size, WEIGHTS))
    moments = weights[:, :SCALE].reshape(-1, NUM_MOMENTS, ROW_SIZE)
    sigma, noise_power = (0.0, 0) if law is None else law
    for column, (power, takes_noise) in enumerate(SUM_POWERS):
        power += noise_power if takes_noise else 0
        for j in range(power + 1):
            with np.errstate(over="ignore", invalid="ignore"):
                term = comb(power, j) * center ** (power - j) * half_width**j
                term = term * (sigma * sigma) if takes_noise else term
            for target, share in _degree_three(j):
                moments[:, target, column] += share * term
    with np.errstate(divide="ignore", invalid="ignore"):
        weights[:, SCALE] = np.where(half_width > 0.0, 1.0 / half_width, 0.0)
        weights[:, OFFSET] = -center * weights[:, SCALE]
    return weights


@functools.cache
def _degree_three(j: int) -> list[tuple[int, float]]:
    """x^j as the terms up to x^3 of its Chebyshev series: powers and factors that are not zero."""
    series = chebyshev.poly2cheb([0.0] * j + [1.0])[:NUM_MOMENTS]
    return [(i, float(c)) for i, c in enumerate(chebyshev.cheb2poly(series)) if c != 0.0][::-1]
