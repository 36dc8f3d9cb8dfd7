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
    sum_weights : ndarray of float64, shape (ROW_SIZE, levels)
        What ``Q`` is multiplied by in every sum.
    split : int
        Number of dominant levels.
    """

    lam: NDArray[np.float64]
    std: NDArray[np.float64]
    freedom: NDArray[np.float64]
    sum_weights: NDArray[np.float64]
    split: int


@inlined
def _accepts(x, u, d, v):
    """Whether Marsaglia and Tsang's method takes the candidate ``d v``."""
    if u < 1.0 - 0.0331 * x * x * x * x:
        return True
    return np.log(u) < 0.5 * x * x + d * (1.0 - v + np.log(v))


@inlined
def _is_boosted(freedom):
    """Whether a chi-square of so many degrees of freedom is made from one of two more."""
    return freedom < 2.0 and freedom != 1.0 and freedom != 0.0


@kernel()
def draw(xi, chi, freedom, step, key_0, key_1):
    """Fill ``xi`` with normals and ``chi`` with chi-squares of ``freedom`` degrees, one a level."""
    normals = np.empty(GROUP)
    candidates = np.empty(GROUP)
    words = np.empty(GROUP, np.uint32)
    boosts = np.empty(GROUP, np.uint32)
    for first in range(0, xi.size, GROUP):
        group = first // GROUP
        count = min(GROUP, xi.size - first)
        write_group(normals, 0, group, domains.LEVEL_NORMAL, step, key_0, key_1)
        copy_values(xi, first, normals, 0, count)
        todo = 0
        boosted = False
        for lane in range(count):
            chi[first + lane] = -1.0
            if freedom[first + lane] == 0.0:
                chi[first + lane] = 0.0
            else:
                todo += 1
                boosted |= _is_boosted(freedom[first + lane])
        if boosted:
            write_words(boosts, 0, group, domains.LEVEL_BOOST, step, key_0, key_1)
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
                shape = 0.5 * freedom[first + lane]
                boost = _is_boosted(freedom[first + lane])
                if boost:
                    shape += 1.0
                d = shape - 1.0 / 3.0
                root = 1.0 + x / np.sqrt(9.0 * d)
                v = root * root * root
                if v > 0.0 and _accepts(x, u, d, v):
                    chi[first + lane] = 2.0 * d * v
                    if boost:
                        uniform = (boosts[lane] + 0.5) * UNIFORM_SCALE
                        chi[first + lane] *= uniform ** (2.0 / freedom[first + lane])
                    todo -= 1
            attempt += 1
        for lane in range(count):
            if chi[first + lane] < 0.0:  # never: each attempt accepts nineteen of twenty
                chi[first + lane] = freedom[first + lane]


@inlined
def _move(q, a, b, xi, chi):
    root = b * xi if q == 0.0 else a * np.sqrt(q) + b * xi  # where q is 0, a may have overflowed
    return root * root + b * b * chi


@inlined
def _sum_levels(q, levels, out):
    """Sums of both bands: ``out[band, column] = sum sum_weights[column, level] q[level]``."""
    for column in range(ROW_SIZE):
        dominant = 0.0
        for level in range(levels.split):
            dominant += levels.sum_weights[column, level] * q[level]
        bulk = 0.0
        for level in range(levels.split, q.size):
            bulk += levels.sum_weights[column, level] * q[level]
        out[0, column] = dominant
        out[1, column] = bulk


@kernel()
def sum_levels(q, levels, out):
    """Write the sums of both bands to ``out``."""
    _sum_levels(q, levels, out)


@kernel()
def jump_levels(q, levels, a, b, steps, key_0, key_1, out):
    """Move levels to each of ``steps`` in turn; ``a`` and ``b`` have a row for each or for all."""
    xi = np.empty(q.size)
    chi = np.empty(q.size)
    for t in range(steps.size):
        draw(xi, chi, levels.freedom, steps[t], key_0, key_1)
        move = min(t, a.shape[0] - 1)
        for level in range(q.size):
            q[level] = _move(q[level], a[move, level], b[move, level], xi[level], chi[level])
        _sum_levels(q, levels, out[t])


@kernel()
def observe_levels(q, levels, xi, chi, out):
    """Write ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient to ``out``."""
    out[:] = 0.0
    for level in range(q.size):
        band = 0 if level < levels.split else 1
        h_sq = _move(q[level], levels.lam[level], levels.std[level], xi[level], chi[level])
        for p in range(NUM_NOISY):
            out[band, p] += h_sq
            h_sq *= levels.lam[level]


@inlined
def _step(q, levels, move, xi, chi):
    """One step of all levels; `move` has drift and spread of both bands."""
    for level in range(q.size):
        band = 0 if level < levels.split else 1
        a = 1.0 + move[band, DRIFT] * levels.lam[level]
        b = move[band, SPREAD] * levels.std[level]
        q[level] = _move(q[level], a, b, xi[level], chi[level])


@kernel()
def advance_levels(q, levels, first_step, num_steps, ruling, record, key_0, key_1):
    """Apply SGD steps whose sizes a rule chooses from the row; as ``advance_adaptive``."""
    xi = np.empty(q.size)
    chi = np.empty(q.size)
    move = np.empty((NUM_BANDS, NUM_PARTS))
    row = np.empty((NUM_BANDS, ROW_SIZE))
    rows = 0
    draw(xi, chi, levels.freedom, first_step + 1, key_0, key_1)
    for t in range(num_steps):
        step = first_step + t + 1
        set_move(move, ruling.step_size[0], ruling.weights)
        _step(q, levels, move, xi, chi)
        _sum_levels(q, levels, row)
        draw(xi, chi, levels.freedom, step + 1, key_0, key_1)
        if ruling.observes and is_finite(row):
            observe_levels(q, levels, xi, chi, ruling.sums[:, NOISY_AT:WEIGHT_AT])
        good, rows = finish_step(step, row, ruling, record, rows)
        if not good:
            return t + 1, rows
    return num_steps, rows
