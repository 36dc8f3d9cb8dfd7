"""Compiled kernels: a map of the folder, in the order in which to read it.

A file stands below those it builds on.

Compiling and vectors:

- `jit`: how kernels are compiled, and their cache on disk, which depends on this folder alone.
- `vectors`: vectors of a stated width inside Numba functions, what they are made of.
- `vector_memory`: vectors from and to arrays.
- `vector_arithmetic`: what is done with them.
- `simd`: all three, for those who use them.

Noise:

- `philox`: the counter-based generator, words of 32 bits from a counter and a key.
- `box_muller`: two words to two standard normals, in float32.
- `domains`: who draws from which numbers of the generator, and which are free.
- `normals`: normals of a group of 64 coordinates, from seed, domain, group and step.
- `batch`: normals of many groups at one step, in two loops.
- `chi_square`: a normal and a chi-square of real degrees of freedom a level and step.
- `level_draws`: both for all levels of a step.

Steps:

- `move`: a step as two numbers a band.
- `plan`: how coordinates are cut into parts and blocks, and the three ways to sum.
- `coordinates`: a vector of coordinates, its step and what it adds to the sums of a row.
- `block`: the loops over a block that stays in cache.
- `momentum_sums`: what a vector with a velocity adds to the sums of a row.
- `edges`: where a block finds its numbers, one that is cut short in a buffer.
- `work`: working memory of the threads.

Step-size rules:

- `rules`: the row as a rule sees it, and a rule as a function that kernels call.
- `row_terms`: formulas of a row, for rules and for `power_sums`.
- `built_in_rules`: the rules of the package.

Engines:

- `small`: steps under a rule of a problem with one block a band.
- `advance`: the engine `step`, of known sizes and under a rule.
- `momentum`: the engine `step` with a velocity.
- `powers`: coefficients of moves of many steps.
- `double_double`: numbers of twice the digits.
- `momentum_powers`: coefficients of moves of many steps with momentum.
- `jump`: the engine `jump`, one move a recorded row.
- `momentum_jump`: the engine `jump` with a velocity.
- `levels`: the engine `levels`, one move of a whole level.
- `data_noise`: a step on a mini-batch of data, as the two numbers of a move.
- `data_steps`: the engine `step` on mini-batches, one pass over the state a step.
- `momentum_batches`: the engine `step` with a velocity on mini-batches.
- `data_levels`: the engine `levels` on mini-batches.
- `momentum_levels`: the engine `levels` with a velocity.
- `gpu_thread`: what one thread of a GPU does.
- `gpu_velocity_thread`: the same with a velocity.
- `gpu_block`: what blocks of threads do together, and how their kernels are compiled.
- `gpu`: the kernels of `step` and `jump` there.
- `gpu_velocity`: the same with a velocity.
- `gpu_rules`: steps whose sizes a rule chooses.
- `gpu_batches_thread`: what one thread of a GPU does in steps on mini-batches of data.
- `gpu_batches`: the kernel of these steps.

Exact theory:

- `ratio`: mean and variance of the alignment of independent normals.
- `tail`: tails of differences of sums of squares, for `verify`.
"""
