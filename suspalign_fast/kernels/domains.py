"""Counter domains: what draws random numbers owns one, so that no two draws share a number.

A domain is the lower half of one 32-bit word of the counter (``normals``). Numbers of a domain are
a function of (seed, coordinate, step); a new use takes the first free domain and changes no other.
"""

INITIAL = 0
STEP = 1
JUMP = 2
#: Attempt n of a level draws from domain LEVEL_STEP + n.
LEVEL_STEP = 3
#: More attempts have a chance below 1e-80: each accepts nineteen candidates of twenty.
LEVEL_ATTEMPTS = 64
#: Attempt n of the chi-square of a batch of data draws from domain BATCH_STEP + n.
BATCH_STEP = LEVEL_STEP + LEVEL_ATTEMPTS
#: The noise of a batch along each block of the state.
BATCH_BLOCK = BATCH_STEP + LEVEL_ATTEMPTS
#: The noise of a level along what its velocity has beside its coefficients.
LEVEL_ACROSS = BATCH_BLOCK + 1
#: The second normal of a jump with a velocity; the first is that of JUMP.
JUMP_ACROSS = LEVEL_ACROSS + 1
#: Nobody draws from this domain or any later one.
FREE = JUMP_ACROSS + 1
