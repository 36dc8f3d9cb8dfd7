"""Steps under a rule of a problem with one block a band: all is looked up once, not every step.

Both blocks take their normals from one buffer, and where the rule observes the noisy gradient of a
step, the step takes the normals that the rule has seen. The numbers are those of ``advance``.
"""

import numpy as np

from ..row import NOISY_AT, NUM_BANDS, NUM_NOISY, ROW_SIZE
from . import domains
from .batch import BATCH, make_scratch, write_normals
from .block import observe_block, step_once
from .edges import block_values, coefficients_of, groups_of, load_edges, return_edges
from .jit import inlined, kernel
from .move import DRIFT, NUM_PARTS, SPREAD, set_move
from .normals import GROUP
from .plan import KIND, LAM, STD, STOP, Plan
from .rules import finish_step, is_finite


def is_small(plan: Plan) -> bool:
    """Whether there is one block a band, and one buffer holds the normals of both."""
    return bool(plan.blocks.shape[0] == NUM_BANDS and plan.blocks[1, STOP] <= BATCH * GROUP)


@inlined
def _block(state, plan, b, edges, normals):
    """What a step needs of a block: kind, coefficients, lambda, s, normals, groups, weights."""
    first, groups = groups_of(plan, b)
    return (
        plan.blocks[b, KIND],
        coefficients_of(state, plan, b, edges),
        block_values(plan.blocks[b, LAM], plan.lam, plan.shared),
        block_values(plan.blocks[b, STD], plan.std, plan.shared),
        normals[GROUP * first :],
        groups,
        plan.moment_weights[b],
    )


@kernel()
def advance_small(state, plan, first_step, num_steps, ruling, record, key_0, key_1):
    """Apply steps whose sizes a rule chooses; as ``advance_adaptive``."""
    edges = load_edges(state, plan)
    scratch = make_scratch(key_0, key_1)
    rule, observes, memory, sums, step_size, weights = ruling
    wanted, out, out_steps, out_sizes = record
    normals = np.empty((BATCH + 1) * GROUP, np.float32)
    kind_d, c_d, lam_d, std_d, normals_d, groups_d, moments_d = _block(
        state, plan, 0, edges, normals
    )
    kind_b, c_b, lam_b, std_b, normals_b, groups_b, moments_b = _block(
        state, plan, 1, edges, normals
    )
    groups = (plan.blocks[1, STOP] - 1) // GROUP + 1
    moves = np.empty((1, NUM_BANDS, NUM_PARTS))
    row = np.empty((NUM_BANDS, ROW_SIZE))
    row_d, row_b = row[0], row[1]
    noisy = sums[:, NOISY_AT : NOISY_AT + NUM_NOISY]
    noisy_d, noisy_b = noisy[0], noisy[1]
    are_drawn = False
    rows = 0
    done = 0
    good = True
    while good and done < num_steps:
        if not are_drawn:
            write_normals(normals, 0, 0, groups, domains.STEP, first_step + done, scratch)
        set_move(moves, 0, step_size[0], weights)
        row[:] = 0.0
        step_once(
            kind_d, c_d, lam_d, std_d, moves[0, 0, DRIFT], moves[0, 0, SPREAD], normals_d,
            groups_d, moments_d, row_d,
        )  # fmt: skip
        step_once(
            kind_b, c_b, lam_b, std_b, moves[0, 1, DRIFT], moves[0, 1, SPREAD], normals_b,
            groups_b, moments_b, row_b,
        )  # fmt: skip
        done += 1
        are_drawn = False
        if observes and is_finite(row):
            write_normals(normals, 0, 0, groups, domains.STEP, first_step + done, scratch)
            are_drawn = True
            noisy[:] = 0.0
            observe_block(c_d, lam_d, std_d, normals_d, groups_d, noisy_d)
            observe_block(c_b, lam_b, std_b, normals_b, groups_b, noisy_b)
        good, rows = finish_step(
            first_step + done, row, rule, memory, sums, step_size, wanted, rows, out, out_steps,
            out_sizes,
        )  # fmt: skip
    return_edges(edges, state, plan, 0, NUM_BANDS)
    return done, rows
