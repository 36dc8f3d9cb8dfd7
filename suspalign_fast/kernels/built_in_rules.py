"""The step-size rules of the package, and the C functions that call them (``rules``)."""

import numba
from numba import carray

from ..row import NUM_NOISY
from . import row_terms
from .jit import inlined
from .rules import read_row

_critical_terms = numba.njit(row_terms.critical_terms)
_loss_bound_terms = numba.njit(row_terms.loss_bound_terms)
_pull_term = numba.njit(row_terms.pull_term)
_push_term = numba.njit(row_terms.push_term)


#: Where the memory of `online` has 1 / B, tau^2 and the average of P under batches of data.
BATCHES_AT = 14


@inlined
def _capped_critical(fraction, cap, dominant, bulk, weights):
    """Fraction of the critical step of two bands' (S_2, S_3, S_4 + N_2), capped.

    The cap where no step size separates falling from rising alignment.
    """
    total = dominant[0] + bulk[0]
    if not total > 0.0:
        return cap
    numerator, denominator = _critical_terms(
        dominant[0] / total, dominant[1] / total, dominant[2] / total,
        bulk[0] / total, bulk[1] / total, bulk[2] / total, weights[0], weights[1],
    )  # fmt: skip
    if not denominator > 0.0 or numerator < 0.0:
        return cap
    return min(cap, fraction * numerator / denominator)


@inlined
def _band_terms(row, band):
    s, x, p, q = row.power_sums, row.cross_sums, row.pull, row.carry
    pull = _pull_term(p, q, s[band, 2], x[band, 1])
    push = _push_term(p, q, s[band, 3] + row.constants[band, 1], x[band, 2], x[band, 4])
    return s[band, 1], pull, push


@inlined
def critical(row, memory):
    """Rule of `CriticalStep`; its memory is the fraction and the cap."""
    dominant, bulk = _band_terms(row, 0), _band_terms(row, 1)
    return _capped_critical(memory[0], memory[1], dominant, bulk, row.weights)


@inlined
def _band_bound(row, band):
    s, x, p, q = row.power_sums, row.cross_sums, row.pull, row.carry
    pull = _pull_term(p, q, s[band, 1], x[band, 0])
    push = _push_term(p, q, s[band, 2], x[band, 1], x[band, 3])
    return _loss_bound_terms(pull, push, p * p * row.constants[band, 0])


@inlined
def loss_interval(row, memory):
    """Rule of `LossIntervalStep`; its memory is the position and the cap."""
    position, cap = memory[0], memory[1]
    above_d, below_d = _band_bound(row, 0)
    above_b, below_b = _band_bound(row, 1)
    if not (below_d > 0.0 and below_b > 0.0 and above_d > 0.0 and above_b > 0.0):
        return cap
    step_size = (above_d / below_d) ** (1.0 - position) * (above_b / below_b) ** position
    return min(cap, step_size)


@inlined
def _averaged_terms(row, state, band):
    """Update a band's averages; return its estimated S_2, S_3 and S_4 + N_2."""
    first = 8 + 3 * band
    decay, weight = state[2], state[3]
    for p in range(NUM_NOISY):
        state[first + p] = decay * state[first + p] + (1.0 - decay) * row.noisy_sums[band, p]
    floor, gain = 1.0, 1.0
    if state.size > BATCHES_AT:  # noise of variance (lambda^2 c^2 + P lambda) / B
        floor = state[BATCHES_AT] * state[BATCHES_AT + 2] / weight
        gain = 1.0 + state[BATCHES_AT]
    return (
        max(state[first] / weight - floor * state[4 + band], 0.0) / gain,
        max(state[first + 1] / weight - floor * state[6 + band], 0.0) / gain,
        state[first + 2] / weight,
    )


@inlined
def online(row, state):
    """Rule of `OnlineCriticalStep`, with the memory described there."""
    state[3] = state[2] * state[3] + (1.0 - state[2])
    if state.size > BATCHES_AT:
        p = row.power_sums[0, 0] + row.power_sums[1, 0] + state[BATCHES_AT + 1]
        state[BATCHES_AT + 2] = state[2] * state[BATCHES_AT + 2] + (1.0 - state[2]) * p
    dominant = _averaged_terms(row, state, 0)
    bulk = _averaged_terms(row, state, 1)
    step_size = _capped_critical(state[0], state[1], dominant, bulk, row.weights)
    return step_size if step_size > 0.0 else state[1]


@inlined
def known(row, sizes):
    """Step sizes known in advance as a rule: `sizes` holds one a step, or one for all."""
    return sizes[min(row.step, sizes.size - 1)]


def known_entry(step, sums, memory, memory_size):
    """C function of `known`."""
    return known(read_row(step, sums), carray(memory, (memory_size,)))


def critical_entry(step, sums, memory, memory_size):
    """C function of `critical`."""
    return critical(read_row(step, sums), carray(memory, (memory_size,)))


def loss_interval_entry(step, sums, memory, memory_size):
    """C function of `loss_interval`."""
    return loss_interval(read_row(step, sums), carray(memory, (memory_size,)))


def online_entry(step, sums, memory, memory_size):
    """C function of `online`."""
    return online(read_row(step, sums), carray(memory, (memory_size,)))
