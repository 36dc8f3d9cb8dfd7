"""Rows in memory and in files.

============  ===============================================================
`trace`       a trace: one row a recorded step, its columns, and its course in a few numbers
`exact`       how exact theory is marked in a dataset
`labelled`    columns as labelled arrays (xarray, netCDF)
`trace_file`  reading the files of traces
`writers`     where the rows of a run go: memory, a file, a file beside the engine
`checkpoint`  what an engine needs to go on
============  ===============================================================
"""
