"""Grids of runs: planned, run, stored and read.

=========  ===============================================================
`grid`     axes of points, and the seeds of every point
`cases`    what is run at a point
`table`    what a sweep has found, in memory
`values`   values of a study, read run by run and checked
`arrays`   the same as arrays of xarray
`writing`  the file of a study, which grows run by run
`reading`  reading it, also while a sweep writes
`sweep`    `sweep`
`toml`     studies that a TOML file describes
=========  ===============================================================
"""
