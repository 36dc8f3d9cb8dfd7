"""Compiled arithmetic: a map of the folder, in the order in which to read it.

A file stands below those it builds on. Kernels know the layout of a row (`physics.layout`) and its
formulas (`physics.terms`), and no class of the model.

Compiling and vectors:

- `jit`: how kernels are compiled, and their cache on disk, which depends on their sources alone.
- `vectors`: vectors of a stated width inside Numba functions, what they are made of.
- `vector_operations`: vectors from and to arrays, and what is done with them.
- `simd`: both, for those who use them.

Noise:

- `domains`: who draws from which numbers of the generator, and which are free.
- `philox`: the counter-based generator, words of 32 bits from a counter and a key.
- `normals`: normals from seed, domain, coordinate and step: one group of 64, or many.
- `chi_square`: a normal and a chi-square of real degrees of freedom a level and step.

Steps:

- `blocks`: how coordinates are cut into parts and blocks, and the three ways to sum.
- `sums`: what a vector of coordinates adds to the sums of a row, without and with a velocity.
- `batches`: a step on a mini-batch of data, as two numbers, and how a batch is drawn.
- `loops`: the loops over a block that stays in cache, and working memory of the threads.

Step-size rules:

- `rules`: the row as a rule sees it, a rule as a function that kernels call, the built-in ones.

Engines:

- `step`: the engine `step` with known sizes, and the sums of a state.
- `rule_steps`: the engine `step` under a rule.
- `powers`: coefficients of moves of many steps.
- `jump`: the engine `jump`, one move a recorded row.
- `levels`: the engine `levels`, one move of a whole level a recorded row.
- `level_steps`: steps of levels under a rule, with a velocity, on mini-batches.

Of each loop there is one, made by a factory without and with a velocity, for additive noise and
for mini-batches; what is exported are its entry points.

The folder `gpu` has the kernels on a GPU.

Exact theory:

- `ratio`: mean and variance of the alignment of independent normals.
- `tail`: tails of differences of sums of squares, for `claims`.
"""
