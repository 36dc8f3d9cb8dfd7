"""What one thread of a GPU does with a block of the plan in steps on mini-batches of data.

As ``gpu_thread``, but with blocks of the plan (``plan``) instead of parts, since each of them has a
normal of its own along its state (``data_steps``). Thread `column` of `columns`, a multiple of 16,
first draws its coordinates' normals, which it keeps in ``normals[at + i]`` of coordinate i, and
adds up its share of ``v'z``; once that is known of the whole block, it moves them. ``planes`` and
``factors`` are as in ``gpu_velocity_thread``; eigenvalues are made from their roots, ``std``.

Sums are added up over several blocks in tuples of float64.
"""

from . import domains
from .coordinates import (
    add_gradient,
    add_sums,
    moved,
    no_noisy,
    no_sums,
    powers,
    velocity_moved,
)
from .data_noise import add_product, gradient
from .gpu_thread import (
    WORDS,
    coordinate_of,
    first_counter,
    is_inside,
    last_counter,
    normals_of,
)
from .jit import for_gpu, inlined
from .momentum_sums import DIRECT_WAY
from .normals import COUNTERS, GROUP
from .simd import (
    broadcast,
    horizontal_sum,
    load,
    load_doubles,
    store,
    store_doubles,
    to_double,
    zeros,
)

_no_velocity_sums, _velocity_powers, _add_velocity_sums, _ = DIRECT_WAY


# --- normals -------------------------------------------------------------------------------------


@inlined
def _draw(total, state, std, i, start, stop, normals, at, z):
    if is_inside(i, start, stop):
        store(normals, at + i, z)
        total = add_product(total, load_doubles(state, i, 1), load(std, i, 1), z)
    return total


@for_gpu
def draw_block(column, columns, state, std, start, stop, low, high, key_0, key_1, normals, at):
    """Write a thread's normals of a block; return its share of ``v'z``."""
    counter = first_counter(start, column)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = zeros(0.0, 1)
    while counter < last:
        z = normals_of(counter, domains.STEP, low, high, key_0, key_1)
        s = _draw(s, state, std, i, start, stop, normals, at, z[0])
        s = _draw(s, state, std, i + COUNTERS, start, stop, normals, at, z[1])
        s = _draw(s, state, std, i + 2 * COUNTERS, start, stop, normals, at, z[2])
        s = _draw(s, state, std, i + 3 * COUNTERS, start, stop, normals, at, z[3])
        counter += columns
        i += WORDS * columns
    return horizontal_sum(s)


@inlined
def _normal_at(i, domain, low, high, key_0, key_1):
    """Normal of one coordinate."""
    counter = i // GROUP * COUNTERS + i % COUNTERS
    z = normals_of(counter, domain, low, high, key_0, key_1)
    word = i % GROUP // COUNTERS
    lower = z[0] if word == 0 else z[1]
    upper = z[2] if word == 2 else z[3]
    return horizontal_sum(to_double(lower if word < 2 else upper))


@for_gpu
def draw_along(column, columns, first, last, low, high, key_0, key_1, norms, xi):
    """Write a thread's normals of blocks ``first ... last - 1`` along their states.

    Returns its share of w.
    """
    total = 0.0
    block = first + column
    while block < last:
        xi[block] = _normal_at(block, domains.BATCH_BLOCK, low, high, key_0, key_1)
        total += norms[block] * xi[block]
        block += columns
    return total


# --- steps ---------------------------------------------------------------------------------------


@inlined
def _take(s, moves, state, std, i, start, stop, drift, spread, normals, at):
    if is_inside(i, start, stop):
        std_i = load(std, i, 1)
        lam_i = std_i * std_i
        c = load_doubles(state, i, 1)
        if moves:
            a = broadcast(drift, lam_i) * lam_i
            b = broadcast(spread, lam_i) * std_i
            c = moved(state, c, a, b, load(normals, at + i, 1))
            store_doubles(state, i, c)
        s = add_sums(s, c, powers(lam_i, std_i, None))
    return s


@for_gpu
def take_block(
    moves, column, columns, planes, factors, std, start, stop, eta, gain, rho, normals, at, totals,
    sums, row,
):  # fmt: skip
    """Move a block along its gradient if it moves; return `totals` with the sums of it added.

    Its S_1 alone goes to ``sums[row, column]``.
    """
    drift, spread = -(eta * gain), -(eta * rho)
    counter = first_counter(start, column)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = no_sums(zeros(0.0, 1))
    while counter < last:
        for _ in range(WORDS):
            s = _take(s, moves, planes[0], std, i, start, stop, drift, spread, normals, at)
            i += COUNTERS
        counter += columns
        i += WORDS * (columns - COUNTERS)
    sums[row, column] = horizontal_sum(s[0])
    return (
        totals[0] + horizontal_sum(s[0]),
        totals[1] + horizontal_sum(s[1]),
        totals[2] + horizontal_sum(s[2]),
        totals[3] + horizontal_sum(s[3]),
        totals[4] + horizontal_sum(s[4]),
        totals[5] + horizontal_sum(s[5]),
        totals[6] + horizontal_sum(s[6]),
    )


@inlined
def _take_velocity(s, moves, planes, factors, std, i, start, stop, drift, gain, rho, normals, at):
    if is_inside(i, start, stop):
        std_i = load(std, i, 1)
        lam_i = std_i * std_i
        c = load_doubles(planes[0], i, 1)
        v = load_doubles(planes[1], i, 1)
        if moves:
            z = load(normals, at + i, 1)
            h = gradient(c, lam_i, std_i, broadcast(gain, c), broadcast(rho, c), z)
            c, v = velocity_moved(
                planes[0], planes[1], c, v, h, broadcast(drift, c), broadcast(factors[0], c),
                broadcast(factors[1], c), broadcast(factors[2], c),
            )  # fmt: skip
            store_doubles(planes[0], i, c)
            store_doubles(planes[1], i, v)
        s = _add_velocity_sums(s, c, v, _velocity_powers(lam_i, std_i, None))
    return s


@for_gpu
def take_velocity_block(
    moves, column, columns, planes, factors, std, start, stop, eta, gain, rho, normals, at, totals,
    sums, row,
):  # fmt: skip
    """Do as `take_block` with a velocity; sums are in the order of ``gpu_velocity_thread``."""
    counter = first_counter(start, column)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = _no_velocity_sums(zeros(0.0, 1))
    while counter < last:
        for _ in range(WORDS):
            s = _take_velocity(
                s, moves, planes, factors, std, i, start, stop, -eta, gain, rho, normals, at
            )
            i += COUNTERS
        counter += columns
        i += WORDS * (columns - COUNTERS)
    sums[row, column] = horizontal_sum(s[0])
    return (
        totals[0] + horizontal_sum(s[0]),
        totals[1] + horizontal_sum(s[1]),
        totals[2] + horizontal_sum(s[2]),
        totals[3] + horizontal_sum(s[3]),
        totals[4] + horizontal_sum(s[4]),
        totals[5] + horizontal_sum(s[5]),
        totals[6] + horizontal_sum(s[6]),
        totals[7] + horizontal_sum(s[7]),
        totals[8] + horizontal_sum(s[8]),
        totals[9] + horizontal_sum(s[9]),
        totals[10] + horizontal_sum(s[12]),
        totals[11] + horizontal_sum(s[13]),
        totals[12] + horizontal_sum(s[10]),
        totals[13] + horizontal_sum(s[11]),
        totals[14] + horizontal_sum(s[14]),
    )


@inlined
def _observe(s, state, std, i, start, stop, gain, rho, normals, at):
    if is_inside(i, start, stop):
        std_i = load(std, i, 1)
        lam_i = std_i * std_i
        c = load_doubles(state, i, 1)
        z = load(normals, at + i, 1)
        h = gradient(c, lam_i, std_i, broadcast(gain, c), broadcast(rho, c), z)
        s = add_gradient(s, lam_i, h)
    return s


@for_gpu
def observe_block(column, columns, state, std, start, stop, gain, rho, normals, at, totals):
    """Return `totals` with the sums of a block's gradient added."""
    counter = first_counter(start, column)
    last = last_counter(stop)
    i = coordinate_of(counter)
    s = no_noisy(zeros(0.0, 1))
    while counter < last:
        for _ in range(WORDS):
            s = _observe(s, state, std, i, start, stop, gain, rho, normals, at)
            i += COUNTERS
        counter += columns
        i += WORDS * (columns - COUNTERS)
    return (
        totals[0] + horizontal_sum(s[0]),
        totals[1] + horizontal_sum(s[1]),
        totals[2] + horizontal_sum(s[2]),
    )


# --- sums of a column: constant places, so that totals stay in registers -------------------------


@inlined
def _add(sums, row, column, total, is_first):
    before = 0.0 if is_first else sums[row, column]
    sums[row, column] = before + total


@for_gpu
def add_noisy_totals(sums, column, totals, is_first):
    """Add totals of `observe_block` to a column of the first rows, or set it."""
    _add(sums, 0, column, totals[0], is_first)
    _add(sums, 1, column, totals[1], is_first)
    _add(sums, 2, column, totals[2], is_first)


@for_gpu
def add_totals(sums, column, totals, is_first):
    """Add totals of `take_block` to a column of the first rows, or set it."""
    _add(sums, 0, column, totals[0], is_first)
    _add(sums, 1, column, totals[1], is_first)
    _add(sums, 2, column, totals[2], is_first)
    _add(sums, 3, column, totals[3], is_first)
    _add(sums, 4, column, totals[4], is_first)
    _add(sums, 5, column, totals[5], is_first)
    _add(sums, 6, column, totals[6], is_first)


@for_gpu
def add_velocity_totals(sums, column, totals, is_first):
    """Add totals of `take_velocity_block` to a column of the first rows, or set it."""
    _add(sums, 0, column, totals[0], is_first)
    _add(sums, 1, column, totals[1], is_first)
    _add(sums, 2, column, totals[2], is_first)
    _add(sums, 3, column, totals[3], is_first)
    _add(sums, 4, column, totals[4], is_first)
    _add(sums, 5, column, totals[5], is_first)
    _add(sums, 6, column, totals[6], is_first)
    _add(sums, 7, column, totals[7], is_first)
    _add(sums, 8, column, totals[8], is_first)
    _add(sums, 9, column, totals[9], is_first)
    _add(sums, 10, column, totals[10], is_first)
    _add(sums, 11, column, totals[11], is_first)
    _add(sums, 12, column, totals[12], is_first)
    _add(sums, 13, column, totals[13], is_first)
    _add(sums, 14, column, totals[14], is_first)
