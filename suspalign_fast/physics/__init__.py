"""A row of sums, and all that follows from it: pure functions.

==========  ===============================================================
`layout`    which sums a row has, and where they lie
`row`       the columns of a trace, recorded and derived
`rows`      recorded rows, computed or measured
`terms`     formulas that step-size rules compile, too
`velocity`  what momentum makes of a row
`rise`      the chance that alignment rises
`formulas`  alignment, critical step size, regime, loss interval, predictions
`batches`   the same under mini-batches of data
==========  ===============================================================
"""
