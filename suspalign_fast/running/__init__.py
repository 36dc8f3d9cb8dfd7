"""From a run to its trace, safe from kills.

==========  ===============================================================
`cost`      how long a run will take, before it starts
`driver`    the loop of a run: engine, writer, signals and clocks
`simulate`  `simulate` and `resume`
`ensemble`  many independent runs, and estimates from them
==========  ===============================================================
"""
