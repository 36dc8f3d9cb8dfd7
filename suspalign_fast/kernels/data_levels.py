"""The engine `levels` on mini-batches of data: the numbers of additive noise, and two sums more.

A level's normal is the noise along its direction, so that ``w = sum sqrt(lambda_l Q_l) xi_l``
(``data_noise``); its chi-square is the rest of the noise as ever.
"""

import numpy as np

from ..row import NOISY_AT, NUM_BANDS, ROW_SIZE, WEIGHT_AT
from .chi_square import HALF
from .coordinates import no_sums
from .data_noise import factors, residual_variance, set_batch_move, squared_norm, write_constants
from .jit import inlined, kernel
from .level_draws import draw_step, draw_until, draw_work
from .levels import add_level_sums, from_lanes, sum_band, to_lanes, write_level_sums
from .move import DRIFT, NUM_PARTS, SPREAD
from .rules import finish_step, is_finite
from .simd import broadcast, fma, horizontal_sum, load, square_root, store, zeros


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
def _step_band(q, norm, first, last, drift, spread, lam, std, xi, chi, drawn, weights, out):
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
def _observe_band(norm, first, last, kd, rho, lam, std, xi, chi, drawn, out):
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
    _observe_band(norm, 0, bulk_at, kd, rho, lam, std, xi, chi, 0, out[0])
    _observe_band(norm, bulk_at, lam.size, kd, rho, lam, std, xi, chi, 0, out[1])


@kernel()
def advance_level_batches(q, levels, batches, first_step, num_steps, ruling, record, key_0, key_1):
    """Apply SGD steps on mini-batches of data to levels; as ``data_steps.advance_batches``."""
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
        _step_band(
            lanes, norm, 0, bulk_at, moves[0, 0, DRIFT], moves[0, 0, SPREAD], lam, std, xi, chi,
            drawn, weights, row[0],
        )  # fmt: skip
        _step_band(
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
            _observe_band(norm, 0, bulk_at, kd, rho, lam, std, xi, chi, drawn, noisy[0])
            _observe_band(norm, bulk_at, lam.size, kd, rho, lam, std, xi, chi, drawn, noisy[1])
        good, rows = finish_step(
            step, row, rule, memory, sums, step_size, wanted, rows, out, out_steps, out_sizes
        )
    from_lanes(q, lanes, lane)
    return done, rows
