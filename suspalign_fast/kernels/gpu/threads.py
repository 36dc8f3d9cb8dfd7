"""What one thread of a GPU does with a part of the coordinates.

A part is coordinates ``start ... stop - 1`` of one band, fewer than 2^32. Thread ``j`` of ``n``, a
multiple of 16, takes every n-th counter of the generator, with its four coordinates. So 16
neighbouring threads touch 64 coordinates in a row. A pass visits each coordinate of the part once.
The thread's sums go to column ``thread`` of ``sums``; the caller adds the columns.

Passes take their arguments in groups:

- ``model``: planes, factors of the optimizer, eigenvalues and standard deviations of the noise.
- ``stream``: the low and the high word of the step, and the two words of the key.
"""

from typing import Any, NamedTuple

import numpy as np

from .. import domains
from ..jit import for_gpu, inlined
from ..normals import COUNTERS, GROUP, counter_normals
from ..simd import broadcast, horizontal_sum, iota, load, load_doubles, write_column, zeros
from ..sums import add_gradient, additive_gradient, no_noisy

#: Coordinates of a counter.
WORDS = GROUP // COUNTERS


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


# --- loops -------------------------------------------------------------------------------------


def make_pass(draw, take):
    """Build a pass of a thread over a part that draws normals.

    Parameters
    ----------
    draw : function
        ``draw(counter, stream)`` returns what each of the four coordinates of a counter gets.
    take : function
        ``take(sums, i, given, drawn)`` changes coordinate i and returns the sums with it.
    """

    @inlined
    def take_inside(sums, i, start, stop, given, drawn):
        if is_inside(i, start, stop):
            sums = take(sums, i, given, drawn)
        return sums

    @inlined
    def run(sums, thread, threads, start, stop, given, stream):
        counter = first_counter(start, thread)
        last = last_counter(stop)
        i = coordinate_of(counter)
        while counter < last:
            z = draw(counter, stream)
            sums = take_inside(sums, i, start, stop, given, z[0])
            sums = take_inside(sums, i + COUNTERS, start, stop, given, z[1])
            sums = take_inside(sums, i + 2 * COUNTERS, start, stop, given, z[2])
            sums = take_inside(sums, i + 3 * COUNTERS, start, stop, given, z[3])
            counter += threads
            i += WORDS * threads
        return sums

    return run


def make_quiet_pass(take):
    """Build a pass without draws, of ``take(sums, i, given)``, over the same coordinates."""

    @inlined
    def run(sums, thread, threads, start, stop, given):
        counter = first_counter(start, thread)
        last = last_counter(stop)
        i = coordinate_of(counter)
        while counter < last:
            for _ in range(WORDS):
                if is_inside(i, start, stop):
                    sums = take(sums, i, given)
                i += COUNTERS
            counter += threads
            i += WORDS * (threads - COUNTERS)
        return sums

    return run


@inlined
def draw_step(counter, stream):
    """Normals of a step of SGD."""
    return normals_of(counter, domains.STEP, stream[0], stream[1], stream[2], stream[3])


# --- steps, jumps and sums, without and with a velocity ------------------------------------------


class Motion(NamedTuple):
    """What a coordinate is and how it moves: a coefficient, or a pair of it and its velocity.

    Attributes
    ----------
    fetch, keep : function
        ``fetch(planes, i)`` reads coordinate i, ``keep(planes, i, x)`` writes it.
    move : function
        ``move(planes, factors, x, lam, std, drift, spread, xi)`` is a step on additive noise.
    jump : function
        ``jump(planes, x, i, arrays, xi)`` is a jump over many steps.
    draw_jump : function
        The normals of a jump, as `make_pass` takes them.
    move_along : function
        ``move_along(planes, factors, x, lam, std, gradient, z)`` is a step on a mini-batch, with
        step size, gain and rho as `gradient`.
    empty, powers, add : function
        Sums of nothing, what serves all steps of a coordinate, and the sums with x added.
    """

    fetch: Any
    keep: Any
    move: Any
    jump: Any
    draw_jump: Any
    move_along: Any
    empty: Any
    powers: Any
    add: Any


def make_passes(motion):
    """Build the passes of a step, a jump and sums alone; each returns the thread's sums."""
    fetch, keep, move, jump, draw_jump, _, empty, powers, add = motion

    @inlined
    def take_step(sums, i, given, xi):
        planes, factors, lam, std, drift, spread = given
        lam_i = load(lam, i, 1)
        std_i = value_at(std, i)
        x = move(planes, factors, fetch(planes, i), lam_i, std_i, drift, spread, xi)
        keep(planes, i, x)
        return add(sums, x, powers(lam_i, std_i, None))

    @inlined
    def take_jump(sums, i, given, xi):
        planes, arrays, lam, std = given
        x = jump(planes, fetch(planes, i), i, arrays, xi)
        keep(planes, i, x)
        return add(sums, x, powers(load(lam, i, 1), value_at(std, i), None))

    run_step = make_pass(draw_step, take_step)
    run_jump = make_pass(draw_jump, take_jump)

    @inlined
    def step(thread, threads, start, stop, model, drift, spread, stream):
        planes, factors, lam, std = model
        given = (planes, factors, lam, std, drift, spread)
        return run_step(empty(zeros(0.0, 1)), thread, threads, start, stop, given, stream)

    @inlined
    def leap(thread, threads, start, stop, given, stream):
        return run_jump(empty(zeros(0.0, 1)), thread, threads, start, stop, given, stream)

    @inlined
    def add_up(thread, threads, start, stop, planes, lam, std):
        sums = empty(zeros(0.0, 1))
        i = start + thread
        while i < stop:
            x = fetch(planes, i)
            sums = add(sums, x, powers(load(lam, i, 1), value_at(std, i), None))
            i += threads
        return sums

    return step, leap, add_up


# --- what else is done to a state --------------------------------------------------------------


@inlined
def _take_gradient(sums, i, given, xi):
    state, lam, std = given
    lam_i = load(lam, i, 1)
    h = additive_gradient(load_doubles(state, i, 1), lam_i, value_at(std, i), 1.0, 1.0, xi)
    return add_gradient(sums, lam_i, h)


_observe = make_pass(draw_step, _take_gradient)


@for_gpu
def observe(thread, threads, start, stop, given, stream, sums):
    """Sums of the noisy gradient of a step go to the first rows; `given` is state, lam and std."""
    none = no_noisy(zeros(0.0, 1))
    write_column(sums, 0, thread, _observe(none, thread, threads, start, stop, given, stream))


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
