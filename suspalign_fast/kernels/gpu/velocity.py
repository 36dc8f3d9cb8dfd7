"""Steps, jumps and sums of coefficients with a velocity on a GPU, as ``plain`` has them without.

``planes`` are c and v, ``factors`` pull, carry and decay of the optimizer. The sums of a band are
those of c^2, then `layout.CROSS_SUMS`, without gaps.
"""

from ...physics.layout import CROSS_COLUMNS, NUM_SUMS, VELOCITY_COLUMNS
from .. import domains
from ..batches import gradient as noisy_gradient
from ..jit import SIMULATED, for_gpu, inlined
from ..jump import velocity_jumped
from ..simd import (
    broadcast,
    choose,
    load,
    load_doubles,
    store_doubles,
    write_column,
    zeros,
)
from ..sums import DRIFT, VELOCITY_DIRECT_WAY, additive_gradient, velocity_moved
from .known import make_known, make_write_parts
from .threads import Motion, draw_step, make_pass, make_passes, normals_of, value_at
from .together import BLOCKS, LANES, THREADS, Way, from_kernel, kernel, width_of

#: Sums of a coordinate.
NUM_VELOCITY_SUMS = NUM_SUMS + len(CROSS_COLUMNS)
#: Steps that `take_velocity_tile` applies: the sums of more would not stay in registers.
VELOCITY_TILE = 2
WIDTH = width_of(NUM_VELOCITY_SUMS)
#: Threads of `add_velocity_parts`: one for each sum and lane.
PARTS_THREADS = LANES * WIDTH

_no_sums, _powers, _add_sums, _ = VELOCITY_DIRECT_WAY
#: Sums in the order of rows here.
_in_order = choose([VELOCITY_COLUMNS.index(at) for at in (*range(NUM_SUMS), *CROSS_COLUMNS)])


# --- what one thread does ------------------------------------------------------------------------


@inlined
def _fetch(planes, i):
    return load_doubles(planes[0], i, 1), load_doubles(planes[1], i, 1)


@inlined
def _keep(planes, i, x):
    store_doubles(planes[0], i, x[0])
    store_doubles(planes[1], i, x[1])


@inlined
def _move_down(planes, factors, x, h, drift):
    """Move along a noisy gradient h."""
    return velocity_moved(
        planes[0], planes[1], x[0], x[1], h, broadcast(drift, h), broadcast(factors[0], h),
        broadcast(factors[1], h), broadcast(factors[2], h),
    )  # fmt: skip


@inlined
def _move(planes, factors, x, lam, std, drift, spread, xi):
    # Noise and gradient take the same part of a move: `spread` equals `drift`.
    return _move_down(planes, factors, x, additive_gradient(x[0], lam, std, 1.0, 1.0, xi), drift)


@inlined
def _move_along(planes, factors, x, lam, std, gradient, z):
    eta, gain, rho = gradient
    h = noisy_gradient(x[0], lam, std, broadcast(gain, lam), broadcast(rho, lam), z)
    return _move_down(planes, factors, x, h, -eta)


@inlined
def _jump(planes, x, i, arrays, xi):
    move = (
        load(arrays[0], i, 1), load(arrays[1], i, 1), load(arrays[2], i, 1), load(arrays[3], i, 1),
        load(arrays[4], i, 1), load(arrays[5], i, 1), load(arrays[6], i, 1),
    )  # fmt: skip
    return velocity_jumped(planes[0], planes[1], x[0], x[1], move, xi[0], xi[1])


@inlined
def _in_pairs(x, y):
    return (x[0], y[0]), (x[1], y[1]), (x[2], y[2]), (x[3], y[3])


@inlined
def _draw_jump(counter, stream):
    low, high, key_0, key_1 = stream
    return _in_pairs(
        normals_of(counter, domains.JUMP, low, high, key_0, key_1),
        normals_of(counter, domains.JUMP_ACROSS, low, high, key_0, key_1),
    )


@inlined
def _add(sums, x, powers):
    return _add_sums(sums, x[0], x[1], powers)


VELOCITY = Motion(_fetch, _keep, _move, _jump, _draw_jump, _move_along, _no_sums, _powers, _add)
_step_pass, _jump_pass, _sum_pass = make_passes(VELOCITY)


@inlined
def _write_sums(out, first, column, sums):
    """Set a column of a table from row `first` on to all sums."""
    write_column(out, first, column, _in_order(sums))


@for_gpu
def take_velocity_step(thread, threads, start, stop, model, drift, spread, stream, sums):
    """Apply one move; sums of the new state go to the first rows."""
    s = _step_pass(thread, threads, start, stop, model, drift, spread, stream)
    _write_sums(sums, 0, thread, s)


@inlined
def _draw_tile(counter, stream):
    low, high, key_0, key_1 = stream
    z_0 = draw_step(counter, stream)
    return _in_pairs(z_0, draw_step(counter, (low + 1, high, key_0, key_1)))


@inlined
def _take_tile(s, i, given, xi):
    planes, factors, lam, std, drifts = given
    s_0, s_1 = s
    lam_i = load(lam, i, 1)
    std_i = value_at(std, i)
    p = _powers(lam_i, std_i, None)
    x = _fetch(planes, i)
    x = _move(planes, factors, x, lam_i, std_i, drifts[0], drifts[0], xi[0])
    s_0 = _add(s_0, x, p)
    x = _move(planes, factors, x, lam_i, std_i, drifts[1], drifts[1], xi[1])
    s_1 = _add(s_1, x, p)
    _keep(planes, i, x)
    return s_0, s_1


_tile_pass = make_pass(_draw_tile, _take_tile)


@for_gpu
def take_velocity_tile(thread, threads, start, stop, model, place, stream, sums):
    """Do as `plain.take_tile`: VELOCITY_TILE steps, of NUM_VELOCITY_SUMS rows each."""
    planes, factors, lam, std = model
    moves, t, band = place
    given = (planes, factors, lam, std, (moves[t, band, DRIFT], moves[t + 1, band, DRIFT]))
    none = _no_sums(zeros(0.0, 1))
    s = _tile_pass((none, none), thread, threads, start, stop, given, stream)
    _write_sums(sums, 0, thread, s[0])
    _write_sums(sums, NUM_VELOCITY_SUMS, thread, s[1])


@for_gpu
def take_velocity_jump(thread, threads, start, stop, given, stream, sums):
    """Move coefficients and velocities by seven arrays; sums go to the first rows."""
    _write_sums(sums, 0, thread, _jump_pass(thread, threads, start, stop, given, stream))


@for_gpu
def take_velocity_sums(thread, threads, start, stop, planes, lam, std, sums):
    """Sums of coefficients and velocities go to the first rows."""
    _write_sums(sums, 0, thread, _sum_pass(thread, threads, start, stop, planes, lam, std))


# --- kernels of steps of known sizes -------------------------------------------------------------

_take_step = from_kernel(take_velocity_step)
_advance, _jump_rows, _sum_state = make_known(
    NUM_VELOCITY_SUMS, VELOCITY_TILE, _take_step, from_kernel(take_velocity_tile),
    from_kernel(take_velocity_jump), from_kernel(take_velocity_sums),
)  # fmt: skip
_write_parts = make_write_parts(WIDTH)


@kernel(PARTS_THREADS)
def add_velocity_parts(table, parts, at, out):
    """Write the sums over parts of ``table[:, at[r]]`` to ``out[r]``, one row a block."""
    _write_parts(table, parts, at, out)


@kernel(THREADS, BLOCKS)
def advance_velocity(planes, factors, lam, std, parts, moves, low, high, key_0, key_1, table):
    """Apply steps of known moves, a part a block; sums of part p after step t: ``table[p, t]``."""
    _advance((planes, factors, lam, std), parts, moves, (low, high, key_0, key_1), table)


@kernel(THREADS, BLOCKS)
def jump_velocity_rows(planes, move, lam, std, parts, lows, highs, key_0, key_1, table):
    """Move one part a block to each of some steps in turn, by the seven arrays of `move`."""
    _jump_rows((planes, move, lam, std), parts, lows, highs, (key_0, key_1), table)


@kernel(THREADS, BLOCKS)
def sum_velocity(planes, lam, std, parts, table):
    """Write the sums of state and velocity of part p to ``table[p, 0]``."""
    _sum_state(planes, lam, std, parts, table)


#: Under a rule fewer threads than plain SGD: the sums of more would not fit into shared memory.
VELOCITY_WAY = Way(
    num_sums=NUM_VELOCITY_SUMS,
    tile=VELOCITY_TILE,
    threads=32 if SIMULATED else 384,
    blocks=1,
    take_step=_take_step,
    advance=advance_velocity,
    jump_rows=jump_velocity_rows,
    sum_state=sum_velocity,
    add_parts=add_velocity_parts,
)
