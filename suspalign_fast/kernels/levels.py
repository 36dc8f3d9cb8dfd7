"""Whole levels at once: equal coordinates matter only through ``Q = sum c^2``.

By rotation invariance m coordinates that share eigenvalue, noise and step move as

    Q' = (a sqrt(Q) + b xi)^2 + b^2 X,    X ~ chi-square with m - 1 degrees of freedom,

xi being the noise along the current direction (``chi_square``); m need not be whole.

Kernels work on vectors of lanes. Levels lie in lanes in their order; the bulk begins at a new
vector, and lanes without a level stay zero.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..physics.layout import (
    CROSS_COLUMNS,
    CROSS_ROW_SIZE,
    NUM_SUMS,
    ROW_SIZE,
    VELOCITY_COLUMNS,
)
from .chi_square import (
    FEW,
    HALF,
    LANES,
    NUM_PROPOSALS,
    draw_ahead,
    draw_until,
    is_boosted,
    make_draws,
    proposals_for,
)
from .jit import inlined, internal, kernel
from .simd import (
    choose,
    fma,
    fma_each,
    load,
    repeat,
    square_root,
    store,
    write_lanes,
    zero_where_zero,
    zeros,
)
from .sums import no_sums


class Levels(NamedTuple):
    """A problem's levels, as the kernels take them.

    Attributes
    ----------
    lam, std : ndarray of float64, shape (lanes,)
        Eigenvalues and standard deviations of the noise.
    lane : ndarray of int64, shape (levels,)
        Where each level lies.
    freedom : ndarray of float64, shape (lanes,)
        Directions of a level less one.
    proposals : ndarray of float64, shape (4 lanes,)
        The four numbers of `proposals_for`, LANES levels at a time.
    boosted : ndarray of int64
        Lanes whose chi-squares are made from ones of two more degrees of freedom.
    sum_weights : ndarray of float64, shape (NUM_SUMS lanes,)
        What ``Q`` is multiplied by in every sum, HALF levels at a time.
    merged : ndarray of int64
        Lanes of at most two directions: with a velocity, all their noise across it is one number.
    bulk_at : int
        Lane where the bulk begins.
    depth : int
        Steps that are drawn at once.
    begin : int
        Number of the first lane, a multiple of LANES: what counters begin with.
    """

    lam: NDArray[np.float64]
    std: NDArray[np.float64]
    lane: NDArray[np.int64]
    freedom: NDArray[np.float64]
    proposals: NDArray[np.float64]
    boosted: NDArray[np.int64]
    sum_weights: NDArray[np.float64]
    merged: NDArray[np.int64]
    bulk_at: int
    depth: int
    begin: int


def make_levels(
    lam: NDArray[np.float64],
    std: NDArray[np.float64],
    freedom: NDArray[np.float64],
    sum_weights: NDArray[np.float64],
    num_dominant: int,
    begin: int = 0,
    merged: NDArray[np.bool_] | None = None,
) -> Levels:
    """Lay levels out in lanes; `sum_weights` has shape (NUM_SUMS, levels).

    `merged` says which levels have at most two directions, and matters with a velocity alone.
    """
    bulk_at = -(-num_dominant // HALF) * HALF
    lanes = -(-(bulk_at + lam.size - num_dominant) // LANES) * LANES
    numbers = np.arange(lam.size)
    lane = np.where(numbers < num_dominant, numbers, numbers - num_dominant + bulk_at)

    def laid_out(values, dtype=np.float64):
        out = np.zeros(lanes, dtype)
        out[lane] = values
        return out

    freedom = laid_out(freedom)
    proposals = np.array(proposals_for(freedom)).reshape(NUM_PROPOSALS, -1, LANES)
    weights = np.array([laid_out(row) for row in sum_weights]).reshape(NUM_SUMS, -1, HALF)
    return Levels(
        laid_out(lam),
        laid_out(std),
        lane,
        freedom,
        proposals.swapaxes(0, 1).ravel(),
        np.flatnonzero(is_boosted(freedom)),
        weights.swapaxes(0, 1).ravel(),
        lane[:0] if merged is None else lane[merged],
        bulk_at,
        LANES if lam.size <= FEW else 1,
        begin,
    )


@inlined
def to_lanes(lanes, values, lane):
    """Lay the values of levels out in lanes."""
    for level in range(values.size):
        lanes[lane[level]] = values[level]


@inlined
def from_lanes(values, lanes, lane):
    """Take the values of levels from their lanes."""
    for level in range(values.size):
        values[level] = lanes[lane[level]]


# --- Sums ----------------------------------------------------------------------------------------

_write_plain = write_lanes(range(NUM_SUMS))
_write_velocity = write_lanes(VELOCITY_COLUMNS)
#: Sums of c v and of v^2 among those of c^2, which a row lays out alike.
_CROSS, _SQUARE = (
    [column % ROW_SIZE for column in sorted(CROSS_COLUMNS) if column // ROW_SIZE == part]
    for part in (1, 2)
)
_of_cross, _of_square = choose(_CROSS), choose(_SQUARE)
_no_cross, _no_square = repeat(len(_CROSS)), repeat(len(_SQUARE))


@inlined
def _weights_of(weights, lane):
    """What ``Q`` is multiplied by in every sum, one for each of ``layout.SUMS``."""
    first = NUM_SUMS * lane
    return (
        load(weights, first, HALF),
        load(weights, first + HALF, HALF),
        load(weights, first + 2 * HALF, HALF),
        load(weights, first + 3 * HALF, HALF),
        load(weights, first + 4 * HALF, HALF),
        load(weights, first + 5 * HALF, HALF),
        load(weights, first + 6 * HALF, HALF),
    )


def make_sums(has_velocity):
    """Build no sums, sums with one more vector of ``c.c``, ``c.v`` and ``v.v``, and their row."""

    @inlined
    def plain_none(zero):
        return no_sums(zero)

    @inlined
    def plain_add(sums, q, r, w, weights, lane):
        return fma_each(q, _weights_of(weights, lane), sums)

    @inlined
    def plain_write(sums, out):
        for column in range(NUM_SUMS, ROW_SIZE):
            out[column] = 0.0
        _write_plain(out, sums)

    @inlined
    def velocity_none(zero):
        return no_sums(zero), _no_cross(zero), _no_square(zero)

    @inlined
    def velocity_add(sums, q, r, w, weights, lane):
        of_q = _weights_of(weights, lane)
        return (
            fma_each(q, of_q, sums[0]),
            fma_each(r, _of_cross(of_q), sums[1]),
            fma_each(w, _of_square(of_q), sums[2]),
        )

    @inlined
    def velocity_write(sums, out):
        for column in range(CROSS_ROW_SIZE):
            out[column] = 0.0
        _write_velocity(out, sums[0] + sums[1] + sums[2])

    if has_velocity:
        return velocity_none, velocity_add, velocity_write
    return plain_none, plain_add, plain_write


# --- Moves of many steps -------------------------------------------------------------------------

_empty, _add, _write = make_sums(False)


@inlined
def level_moved(root, a, b, xi, chi):
    """Norm along the direction and square of a level whose norm was `root`."""
    moved = fma(a, root, b * xi)
    return fma(moved, moved, b * b * chi)


@inlined
def _jump_band(q, first, last, move, noise, drawn, weights, out):
    a, b = move
    xi, chi = noise
    sums = _empty(zeros(0.0, HALF))
    for lane in range(first, last, HALF):
        root = square_root(load(q, lane, HALF))
        a_i = zero_where_zero(load(a, lane, HALF), root)  # it may be infinite
        q_new = level_moved(
            root, a_i, load(b, lane, HALF),
            load(xi, drawn + lane, HALF), load(chi, drawn + lane, HALF),
        )  # fmt: skip
        store(q, lane, q_new)
        sums = _add(sums, q_new, q_new, q_new, weights, lane)
    _write(sums, out)


@internal()
def _jump(q, levels, coefficients, steps, key_0, key_1, out):
    _, _, lane, _, _, _, weights, _, bulk_at, depth, _ = levels
    size = levels.lam.size
    lanes, a, b = np.zeros(size), np.zeros(size), np.zeros(size)
    to_lanes(lanes, q, lane)
    draws = make_draws(size, depth, key_0, key_1)
    move, noise, ahead = (a, b), (draws.xi, draws.chi), draws.ahead
    for t in range(steps.size):
        drawn = t % depth * size
        if drawn == 0:
            for i in range(depth):
                ahead[i] = steps[min(t + i, steps.size - 1)]
            draw_ahead(levels, draws, key_0, key_1)
        if t < coefficients.shape[1]:
            to_lanes(a, coefficients[0, t], lane)
            to_lanes(b, coefficients[1, t], lane)
        _jump_band(lanes, 0, bulk_at, move, noise, drawn, weights, out[t, 0])
        _jump_band(lanes, bulk_at, size, move, noise, drawn, weights, out[t, 1])
    from_lanes(q, lanes, lane)


@kernel()
def jump_levels(q, levels, coefficients, steps, key_0, key_1, out):
    """Move levels to each of ``steps`` in turn.

    ``coefficients`` has shape (2, rows, levels), with one row for every move or a single one.
    """
    _jump(q, levels, coefficients, steps, key_0, key_1, out)


@kernel()
def jump_ensemble(q, levels, coefficients, steps, keys, out):
    """Move the levels of many runs, whose seeds alone differ, as `jump_levels` does."""
    for run in range(q.shape[0]):
        _jump(q[run], levels, coefficients, steps, keys[run, 0], keys[run, 1], out[run])


@kernel()
def draw_levels(levels, step, key_0, key_1, out_xi, out_chi):
    """Write the normals and chi-squares of all levels at a step."""
    draws = make_draws(levels.lam.size, 1, key_0, key_1)
    draw_until(step, -1, levels, draws, key_0, key_1)
    from_lanes(out_xi, draws.xi, levels.lane)
    from_lanes(out_chi, draws.chi, levels.lane)
