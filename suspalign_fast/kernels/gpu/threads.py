"""What one thread of a GPU does with a part of the coordinates.

A part is coordinates ``start ... stop - 1`` of one band, fewer than 2^32. Thread ``j`` of ``n``, a
multiple of 16, takes every n-th counter of the generator, with its four coordinates; 16 threads
beside each other touch 64 coordinates in a row. Every function passes over the part once and
leaves its sums in column ``thread`` of ``sums``; the caller adds the columns.

A step is two words, ``low`` and ``high``, the second the same for all steps of a call.
"""

import numpy as np

from ...physics.layout import NUM_SUMS
from .. import domains
from ..jit import for_gpu, inlined
from ..normals import COUNTERS, GROUP, counter_normals
from ..simd import broadcast, horizontal_sum, iota, load, load_doubles, store_doubles, zeros
from ..sums import (
    DRIFT,
    SPREAD,
    add_noisy,
    add_sums,
    jumped,
    moved,
    no_noisy,
    no_sums,
    powers,
    write_noisy,
    write_sums,
)

#: Coordinates of a counter.
WORDS = GROUP // COUNTERS
#: Steps that `take_tile` applies.
TILE = 4


@inlined
def normals_of(counter, domain, low, high, key_0, key_1):
    """Normals of the four coordinates of a counter."""
    index = broadcast(np.uint32(counter), iota(np.uint32(0), 1))
    return counter_normals(index, domain, low, high, key_0, key_1)


@inlined
def coordinate_of(counter):
    """First coordinate of a counter; the other three follow, each COUNTERS on."""
    lane = counter & (COUNTERS - 1)
    return WORDS * (counter - lane) + lane


@inlined
def first_counter(start, thread):
    """First counter of a thread in a part."""
    return (start & -GROUP) // WORDS + thread


@inlined
def last_counter(stop):
    """The counter after the last of a part."""
    return ((stop + GROUP - 1) & -GROUP) // WORDS


@inlined
def is_inside(i, start, stop):
    """Whether a coordinate of a group that a part touches is one of the part's."""
    return np.uint32(i - start) < np.uint32(stop - start)


@inlined
def value_at(values, i):
    """Value of a coordinate; an array of one value holds it for all."""
    return load(values, i if values.size > 1 else 0, 1)


@for_gpu
def add_values(values, first, count, stride):
    """Sum of `count` values of an array, as it lies in memory, from `first` on."""
    total = zeros(0.0, 1)
    for i in range(count):
        total = total + load(values, first + i * stride, 1)
    return horizontal_sum(total)


# --- SGD steps ---------------------------------------------------------------------------------


@inlined
def _moved(state, c, lam, std, drift, spread, xi):
    a = broadcast(drift, lam) * lam
    return moved(state, c, a, broadcast(spread, lam) * std, xi)


@inlined
def _take_step(sums, state, lam, std, i, start, stop, drift, spread, xi):
    if is_inside(i, start, stop):
        lam_i = load(lam, i, 1)
        std_i = value_at(std, i)
        c = _moved(state, load_doubles(state, i, 1), lam_i, std_i, drift, spread, xi)
        store_doubles(state, i, c)
        sums = add_sums(sums, c, powers(lam_i, std_i, None))
    return sums


@for_gpu
def take_step(
    thread, threads, state, lam, std, start, stop, drift, spread, low, high, key_0, key_1, sums
):
    """Apply one move; sums of the new state go to the first rows."""
    counter = first_counter(start, thread)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = no_sums(zeros(0.0, 1))
    while counter < last:
        z = normals_of(counter, domains.STEP, low, high, key_0, key_1)
        s = _take_step(s, state, lam, std, i, start, stop, drift, spread, z[0])
        s = _take_step(s, state, lam, std, i + COUNTERS, start, stop, drift, spread, z[1])
        s = _take_step(s, state, lam, std, i + 2 * COUNTERS, start, stop, drift, spread, z[2])
        s = _take_step(s, state, lam, std, i + 3 * COUNTERS, start, stop, drift, spread, z[3])
        counter += threads
        i += WORDS * threads
    write_sums(sums, 0, thread, s)


@for_gpu
def take_step_of_planes(
    thread, threads, planes, factors, lam, std, start, stop, drift, spread, low, high, key_0,
    key_1, sums,
):  # fmt: skip
    """Do as `take_step`, for kernels of all kinds of steps."""
    take_step(
        thread, threads, planes[0], lam, std, start, stop, drift, spread, low, high, key_0, key_1,
        sums,
    )  # fmt: skip


@inlined
def _take_tile(s, state, lam, std, i, start, stop, drifts, spreads, xi_0, xi_1, xi_2, xi_3):
    s_0, s_1, s_2, s_3 = s
    if is_inside(i, start, stop):
        lam_i = load(lam, i, 1)
        std_i = value_at(std, i)
        p = powers(lam_i, std_i, None)
        c = load_doubles(state, i, 1)
        c = _moved(state, c, lam_i, std_i, drifts[0], spreads[0], xi_0)
        s_0 = add_sums(s_0, c, p)
        c = _moved(state, c, lam_i, std_i, drifts[1], spreads[1], xi_1)
        s_1 = add_sums(s_1, c, p)
        c = _moved(state, c, lam_i, std_i, drifts[2], spreads[2], xi_2)
        s_2 = add_sums(s_2, c, p)
        c = _moved(state, c, lam_i, std_i, drifts[3], spreads[3], xi_3)
        s_3 = add_sums(s_3, c, p)
        store_doubles(state, i, c)
    return s_0, s_1, s_2, s_3


@for_gpu
def take_tile(
    thread, threads, state, lam, std, start, stop, band, moves, t, low, high, key_0, key_1, sums
):
    """Apply TILE steps, of ``moves[t:]``; their sums go to NUM_SUMS rows each.

    A coordinate stays in registers for all of them.
    """
    drifts = (
        moves[t, band, DRIFT],
        moves[t + 1, band, DRIFT],
        moves[t + 2, band, DRIFT],
        moves[t + 3, band, DRIFT],
    )
    spreads = (
        moves[t, band, SPREAD],
        moves[t + 1, band, SPREAD],
        moves[t + 2, band, SPREAD],
        moves[t + 3, band, SPREAD],
    )
    counter = first_counter(start, thread)
    last = last_counter(stop)
    i = coordinate_of(counter)
    none = no_sums(zeros(0.0, 1))
    s = (none, none, none, none)
    while counter < last:
        z_0 = normals_of(counter, domains.STEP, low, high, key_0, key_1)
        z_1 = normals_of(counter, domains.STEP, low + 1, high, key_0, key_1)
        z_2 = normals_of(counter, domains.STEP, low + 2, high, key_0, key_1)
        z_3 = normals_of(counter, domains.STEP, low + 3, high, key_0, key_1)
        s = _take_tile(
            s, state, lam, std, i, start, stop, drifts, spreads, z_0[0], z_1[0], z_2[0], z_3[0]
        )
        s = _take_tile(
            s, state, lam, std, i + COUNTERS, start, stop, drifts, spreads,
            z_0[1], z_1[1], z_2[1], z_3[1],
        )  # fmt: skip
        s = _take_tile(
            s, state, lam, std, i + 2 * COUNTERS, start, stop, drifts, spreads,
            z_0[2], z_1[2], z_2[2], z_3[2],
        )  # fmt: skip
        s = _take_tile(
            s, state, lam, std, i + 3 * COUNTERS, start, stop, drifts, spreads,
            z_0[3], z_1[3], z_2[3], z_3[3],
        )  # fmt: skip
        counter += threads
        i += WORDS * threads
    write_sums(sums, 0, thread, s[0])
    write_sums(sums, NUM_SUMS, thread, s[1])
    write_sums(sums, 2 * NUM_SUMS, thread, s[2])
    write_sums(sums, 3 * NUM_SUMS, thread, s[3])


# --- what else is done to a state --------------------------------------------------------------


@inlined
def _jump(s, state, a, b, lam, std, i, start, stop, xi):
    if is_inside(i, start, stop):
        c = jumped(state, load_doubles(state, i, 1), load(a, i, 1), load(b, i, 1), xi)
        store_doubles(state, i, c)
        s = add_sums(s, c, powers(load(lam, i, 1), value_at(std, i), None))
    return s


@for_gpu
def jump(thread, threads, state, a, b, lam, std, start, stop, low, high, key_0, key_1, sums):
    """Set the state to ``a c + b xi``; its sums go to the first rows."""
    counter = first_counter(start, thread)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = no_sums(zeros(0.0, 1))
    while counter < last:
        z = normals_of(counter, domains.JUMP, low, high, key_0, key_1)
        s = _jump(s, state, a, b, lam, std, i, start, stop, z[0])
        s = _jump(s, state, a, b, lam, std, i + COUNTERS, start, stop, z[1])
        s = _jump(s, state, a, b, lam, std, i + 2 * COUNTERS, start, stop, z[2])
        s = _jump(s, state, a, b, lam, std, i + 3 * COUNTERS, start, stop, z[3])
        counter += threads
        i += WORDS * threads
    write_sums(sums, 0, thread, s)


@for_gpu
def sum_state(thread, threads, state, lam, std, start, stop, sums):
    """Sums of the state go to the first rows."""
    s = no_sums(zeros(0.0, 1))
    i = start + thread
    while i < stop:
        s = add_sums(s, load_doubles(state, i, 1), powers(load(lam, i, 1), value_at(std, i), None))
        i += threads
    write_sums(sums, 0, thread, s)


@inlined
def _observe(s, state, lam, std, i, start, stop, xi):
    if is_inside(i, start, stop):
        s = add_noisy(s, load_doubles(state, i, 1), load(lam, i, 1), value_at(std, i), xi)
    return s


@for_gpu
def observe(thread, threads, state, lam, std, start, stop, low, high, key_0, key_1, sums):
    """Sums of the noisy gradient of a step go to the first rows."""
    counter = first_counter(start, thread)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = no_noisy(zeros(0.0, 1))
    while counter < last:
        z = normals_of(counter, domains.STEP, low, high, key_0, key_1)
        s = _observe(s, state, lam, std, i, start, stop, z[0])
        s = _observe(s, state, lam, std, i + COUNTERS, start, stop, z[1])
        s = _observe(s, state, lam, std, i + 2 * COUNTERS, start, stop, z[2])
        s = _observe(s, state, lam, std, i + 3 * COUNTERS, start, stop, z[3])
        counter += threads
        i += WORDS * threads
    write_noisy(sums, thread, s)


@inlined
def _write_normal(out, scale, i, z):
    if i < out.size:
        out[i] = scale * horizontal_sum(z)


@for_gpu
def write_normals(out, scale, counter, domain, low, high, key_0, key_1):
    """Set the coordinates of a counter to normals of standard deviation `scale`."""
    z = normals_of(counter, domain, low, high, key_0, key_1)
    i = coordinate_of(counter)
    _write_normal(out, scale, i, z[0])
    _write_normal(out, scale, i + COUNTERS, z[1])
    _write_normal(out, scale, i + 2 * COUNTERS, z[2])
    _write_normal(out, scale, i + 3 * COUNTERS, z[3])


@for_gpu
def add_normals(thread, threads, start, stop, low, num_steps, key_0, key_1):
    """Sum of the normals of a part and some steps: the cost of the noise alone."""
    last = last_counter(stop)
    total = zeros(np.float32(0.0), 1)
    counter = first_counter(start, thread)
    while counter < last:
        for t in range(num_steps):
            z = normals_of(counter, domains.STEP, low + t, 0, key_0, key_1)
            total = total + ((z[0] + z[1]) + (z[2] + z[3]))
        counter += threads
    return horizontal_sum(total)
