"""Step-size rules inside kernels: a compiled function of the row, called through its address.

Kernels are compiled once and take any rule as a number, the address of a C function
``double rule(int64 step, const double *sums, double *memory, int64 memory_size)``.
"""

import functools
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import carray, cfunc, types
from numpy.typing import NDArray

from ..base.values import same_values
from ..physics import terms
from ..physics.layout import (
    CONSTANTS_AT,
    CROSS_AT,
    CROSS_COLUMNS,
    FACTORS_AT,
    NOISE_SUMS,
    NOISY_AT,
    NUM_BANDS,
    NUM_NOISY,
    POWER_SUMS,
    ROW_SIZE,
    RULE_COLUMNS,
    SLICES,
    WEIGHT_AT,
)
from .jit import c_function, copy_values, inlined, intrinsic

POWER_END, NOISE_END = (SLICES[sums.name].stop for sums in (POWER_SUMS, NOISE_SUMS))
#: Compiled functions of users that are kept.
MAX_RULES = 256

RULE_SIGNATURE = types.float64(
    types.int64, types.CPointer(types.float64), types.CPointer(types.float64), types.int64
)


class Row(NamedTuple):
    """What a step-size rule sees of a step.

    Attributes
    ----------
    step : int
        Step t whose size is asked for.
    power_sums : ndarray of float64, shape (2, 4)
        S_1 ... S_4 of the dominant and the bulk band.
    noise_sums : ndarray of float64, shape (2, 3)
        R_4 ... R_6.
    constants : ndarray of float64, shape (2, 3)
        N_1, N_2 and K.
    noisy_sums : ndarray of float64, shape (2, 3)
        ``sum lambda^p h^2``, p = 0, 1, 2, of the noisy gradient ``h = lambda c + s xi`` of this
        very step: what a practitioner has. Zero unless the rule asks to observe them.
    weights : ndarray of float64, shape (2,)
        Weights of the dominant and the bulk part of the update; (1, 1) for full updates.
    cross_sums : ndarray of float64, shape (2, 8)
        C_1, C_2, C_3, V_1, V_2, X_4, X_5, W_4 of the velocity; zero under plain SGD.
    pull, carry : float
        Factors of gradient and velocity in a step (`Momentum.factors`).
    """

    step: int
    power_sums: NDArray[np.float64]
    noise_sums: NDArray[np.float64]
    constants: NDArray[np.float64]
    noisy_sums: NDArray[np.float64]
    weights: NDArray[np.float64]
    cross_sums: NDArray[np.float64]
    pull: float
    carry: float

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Row) and same_values(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other


@inlined
def row_of(step, table):
    """Return the `Row` of a table of shape (NUM_BANDS, RULE_COLUMNS), as ``layout`` lays it out."""
    return Row(
        step,
        table[:, :POWER_END],
        table[:, POWER_END:NOISE_END],
        table[:, CONSTANTS_AT:NOISY_AT],
        table[:, NOISY_AT:WEIGHT_AT],
        table[:, WEIGHT_AT],
        table[:, CROSS_AT:FACTORS_AT],
        table[0, FACTORS_AT],
        table[0, FACTORS_AT + 1],
    )


@inlined
def read_row(step, sums):
    """Return the `Row` of a rule's C arguments."""
    return row_of(step, carray(sums, (NUM_BANDS, RULE_COLUMNS)))


@functools.lru_cache(maxsize=MAX_RULES)
def with_memory(function: Any, *, takes_memory: bool) -> Any:
    """Return a user's compiled ``function(row)`` or ``(row, memory)`` as one of (row, memory)."""
    if takes_memory:
        return function
    return numba.njit(lambda row, memory: function(row))


@functools.lru_cache(maxsize=MAX_RULES)
def compile_rule(function: Any) -> Any:
    """Return the C function of a compiled ``function(row, memory)``: NaN where that raises."""

    def rule(step, sums, memory, memory_size):
        try:
            return function(read_row(step, sums), carray(memory, (memory_size,)))
        except Exception:
            return np.nan

    return cfunc(RULE_SIGNATURE)(rule)


@functools.lru_cache(maxsize=MAX_RULES)
def is_parallel(function: Any) -> bool:
    """Whether a compiled ``function(row, memory)``, or what it calls, starts threads of Numba's."""
    return _STARTS_THREADS in compile_rule(function)._library.get_llvm_str()


#: What machine code calls to run a loop in Numba's threads.
_STARTS_THREADS = "numba_parallel_for"


@functools.cache
def entry_address(entry: Any) -> int:
    """Address of a C function of the package that calls a rule, compiled on first use."""
    return int(c_function(RULE_SIGNATURE, entry).address)


@intrinsic
def call_rule(typingctx, address, step, sums, memory, memory_size):
    """Call the rule at an address."""

    def codegen(context, builder, sig, args):
        double, integer = ir.DoubleType(), ir.IntType(64)
        pointer = double.as_pointer()
        kind = ir.FunctionType(double, [integer, pointer, pointer, integer])
        function = builder.inttoptr(args[0], kind.as_pointer())
        data = [context.make_array(sig.args[i])(context, builder, args[i]).data for i in (2, 3)]
        return builder.call(function, [args[1], *data, args[4]])

    signature = types.float64(types.int64, types.int64, sums, memory, types.int64)
    return signature, codegen


@inlined
def copy_row(target, row):
    """Set the first columns of a table of both bands."""
    for column in range(row.shape[1]):
        target[0, column] = row[0, column]
        target[1, column] = row[1, column]


@inlined
def is_finite(row):
    """Whether every sum of a row of both bands is finite."""
    finite = True
    for column in range(row.shape[1]):
        finite = finite and np.isfinite(row[0, column]) and np.isfinite(row[1, column])
    return finite


class Ruling(NamedTuple):
    """A rule at work.

    Attributes
    ----------
    rule : int
        Address of its C function.
    observes : bool
        Whether it reads the sums of the noisy gradient.
    memory : ndarray of float64
        What it keeps from step to step.
    sums : ndarray of float64, shape (2, RULE_COLUMNS)
        The table it reads, with the sums of the state.
    step_size : ndarray of float64, shape (1,)
        Size of the next step.
    weights : ndarray of float64, shape (2,)
        Weights of both bands in the update.
    """

    rule: int
    observes: bool
    memory: NDArray[np.float64]
    sums: NDArray[np.float64]
    step_size: NDArray[np.float64]
    weights: NDArray[np.float64]


class Record(NamedTuple):
    """Steps whose rows are wanted, and room for these and one more: sums, steps and sizes."""

    wanted: NDArray[np.int64]
    sums: NDArray[np.float64]
    steps: NDArray[np.int64]
    sizes: NDArray[np.float64]


def make_finish(has_velocity):
    """Build the end of a step: the rule chooses the next size, and the row may be recorded.

    Its arguments are those of `Ruling` and `Record` one by one: to take a tuple apart at every step
    counts references, which is a fifth of the time of a step of two levels.
    """

    @inlined
    def finish_step(step, row, rule, memory, sums, step_size, wanted, rows, out, steps, sizes):
        """Return whether there can be a next step, and the number of rows recorded so far.

        The rule is not asked about a row that is not finite, which is recorded in any case.
        """
        for band in range(NUM_BANDS):  # what a rule writes there is not recorded
            copy_values(sums[band], 0, row[band], 0, ROW_SIZE)
            if has_velocity:
                for i in range(len(CROSS_COLUMNS)):
                    sums[band, CROSS_AT + i] = row[band, CROSS_COLUMNS[i]]
        finite = is_finite(row)
        if finite:
            step_size[0] = call_rule(rule, step, sums, memory, memory.size)
        if (rows < wanted.size and step == wanted[rows]) or not finite:
            copy_row(out[rows], row)
            steps[rows] = step
            sizes[rows] = step_size[0]
            rows += 1
        return finite and np.isfinite(step_size[0]) and step_size[0] >= 0.0, rows

    return finish_step


# --- The step-size rules of the package, and the C functions that call them (``rules``) ----------


_critical_terms = numba.njit(terms.critical_terms)
_loss_bound_terms = numba.njit(terms.loss_bound_terms)
_pull_term = numba.njit(terms.pull_term)
_push_term = numba.njit(terms.push_term)


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
