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

from ..physics.layout import NOISY_AT, NUM_BANDS, NUM_SUMS, ROW_SIZE, WEIGHT_AT
from .batches import factors, residual_variance, set_batch_move, squared_norm, write_constants
from .chi_square import (
    FEW,
    HALF,
    LANES,
    NUM_PROPOSALS,
    draw,
    draw_step,
    draw_until,
    draw_work,
    is_boosted,
    proposals_for,
)
from .jit import inlined, internal, kernel
from .rules import finish_step, is_finite
from .simd import broadcast, fma, horizontal_sum, load, square_root, store, zero_where_zero, zeros
from .sums import DRIFT, NUM_PARTS, SPREAD, no_sums, set_move


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
) -> Levels:
    """Lay levels out in lanes; `sum_weights` has shape (NUM_SUMS, levels)."""
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


# --- moves and sums ----------------------------------------------------------------------------


@inlined
def add_level_sums(sums, q, weights, lane):
    """Add a vector of ``Q`` to all sums, one for each of ``layout.SUMS``."""
    first = NUM_SUMS * lane
    return (
        fma(q, load(weights, first, HALF), sums[0]),
        fma(q, load(weights, first + HALF, HALF), sums[1]),
        fma(q, load(weights, first + 2 * HALF, HALF), sums[2]),
        fma(q, load(weights, first + 3 * HALF, HALF), sums[3]),
        fma(q, load(weights, first + 4 * HALF, HALF), sums[4]),
        fma(q, load(weights, first + 5 * HALF, HALF), sums[5]),
        fma(q, load(weights, first + 6 * HALF, HALF), sums[6]),
    )


@inlined
def write_level_sums(sums, out):
    """Set a band's row to all sums."""
    out[0] = horizontal_sum(sums[0])
    out[1] = horizontal_sum(sums[1])
    out[2] = horizontal_sum(sums[2])
    out[3] = horizontal_sum(sums[3])
    out[4] = horizontal_sum(sums[4])
    out[5] = horizontal_sum(sums[5])
    out[6] = horizontal_sum(sums[6])
    for column in range(NUM_SUMS, ROW_SIZE):
        out[column] = 0.0


@inlined
def _moved(q, a, b, xi, chi):
    root = fma(zero_where_zero(a, q), square_root(q), b * xi)  # where q is 0, a may be infinite
    return fma(root, root, b * b * chi)


@inlined
def sum_band(q, first, last, weights, out):
    """Set a band's row to the sums of its lanes."""
    sums = no_sums(zeros(0.0, HALF))
    for lane in range(first, last, HALF):
        sums = add_level_sums(sums, load(q, lane, HALF), weights, lane)
    write_level_sums(sums, out)


@inlined
def _jump_band(q, first, last, a, b, xi, chi, drawn, weights, out):
    sums = no_sums(zeros(0.0, HALF))
    for lane in range(first, last, HALF):
        q_new = _moved(
            load(q, lane, HALF), load(a, lane, HALF), load(b, lane, HALF),
            load(xi, drawn + lane, HALF), load(chi, drawn + lane, HALF),
        )  # fmt: skip
        store(q, lane, q_new)
        sums = add_level_sums(sums, q_new, weights, lane)
    write_level_sums(sums, out)


@inlined
def _step_band(q, first, last, drift, spread, lam, std, xi, chi, drawn, weights, out):
    sums = no_sums(zeros(0.0, HALF))
    zero = zeros(0.0, HALF)
    one = broadcast(1.0, zero)
    drifts = broadcast(drift, zero)
    spreads = broadcast(spread, zero)
    for lane in range(first, last, HALF):
        q_new = _moved(
            load(q, lane, HALF), fma(drifts, load(lam, lane, HALF), one),
            spreads * load(std, lane, HALF),
            load(xi, drawn + lane, HALF), load(chi, drawn + lane, HALF),
        )  # fmt: skip
        store(q, lane, q_new)
        sums = add_level_sums(sums, q_new, weights, lane)
    write_level_sums(sums, out)


@inlined
def _observe_band(q, first, last, lam, std, xi, chi, drawn, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient."""
    zero = zeros(0.0, HALF)
    s0, s1, s2 = zero, zero, zero
    for lane in range(first, last, HALF):
        lam_i = load(lam, lane, HALF)
        h_sq = _moved(
            load(q, lane, HALF), lam_i, load(std, lane, HALF),
            load(xi, drawn + lane, HALF), load(chi, drawn + lane, HALF),
        )  # fmt: skip
        s0, s1, s2 = s0 + h_sq, fma(lam_i, h_sq, s1), fma(lam_i * lam_i, h_sq, s2)
    out[0] = horizontal_sum(s0)
    out[1] = horizontal_sum(s1)
    out[2] = horizontal_sum(s2)


# --- kernels -----------------------------------------------------------------------------------


@kernel()
def draw_levels(levels, step, key_0, key_1, out_xi, out_chi):
    """Write the normals and chi-squares of all levels at a step."""
    # Taken out once: every look into a tuple counts references.
    _, _, lane, freedom, proposals, boosted, _, _, _, begin = levels
    prepared, keys, words, xi, chi, _ = draw_work(freedom.size, 1, key_0, key_1)
    draw_step(
        begin, proposals, freedom, boosted, np.uint64(step), key_0, key_1, prepared, keys, words,
        xi, chi,
    )  # fmt: skip
    from_lanes(out_xi, xi, lane)
    from_lanes(out_chi, chi, lane)


@kernel()
def sum_levels(q, levels, out):
    """Write the sums of both bands to ``out``."""
    lanes = np.zeros(levels.lam.size)
    to_lanes(lanes, q, levels.lane)
    sum_band(lanes, 0, levels.bulk_at, levels.sum_weights, out[0])
    sum_band(lanes, levels.bulk_at, lanes.size, levels.sum_weights, out[1])


@kernel()
def observe_levels(q, levels, step, key_0, key_1, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient of a step to ``out``."""
    lam, std, lane, freedom, proposals, boosted, _, bulk_at, _, begin = levels
    lanes = np.zeros(lam.size)
    to_lanes(lanes, q, lane)
    prepared, keys, words, xi, chi, _ = draw_work(lam.size, 1, key_0, key_1)
    draw_step(
        begin, proposals, freedom, boosted, np.uint64(step), key_0, key_1, prepared, keys, words,
        xi, chi,
    )  # fmt: skip
    _observe_band(lanes, 0, bulk_at, lam, std, xi, chi, 0, out[0])
    _observe_band(lanes, bulk_at, lam.size, lam, std, xi, chi, 0, out[1])


@internal()
def _jump(
    q, lane, freedom, proposals, boosted, weights, bulk_at, depth, begin, a_rows, b_rows, steps,
    key_0, key_1, out,
):  # fmt: skip
    size = freedom.size
    lanes, a, b = np.zeros(size), np.zeros(size), np.zeros(size)
    to_lanes(lanes, q, lane)
    prepared, keys, words, xi, chi, ahead = draw_work(size, depth, key_0, key_1)
    for t in range(steps.size):
        drawn = t % depth * size
        if drawn == 0:
            for i in range(depth):
                ahead[i] = steps[min(t + i, steps.size - 1)]
            draw(
                begin, lane, proposals, freedom, boosted, ahead, key_0, key_1, prepared, keys,
                words, xi, chi,
            )  # fmt: skip
        if t < a_rows.shape[0]:
            to_lanes(a, a_rows[t], lane)
            to_lanes(b, b_rows[t], lane)
        _jump_band(lanes, 0, bulk_at, a, b, xi, chi, drawn, weights, out[t, 0])
        _jump_band(lanes, bulk_at, size, a, b, xi, chi, drawn, weights, out[t, 1])
    from_lanes(q, lanes, lane)


@kernel()
def jump_levels(q, levels, a_rows, b_rows, steps, key_0, key_1, out):
    """Move levels to each of ``steps`` in turn; ``a`` and ``b`` have a row for each or for all."""
    _, _, lane, freedom, proposals, boosted, weights, bulk_at, depth, begin = levels
    _jump(
        q, lane, freedom, proposals, boosted, weights, bulk_at, depth, begin, a_rows, b_rows,
        steps, key_0, key_1, out,
    )  # fmt: skip


@kernel()
def jump_ensemble(q, levels, a_rows, b_rows, steps, keys, out):
    """Move the levels of many runs, whose seeds alone differ, as `jump_levels` does."""
    _, _, lane, freedom, proposals, boosted, weights, bulk_at, depth, begin = levels
    for run in range(q.shape[0]):
        _jump(
            q[run], lane, freedom, proposals, boosted, weights, bulk_at, depth, begin, a_rows,
            b_rows, steps, keys[run, 0], keys[run, 1], out[run],
        )  # fmt: skip


@kernel()
def advance_levels(q, levels, first_step, num_steps, ruling, record, key_0, key_1):
    """Apply SGD steps whose sizes a rule chooses from the row; as ``advance_adaptive``."""
    lam, std, lane, freedom, proposals, boosted, weights, bulk_at, depth, begin = levels
    rule, observes, memory, sums, step_size, update = ruling
    wanted, out, out_steps, out_sizes = record
    size = lam.size
    lanes = np.zeros(size)
    to_lanes(lanes, q, lane)
    prepared, keys, words, xi, chi, ahead = draw_work(size, depth, key_0, key_1)
    moves = np.empty((1, NUM_BANDS, NUM_PARTS))
    row = np.empty((NUM_BANDS, ROW_SIZE))
    noisy = sums[:, NOISY_AT:WEIGHT_AT]
    drawn_to = 0
    done = 0
    rows = 0
    good = True
    while good and done < num_steps:
        drawn_to = draw_until(
            first_step + 1 + done, drawn_to, begin, lane, proposals, freedom, boosted, ahead,
            key_0, key_1, prepared, keys, words, xi, chi,
        )  # fmt: skip
        drawn = done % depth * size
        set_move(moves, 0, step_size[0], update)
        _step_band(
            lanes, 0, bulk_at, moves[0, 0, DRIFT], moves[0, 0, SPREAD], lam, std, xi, chi, drawn,
            weights, row[0],
        )  # fmt: skip
        _step_band(
            lanes, bulk_at, size, moves[0, 1, DRIFT], moves[0, 1, SPREAD], lam, std, xi, chi, drawn,
            weights, row[1],
        )  # fmt: skip
        done += 1
        if observes and is_finite(row):
            drawn_to = draw_until(
                first_step + 1 + done, drawn_to, begin, lane, proposals, freedom, boosted, ahead,
                key_0, key_1, prepared, keys, words, xi, chi,
            )  # fmt: skip
            drawn = done % depth * size
            _observe_band(lanes, 0, bulk_at, lam, std, xi, chi, drawn, noisy[0])
            _observe_band(lanes, bulk_at, size, lam, std, xi, chi, drawn, noisy[1])
        good, rows = finish_step(
            first_step + done, row, rule, memory, sums, step_size, wanted, rows, out, out_steps,
            out_sizes,
        )  # fmt: skip
    from_lanes(q, lanes, lane)
    return done, rows


# --- The engine `levels` on mini-batches of data: the numbers of additive noise, and two sums
# more.
#
# A level's normal is the noise along its direction, so that ``w = sum sqrt(lambda_l Q_l) xi_l``
# (``batches``); its chi-square is the rest of the noise as ever.


@inlined
def _roots(q, out):
    """Write the norms of all lanes."""
    for lane in range(0, q.size, HALF):
        store(out, lane, square_root(load(q, lane, HALF)))


@inlined
def _product(root, std, xi, drawn):
    """``sum s sqrt(Q) xi`` of all lanes."""
    s0 = zeros(0.0, HALF)
    s1 = zeros(0.0, HALF)
    for lane in range(0, root.size, 2 * HALF):
        a = load(std, lane, HALF) * load(root, lane, HALF)
        b = load(std, lane + HALF, HALF) * load(root, lane + HALF, HALF)
        s0 = fma(a, load(xi, drawn + lane, HALF), s0)
        s1 = fma(b, load(xi, drawn + lane + HALF, HALF), s1)
    return horizontal_sum(s0 + s1)


@inlined
def _step_batch_band(q, norm, first, last, drift, spread, lam, std, xi, chi, drawn, weights, out):
    """As in ``levels``, from norms that are there and to those of the next step."""
    zero = zeros(0.0, HALF)
    sums = no_sums(zero)
    one = broadcast(1.0, zero)
    drifts = broadcast(drift, zero)
    spreads = broadcast(spread, zero)
    for lane in range(first, last, HALF):
        a = fma(drifts, load(lam, lane, HALF), one)
        b = spreads * load(std, lane, HALF)
        root = fma(a, load(norm, lane, HALF), b * load(xi, drawn + lane, HALF))
        q_new = fma(root, root, b * b * load(chi, drawn + lane, HALF))
        store(q, lane, q_new)
        store(norm, lane, square_root(q_new))
        sums = add_level_sums(sums, q_new, weights, lane)
    write_level_sums(sums, out)


@inlined
def _observe_batch_band(norm, first, last, kd, rho, lam, std, xi, chi, drawn, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the gradient that a batch has."""
    s0 = zeros(0.0, HALF)
    s1 = s0
    s2 = s0
    drift = broadcast(kd, s0)
    spread = broadcast(rho, s0)
    for lane in range(first, last, HALF):
        lam_i = load(lam, lane, HALF)
        b = spread * load(std, lane, HALF)
        root = fma(drift * lam_i, load(norm, lane, HALF), b * load(xi, drawn + lane, HALF))
        h_sq = fma(root, root, b * b * load(chi, drawn + lane, HALF))
        s0, s1, s2 = s0 + h_sq, fma(lam_i, h_sq, s1), fma(lam_i * lam_i, h_sq, s2)
    out[0] = horizontal_sum(s0)
    out[1] = horizontal_sum(s1)
    out[2] = horizontal_sum(s2)


@kernel()
def observe_level_batch(q, levels, batches, step, key_0, key_1, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the gradient of a step to ``out``.

    `step` is the one before that whose numbers it takes.
    """
    lam, std, lane, freedom, proposals, boosted, weights, bulk_at, _, begin = levels
    size, label_std, twice_d, slope, _ = batches
    lanes, norm = np.zeros(lam.size), np.zeros(lam.size)
    to_lanes(lanes, q, lane)
    _roots(lanes, norm)
    prepared, keys, words, xi, chi, _ = draw_work(lam.size, 1, key_0, key_1)
    draw_step(
        begin, proposals, freedom, boosted, np.uint64(step + 1), key_0, key_1, prepared, keys,
        words, xi, chi,
    )  # fmt: skip
    u = squared_norm(step, key_0, key_1, twice_d, slope)
    row = np.empty((NUM_BANDS, ROW_SIZE))
    sum_band(lanes, 0, bulk_at, weights, row[0])
    sum_band(lanes, bulk_at, lam.size, weights, row[1])
    w = _product(norm, std, xi, 0)
    kd, rho = factors(residual_variance(row, label_std), w, u, size, label_std)
    _observe_batch_band(norm, 0, bulk_at, kd, rho, lam, std, xi, chi, 0, out[0])
    _observe_batch_band(norm, bulk_at, lam.size, kd, rho, lam, std, xi, chi, 0, out[1])


@kernel()
def advance_level_batches(q, levels, batches, first_step, num_steps, ruling, record, key_0, key_1):
    """Apply SGD steps on mini-batches of data to levels; as ``batch_steps.advance_batches``."""
    lam, std, lane, freedom, proposals, boosted, weights, bulk_at, depth, begin = levels
    size, label_std, twice_d, slope, traces = batches
    rule, observes, memory, sums, step_size, update = ruling
    wanted, out, out_steps, out_sizes = record
    lanes, norm = np.zeros(lam.size), np.zeros(lam.size)
    to_lanes(lanes, q, lane)
    _roots(lanes, norm)
    prepared, keys, words, xi, chi, ahead = draw_work(lam.size, depth, key_0, key_1)
    moves = np.empty((1, NUM_BANDS, NUM_PARTS))
    row = np.empty((NUM_BANDS, ROW_SIZE))
    noisy = sums[:, NOISY_AT:WEIGHT_AT]
    drawn_to = draw_until(
        first_step + 1, 0, begin, lane, proposals, freedom, boosted, ahead, key_0, key_1, prepared,
        keys, words, xi, chi,
    )  # fmt: skip
    drawn = 0
    u = squared_norm(first_step, key_0, key_1, twice_d, slope)
    sum_band(lanes, 0, bulk_at, weights, row[0])
    sum_band(lanes, bulk_at, lam.size, weights, row[1])
    p = residual_variance(row, label_std)
    kd, rho = factors(p, _product(norm, std, xi, drawn), u, size, label_std)
    done = 0
    rows = 0
    good = True
    while good and done < num_steps:
        set_batch_move(moves, step_size[0], update, kd, rho)
        _step_batch_band(
            lanes, norm, 0, bulk_at, moves[0, 0, DRIFT], moves[0, 0, SPREAD], lam, std, xi, chi,
            drawn, weights, row[0],
        )  # fmt: skip
        _step_batch_band(
            lanes, norm, bulk_at, lam.size, moves[0, 1, DRIFT], moves[0, 1, SPREAD], lam, std, xi,
            chi, drawn, weights, row[1],
        )  # fmt: skip
        done += 1
        step = first_step + done
        drawn_to = draw_until(
            step + 1, drawn_to, begin, lane, proposals, freedom, boosted, ahead, key_0, key_1,
            prepared, keys, words, xi, chi,
        )  # fmt: skip
        drawn = done % depth * lam.size
        u = squared_norm(step, key_0, key_1, twice_d, slope)
        p = residual_variance(row, label_std)
        kd, rho = factors(p, _product(norm, std, xi, drawn), u, size, label_std)
        write_constants(sums, row, size, label_std, traces)
        if observes and is_finite(row):
            _observe_batch_band(norm, 0, bulk_at, kd, rho, lam, std, xi, chi, drawn, noisy[0])
            _observe_batch_band(
                norm, bulk_at, lam.size, kd, rho, lam, std, xi, chi, drawn, noisy[1]
            )
        good, rows = finish_step(
            step, row, rule, memory, sums, step_size, wanted, rows, out, out_steps, out_sizes
        )
    from_lanes(q, lanes, lane)
    return done, rows
