"""Whole levels at once: equal coordinates matter only through ``Q = sum c^2``.

By rotation invariance m coordinates that share eigenvalue, noise and step move as

    Q' = (a sqrt(Q) + b xi)^2 + b^2 X,    X ~ chi-square with m - 1 degrees of freedom,

xi being the noise along the current direction; m need not be whole. Chi-squares come from the
method of Marsaglia and Tsang (ACM TOMS 26, 2000), in float64 on float32 normals; below two degrees
of freedom from a gamma variate of one more shape, times a power of a uniform one. Attempt n of a
level draws from counter domains of its own, so X is a pure function of (seed, level, step).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..row import NOISY_AT, NUM_BANDS, NUM_NOISY, ROW_SIZE, WEIGHT_AT
from . import domains
from .jit import copy_values, inlined, kernel
from .move import DRIFT, NUM_PARTS, SPREAD, set_move
from .normals import GROUP, write_group, write_words
from .rules import finish_step, is_finite

UNIFORM_SCALE = 2.0**-32


class Levels(NamedTuple):
    """A problem's levels, as the kernels take them.

    Attributes
    ----------
    lam, std : ndarray of float64, shape (levels,)
        Eigenvalues and standard deviations of the noise.
    freedom : ndarray of float64, shape (levels,)
        Directions of a level less one.
    drawn : ndarray of float64, shape (levels,)
        Degrees of freedom of the chi-squares that they are made from (`drawn_for`).
    boosts : bool
        Whether the two differ anywhere.
    sum_weights : ndarray of float64, shape (ROW_SIZE, levels)
        What ``Q`` is multiplied by in every sum.
    split : int
        Number of dominant levels.
    """

    lam: NDArray[np.float64]
    std: NDArray[np.float64]
    freedom: NDArray[np.float64]
    drawn: NDArray[np.float64]
    boosts: bool
    sum_weights: NDArray[np.float64]
    split: int


@inlined
def _accepts(x, u, d, v):
    """Whether Marsaglia and Tsang's method takes the candidate ``d v``."""
    if u < 1.0 - 0.0331 * x * x * x * x:
        return True
    return np.log(u) < 0.5 * x * x + d * (1.0 - v + np.log(v))


def drawn_for(freedom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the degrees of freedom of what is drawn: two more where there are too few.

    One degree is a squared normal and none is nothing: these are drawn as they are.
    """
    few = (freedom < 2.0) & (freedom != 1.0) & (freedom != 0.0)
    return np.where(few, freedom + 2.0, freedom)


@kernel()
def draw(xi, chi, freedom, step, key_0, key_1):
    """Fill ``xi`` with normals and ``chi`` with chi-squares of ``freedom`` degrees, one a level.

    Degrees are 0, 1, or 2 and more.
    """
    normals = np.empty(GROUP)
    candidates = np.empty(GROUP)
    words = np.empty(GROUP, np.uint32)
    for first in range(0, xi.size, GROUP):
        group = first // GROUP
        count = min(GROUP, xi.size - first)
        write_group(normals, 0, group, domains.LEVEL_NORMAL, step, key_0, key_1)
        copy_values(xi, first, normals, 0, count)
        todo = 0
        for lane in range(count):
            chi[first + lane] = -1.0
            if freedom[first + lane] == 0.0:
                chi[first + lane] = 0.0
            else:
                todo += 1
        attempt = 0
        while todo > 0 and attempt < domains.LEVEL_GAMMA_ATTEMPTS:
            # Each attempt has two domains, one for its normals and one for its uniforms.
            domain = domains.LEVEL_GAMMA + 2 * attempt
            write_group(candidates, 0, group, domain, step, key_0, key_1)
            write_words(words, 0, group, domain + 1, step, key_0, key_1)
            for lane in range(count):
                if chi[first + lane] >= 0.0:
                    continue
                x = candidates[lane]
                u = (words[lane] + 0.5) * UNIFORM_SCALE
                if freedom[first + lane] == 1.0:
                    chi[first + lane] = x * x
                    todo -= 1
                    continue
                d = 0.5 * freedom[first + lane] - 1.0 / 3.0
                root = 1.0 + x / np.sqrt(9.0 * d)
                v = root * root * root
                if v > 0.0 and _accepts(x, u, d, v):
                    chi[first + lane] = 2.0 * d * v
                    todo -= 1
            attempt += 1
        if todo > 0:  # never: each attempt accepts nineteen of twenty
            for lane in range(count):
                if chi[first + lane] < 0.0:
                    chi[first + lane] = freedom[first + lane]


@kernel()
def reduce_freedom(chi, freedom, drawn, step, key_0, key_1):
    """Turn chi-squares of ``drawn`` degrees into ones of ``freedom`` where that is two less."""
    words = np.empty(GROUP, np.uint32)
    for first in range(0, chi.size, GROUP):
        write_words(words, 0, first // GROUP, domains.LEVEL_BOOST, step, key_0, key_1)
        for lane in range(min(GROUP, chi.size - first)):
            level = first + lane
            if freedom[level] != drawn[level]:
                uniform = (words[lane] + 0.5) * UNIFORM_SCALE
                chi[level] *= uniform ** (2.0 / freedom[level])


@inlined
def _move(q, a, b, xi, chi):
    root = b * xi if q == 0.0 else a * np.sqrt(q) + b * xi  # where q is 0, a may have overflowed
    return root * root + b * b * chi


@inlined
def _sum_levels(q, weights, split, out):
    """Sums of both bands: ``out[band, column] = sum weights[column, level] q[level]``."""
    for column in range(ROW_SIZE):
        dominant = 0.0
        for level in range(split):
            dominant += weights[column, level] * q[level]
        bulk = 0.0
        for level in range(split, q.size):
            bulk += weights[column, level] * q[level]
        out[0, column] = dominant
        out[1, column] = bulk


@kernel()
def sum_levels(q, levels, out):
    """Write the sums of both bands to ``out``."""
    _sum_levels(q, levels.sum_weights, levels.split, out)


@kernel()
def jump_levels(q, levels, a, b, steps, key_0, key_1, out):
    """Move levels to each of ``steps`` in turn; ``a`` and ``b`` have a row for each or for all."""
    xi = np.empty(q.size)
    chi = np.empty(q.size)
    # Taken out once: every look into a tuple counts references.
    freedom, drawn, weights, split = levels.freedom, levels.drawn, levels.sum_weights, levels.split
    boosts = levels.boosts
    for t in range(steps.size):
        draw(xi, chi, drawn, steps[t], key_0, key_1)
        if boosts:
            reduce_freedom(chi, freedom, drawn, steps[t], key_0, key_1)
        move = min(t, a.shape[0] - 1)
        for level in range(q.size):
            q[level] = _move(q[level], a[move, level], b[move, level], xi[level], chi[level])
        _sum_levels(q, weights, split, out[t])


@inlined
def _observe(q, lam, std, split, xi, chi, out):
    out[:] = 0.0
    for level in range(q.size):
        band = 0 if level < split else 1
        h_sq = _move(q[level], lam[level], std[level], xi[level], chi[level])
        for p in range(NUM_NOISY):
            out[band, p] += h_sq
            h_sq *= lam[level]


@kernel()
def observe_levels(q, levels, step, key_0, key_1, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient of a step to ``out``."""
    xi = np.empty(q.size)
    chi = np.empty(q.size)
    draw(xi, chi, levels.drawn, step, key_0, key_1)
    if levels.boosts:
        reduce_freedom(chi, levels.freedom, levels.drawn, step, key_0, key_1)
    _observe(q, levels.lam, levels.std, levels.split, xi, chi, out)


@inlined
def _step(q, lam, std, moves, split, xi, chi):
    """One step of all levels, by the first of some moves."""
    drift_d, drift_b = moves[0, 0, DRIFT], moves[0, 1, DRIFT]
    spread_d, spread_b = moves[0, 0, SPREAD], moves[0, 1, SPREAD]
    for level in range(q.size):
        drift = drift_d if level < split else drift_b
        spread = spread_d if level < split else spread_b
        a = 1.0 + drift * lam[level]
        q[level] = _move(q[level], a, spread * std[level], xi[level], chi[level])


@kernel()
def advance_levels(q, levels, first_step, num_steps, ruling, record, key_0, key_1):
    """Apply SGD steps whose sizes a rule chooses from the row; as ``advance_adaptive``."""
    xi = np.empty(q.size)
    chi = np.empty(q.size)
    moves = np.empty((1, NUM_BANDS, NUM_PARTS))
    row = np.empty((NUM_BANDS, ROW_SIZE))
    rows = 0
    lam, std, freedom, drawn, boosts, weights, split = levels
    rule, observes, memory, sums, step_size, update = ruling
    wanted, out, out_steps, out_sizes = record
    draw(xi, chi, drawn, first_step + 1, key_0, key_1)
    if boosts:
        reduce_freedom(chi, freedom, drawn, first_step + 1, key_0, key_1)
    for t in range(num_steps):
        step = first_step + t + 1
        set_move(moves, 0, step_size[0], update)
        _step(q, lam, std, moves, split, xi, chi)
        _sum_levels(q, weights, split, row)
        draw(xi, chi, drawn, step + 1, key_0, key_1)
        if boosts:
            reduce_freedom(chi, freedom, drawn, step + 1, key_0, key_1)
        if observes and is_finite(row):
            _observe(q, lam, std, split, xi, chi, sums[:, NOISY_AT:WEIGHT_AT])
        good, rows = finish_step(
            step, row, rule, memory, sums, step_size, wanted, rows, out, out_steps, out_sizes
        )
        if not good:
            return t + 1, rows
    return num_steps, rows
