"""What one thread of a GPU does with a part of the coordinates and their velocity.

As ``gpu_thread``, but with two planes, c and v, and the three factors of the optimizer, pull, carry
and decay, as tuples. Sums are those of a row in the order in which rows have them: of c^2, then
`row.CROSS_SUMS`.
"""

from ..row import CROSS_SUMS, NUM_SUMS
from . import domains
from .coordinates import velocity_moved, write_sums
from .gpu_thread import (
    WORDS,
    coordinate_of,
    first_counter,
    is_inside,
    last_counter,
    normals_of,
    value_at,
)
from .jit import for_gpu, inlined
from .momentum_jump import velocity_jumped
from .momentum_sums import DIRECT_WAY
from .move import DRIFT
from .normals import COUNTERS
from .simd import (
    broadcast,
    fma,
    horizontal_sum,
    load,
    load_doubles,
    store_doubles,
    to_double,
    zeros,
)

#: Sums of a coordinate.
NUM_VELOCITY_SUMS = NUM_SUMS + len(CROSS_SUMS.terms)
#: Steps that `take_velocity_tile` applies: the sums of more would not stay in registers.
VELOCITY_TILE = 2

_no_sums, _powers, _add_sums, _ = DIRECT_WAY


@inlined
def _write_sums(out, first, column, sums):
    """Set a column of a table from row `first` on to all sums."""
    write_sums(out, first, column, sums)
    out[first + 7, column] = horizontal_sum(sums[7])
    out[first + 8, column] = horizontal_sum(sums[8])
    out[first + 9, column] = horizontal_sum(sums[9])
    out[first + 10, column] = horizontal_sum(sums[12])
    out[first + 11, column] = horizontal_sum(sums[13])
    out[first + 12, column] = horizontal_sum(sums[10])
    out[first + 13, column] = horizontal_sum(sums[11])
    out[first + 14, column] = horizontal_sum(sums[14])


@inlined
def _moved(planes, factors, c, v, lam, std, drift, xi):
    h = fma(std, to_double(xi), lam * c)
    return velocity_moved(
        planes[0], planes[1], c, v, h, broadcast(drift, lam), broadcast(factors[0], lam),
        broadcast(factors[1], lam), broadcast(factors[2], lam),
    )  # fmt: skip


@inlined
def _take_step(sums, planes, factors, lam, std, i, start, stop, drift, xi):
    if is_inside(i, start, stop):
        lam_i = load(lam, i, 1)
        std_i = value_at(std, i)
        c = load_doubles(planes[0], i, 1)
        v = load_doubles(planes[1], i, 1)
        c, v = _moved(planes, factors, c, v, lam_i, std_i, drift, xi)
        store_doubles(planes[0], i, c)
        store_doubles(planes[1], i, v)
        sums = _add_sums(sums, c, v, _powers(lam_i, std_i, None))
    return sums


@for_gpu
def take_velocity_step(
    thread, threads, planes, factors, lam, std, start, stop, drift, spread, low, high, key_0,
    key_1, sums,
):  # fmt: skip
    """Apply one move, of which noise and gradient take the same part; `spread` is not read."""
    counter = first_counter(start, thread)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = _no_sums(zeros(0.0, 1))
    while counter < last:
        z = normals_of(counter, domains.STEP, low, high, key_0, key_1)
        s = _take_step(s, planes, factors, lam, std, i, start, stop, drift, z[0])
        s = _take_step(s, planes, factors, lam, std, i + COUNTERS, start, stop, drift, z[1])
        s = _take_step(s, planes, factors, lam, std, i + 2 * COUNTERS, start, stop, drift, z[2])
        s = _take_step(s, planes, factors, lam, std, i + 3 * COUNTERS, start, stop, drift, z[3])
        counter += threads
        i += WORDS * threads
    _write_sums(sums, 0, thread, s)


@inlined
def _take_tile(s, planes, factors, lam, std, i, start, stop, drifts, xi_0, xi_1):
    s_0, s_1 = s
    if is_inside(i, start, stop):
        lam_i = load(lam, i, 1)
        std_i = value_at(std, i)
        p = _powers(lam_i, std_i, None)
        c = load_doubles(planes[0], i, 1)
        v = load_doubles(planes[1], i, 1)
        c, v = _moved(planes, factors, c, v, lam_i, std_i, drifts[0], xi_0)
        s_0 = _add_sums(s_0, c, v, p)
        c, v = _moved(planes, factors, c, v, lam_i, std_i, drifts[1], xi_1)
        s_1 = _add_sums(s_1, c, v, p)
        store_doubles(planes[0], i, c)
        store_doubles(planes[1], i, v)
    return s_0, s_1


@for_gpu
def take_velocity_tile(
    thread, threads, planes, factors, lam, std, start, stop, band, moves, t, low, high, key_0,
    key_1, sums,
):  # fmt: skip
    """Apply VELOCITY_TILE steps, of ``moves[t:]``; their sums go to NUM_VELOCITY_SUMS rows each."""
    drifts = (moves[t, band, DRIFT], moves[t + 1, band, DRIFT])
    counter = first_counter(start, thread)
    last = last_counter(stop)
    i = coordinate_of(counter)
    none = _no_sums(zeros(0.0, 1))
    s = (none, none)
    while counter < last:
        z_0 = normals_of(counter, domains.STEP, low, high, key_0, key_1)
        z_1 = normals_of(counter, domains.STEP, low + 1, high, key_0, key_1)
        s = _take_tile(s, planes, factors, lam, std, i, start, stop, drifts, z_0[0], z_1[0])
        s = _take_tile(
            s, planes, factors, lam, std, i + COUNTERS, start, stop, drifts, z_0[1], z_1[1]
        )
        s = _take_tile(
            s, planes, factors, lam, std, i + 2 * COUNTERS, start, stop, drifts, z_0[2], z_1[2]
        )
        s = _take_tile(
            s, planes, factors, lam, std, i + 3 * COUNTERS, start, stop, drifts, z_0[3], z_1[3]
        )
        counter += threads
        i += WORDS * threads
    _write_sums(sums, 0, thread, s[0])
    _write_sums(sums, NUM_VELOCITY_SUMS, thread, s[1])


@inlined
def _jump(s, planes, move, lam, std, i, start, stop, xi_c, xi_v):
    if is_inside(i, start, stop):
        move_i = (
            load(move[0], i, 1), load(move[1], i, 1), load(move[2], i, 1), load(move[3], i, 1),
            load(move[4], i, 1), load(move[5], i, 1), load(move[6], i, 1),
        )  # fmt: skip
        c = load_doubles(planes[0], i, 1)
        v = load_doubles(planes[1], i, 1)
        c, v = velocity_jumped(planes[0], planes[1], c, v, move_i, xi_c, xi_v)
        store_doubles(planes[0], i, c)
        store_doubles(planes[1], i, v)
        s = _add_sums(s, c, v, _powers(load(lam, i, 1), value_at(std, i), None))
    return s


@for_gpu
def jump_velocity(
    thread, threads, planes, move, lam, std, start, stop, low, high, key_0, key_1, sums
):
    """Move coefficients and velocities by the seven arrays of `move`; sums go to the first rows."""
    counter = first_counter(start, thread)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = _no_sums(zeros(0.0, 1))
    while counter < last:
        x = normals_of(counter, domains.JUMP, low, high, key_0, key_1)
        y = normals_of(counter, domains.JUMP_ACROSS, low, high, key_0, key_1)
        s = _jump(s, planes, move, lam, std, i, start, stop, x[0], y[0])
        s = _jump(s, planes, move, lam, std, i + COUNTERS, start, stop, x[1], y[1])
        s = _jump(s, planes, move, lam, std, i + 2 * COUNTERS, start, stop, x[2], y[2])
        s = _jump(s, planes, move, lam, std, i + 3 * COUNTERS, start, stop, x[3], y[3])
        counter += threads
        i += WORDS * threads
    _write_sums(sums, 0, thread, s)


@for_gpu
def sum_velocity(thread, threads, planes, lam, std, start, stop, sums):
    """Sums of coefficients and velocities go to the first rows."""
    s = _no_sums(zeros(0.0, 1))
    i = start + thread
    while i < stop:
        c = load_doubles(planes[0], i, 1)
        v = load_doubles(planes[1], i, 1)
        s = _add_sums(s, c, v, _powers(load(lam, i, 1), value_at(std, i), None))
        i += threads
    _write_sums(sums, 0, thread, s)
