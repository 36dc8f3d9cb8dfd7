"""Steps, jumps and sums of plain SGD on a GPU, and the kernels that fill arrays.

Every block of threads works on one part at a time (``known``).
"""

from numba import cuda, float64

from ...physics.layout import NUM_NOISY, NUM_SUMS, ROW_SIZE
from .. import domains
from ..blocks import FIRST, LAST
from ..jit import SIMULATED, for_gpu, inlined
from ..simd import broadcast, load, load_doubles, store_doubles, write_column, zeros
from ..sums import (
    DRIFT,
    SPREAD,
    add_sums,
    jumped,
    moved,
    no_sums,
    powers,
)
from . import threads
from .known import make_known, make_write_parts
from .threads import Motion, draw_step, make_pass, make_passes, normals_of, value_at
from .together import BLOCKS, LANES, THREADS, Way, add_columns, from_kernel, kernel

#: Steps that `take_tile` applies.
TILE = 4
#: Threads of `add_parts`: one for each sum and lane.
PARTS_THREADS = LANES * ROW_SIZE
#: Threads of `observe`, and of a block under a rule.
RULE_THREADS = 16 if SIMULATED else 512

# Sizes of shared memory, which must be plain constants to Numba.
_RULE_STRIDE = RULE_THREADS + LANES
_NOISY_LANES = NUM_NOISY * LANES


# --- what one thread does ------------------------------------------------------------------------


@inlined
def _fetch(planes, i):
    return load_doubles(planes[0], i, 1)


@inlined
def _keep(planes, i, c):
    store_doubles(planes[0], i, c)


@inlined
def _move(planes, factors, c, lam, std, drift, spread, xi):
    return moved(planes[0], c, broadcast(drift, lam) * lam, broadcast(spread, lam) * std, xi)


@inlined
def _jump(planes, c, i, arrays, xi):
    return jumped(planes[0], c, load(arrays[0], i, 1), load(arrays[1], i, 1), xi)


@inlined
def _draw_jump(counter, stream):
    return normals_of(counter, domains.JUMP, stream[0], stream[1], stream[2], stream[3])


@inlined
def _move_along(planes, factors, c, lam, std, gradient, z):
    eta, gain, rho = gradient
    return _move(planes, factors, c, lam, std, -(eta * gain), -(eta * rho), z)


PLAIN = Motion(_fetch, _keep, _move, _jump, _draw_jump, _move_along, no_sums, powers, add_sums)
_step_pass, _jump_pass, _sum_pass = make_passes(PLAIN)


@for_gpu
def take_step(thread, threads, start, stop, model, drift, spread, stream, sums):
    """Apply one move; sums of the new state go to the first rows."""
    s = _step_pass(thread, threads, start, stop, model, drift, spread, stream)
    write_column(sums, 0, thread, s)


@inlined
def _draw_tile(counter, stream):
    low, high, key_0, key_1 = stream
    z_0 = draw_step(counter, stream)
    z_1 = draw_step(counter, (low + 1, high, key_0, key_1))
    z_2 = draw_step(counter, (low + 2, high, key_0, key_1))
    z_3 = draw_step(counter, (low + 3, high, key_0, key_1))
    return (
        (z_0[0], z_1[0], z_2[0], z_3[0]),
        (z_0[1], z_1[1], z_2[1], z_3[1]),
        (z_0[2], z_1[2], z_2[2], z_3[2]),
        (z_0[3], z_1[3], z_2[3], z_3[3]),
    )


@inlined
def _take_tile(s, i, given, xi):
    planes, factors, lam, std, drifts, spreads = given
    s_0, s_1, s_2, s_3 = s
    lam_i = load(lam, i, 1)
    std_i = value_at(std, i)
    p = powers(lam_i, std_i, None)
    c = _fetch(planes, i)
    c = _move(planes, factors, c, lam_i, std_i, drifts[0], spreads[0], xi[0])
    s_0 = add_sums(s_0, c, p)
    c = _move(planes, factors, c, lam_i, std_i, drifts[1], spreads[1], xi[1])
    s_1 = add_sums(s_1, c, p)
    c = _move(planes, factors, c, lam_i, std_i, drifts[2], spreads[2], xi[2])
    s_2 = add_sums(s_2, c, p)
    c = _move(planes, factors, c, lam_i, std_i, drifts[3], spreads[3], xi[3])
    s_3 = add_sums(s_3, c, p)
    _keep(planes, i, c)
    return s_0, s_1, s_2, s_3


_tile_pass = make_pass(_draw_tile, _take_tile)


@inlined
def _four(moves, t, band, part):
    """One number of each of four moves."""
    return (
        moves[t, band, part],
        moves[t + 1, band, part],
        moves[t + 2, band, part],
        moves[t + 3, band, part],
    )


@for_gpu
def take_tile(thread, threads, start, stop, model, place, stream, sums):
    """Apply TILE steps; the sums of each go to NUM_SUMS rows.

    The moves are those of `place`: an array of them, the first one's index and the band. A
    coordinate stays in registers for all of them.
    """
    planes, factors, lam, std = model
    moves, t, band = place
    drifts, spreads = _four(moves, t, band, DRIFT), _four(moves, t, band, SPREAD)
    none = no_sums(zeros(0.0, 1))
    s = _tile_pass(
        (none, none, none, none), thread, threads, start, stop,
        (planes, factors, lam, std, drifts, spreads), stream,
    )  # fmt: skip
    write_column(sums, 0, thread, s[0])
    write_column(sums, NUM_SUMS, thread, s[1])
    write_column(sums, 2 * NUM_SUMS, thread, s[2])
    write_column(sums, 3 * NUM_SUMS, thread, s[3])


@for_gpu
def take_jump(thread, threads, start, stop, given, stream, sums):
    """Set the state to ``a c + b xi``; sums of the new state go to the first rows."""
    write_column(sums, 0, thread, _jump_pass(thread, threads, start, stop, given, stream))


@for_gpu
def take_sums(thread, threads, start, stop, planes, lam, std, sums):
    """Sums of the state go to the first rows."""
    write_column(sums, 0, thread, _sum_pass(thread, threads, start, stop, planes, lam, std))


# --- kernels of steps of known sizes -------------------------------------------------------------

_take_step = from_kernel(take_step)
_observe = from_kernel(threads.observe)
_write_normals = from_kernel(threads.write_normals)
_add_normals = from_kernel(threads.add_normals)
_advance, _jump_rows, _sum_state = make_known(
    NUM_SUMS, TILE, _take_step, from_kernel(take_tile), from_kernel(take_jump),
    from_kernel(take_sums),
)  # fmt: skip
_write_parts = make_write_parts(ROW_SIZE)


@kernel(PARTS_THREADS)
def add_parts(table, parts, at, out):
    """Write the sums over parts of ``table[:, at[r]]`` to ``out[r]``, one row a block."""
    _write_parts(table, parts, at, out)


@kernel(THREADS, BLOCKS)
def advance(planes, factors, lam, std, parts, moves, low, high, key_0, key_1, table):
    """Apply steps of known moves, a part a block; sums of part p after step t: ``table[p, t]``."""
    _advance((planes, factors, lam, std), parts, moves, (low, high, key_0, key_1), table)


@kernel(THREADS, BLOCKS)
def jump_rows(planes, move, lam, std, parts, lows, highs, key_0, key_1, table):
    """Move one part a block to each of some steps in turn, by the arrays a and b of `move`."""
    _jump_rows((planes, move, lam, std), parts, lows, highs, (key_0, key_1), table)


@kernel(THREADS, BLOCKS)
def sum_state(planes, lam, std, parts, table):
    """Write the sums of the state of part p to ``table[p, 0]``."""
    _sum_state(planes, lam, std, parts, table)


# --- what a rule may ask for ---------------------------------------------------------------------


@kernel(RULE_THREADS)
def observe(state, lam, std, parts, low, high, key_0, key_1, table):
    """Write the sums of the noisy gradient of a step in part p to ``table[p, 0]``."""
    sums = cuda.shared.array((NUM_NOISY, _RULE_STRIDE), float64)
    lanes = cuda.shared.array(_NOISY_LANES, float64)
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    _observe(
        thread, RULE_THREADS, parts[p, FIRST], parts[p, LAST], (state, lam, std),
        (low, high, key_0, key_1), sums,
    )  # fmt: skip
    total = add_columns(sums, lanes, NUM_NOISY, thread, RULE_THREADS)
    if thread < NUM_NOISY:
        table[p, 0, thread] = total


# --- filling arrays ----------------------------------------------------------------------------


@kernel(THREADS)
def fill_normals(out, scale, domain, low, high, key_0, key_1):
    """Set ``out[i] = scale * xi_i(step)``, a counter a thread."""
    _write_normals(out, scale, cuda.grid(1), domain, low, high, key_0, key_1)


@kernel(THREADS)
def spread(values, level_ends, out):
    """Set ``out[i]`` to the value of the level that coordinate i belongs to."""
    i = cuda.grid(1)
    if i < out.size:
        low = 0
        high = level_ends.size
        while low < high:
            middle = (low + high) // 2
            if level_ends[middle] <= i:
                low = middle + 1
            else:
                high = middle
        out[i] = values[low]


@kernel(THREADS, BLOCKS)
def only_normals(parts, low, num_steps, key_0, key_1, out):
    """Make the normals of all parts at some steps and nothing else: the ceiling of `advance`."""
    p = cuda.blockIdx.x
    thread = cuda.threadIdx.x
    out[p, thread] = _add_normals(
        thread, THREADS, parts[p, FIRST], parts[p, LAST], low, num_steps, key_0, key_1
    )


PLAIN_WAY = Way(
    num_sums=NUM_SUMS,
    tile=TILE,
    threads=RULE_THREADS,
    blocks=1,
    take_step=_take_step,
    advance=advance,
    jump_rows=jump_rows,
    sum_state=sum_state,
    add_parts=add_parts,
)
