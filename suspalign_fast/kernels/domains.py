"""Counter domains: what draws random numbers owns one, so that no two draws share a number.

A domain is one 32-bit word of the counter (``normals``). Numbers of a domain are a function of
(seed, coordinate, step); a new use takes the first free domain and changes no other.
"""

INITIAL = 0
STEP = 1
JUMP = 2
LEVEL_NORMAL = 3
#: Attempt n of a chi-square draws its normals from LEVEL_GAMMA + 2 n, its uniforms from the next.
LEVEL_GAMMA = 4
#: More attempts have a chance below 1e-80: each accepts nineteen candidates of twenty.
LEVEL_GAMMA_ATTEMPTS = 64
#: Uniforms that chi-squares of less than two degrees of freedom take beside.
LEVEL_BOOST = LEVEL_GAMMA + 2 * LEVEL_GAMMA_ATTEMPTS
#: Nobody draws from this domain or any later one.
FREE = LEVEL_BOOST + 1
