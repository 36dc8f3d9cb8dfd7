"""Kernels on an NVIDIA GPU: a map of the folder, in the order in which to read it.

- `threads`: what one thread does.
- `together`: what blocks of threads do together, and how their kernels are compiled.
- `plain`: the kernels of `step` and `jump`.
- `velocity`: the same with a velocity.
- `rules`: steps whose sizes a rule chooses.
- `batches`: steps on mini-batches of data.
"""
