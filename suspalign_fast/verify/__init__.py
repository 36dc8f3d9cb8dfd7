"""Test the paper's claims on a problem, step by step, against what they predict.

Every claim is a test with a stated false-alarm rate, `FALSE_ALARM`: where a claim is true and the
simulation right, it is said to fail in at most so many cases. What chance allows is known, because
a step is Gaussian: given a state, or at a time, every sum of squares is one of independent normals
of known means and variances, whose tails `kernels.tail` computes.

==================  ===============================================================
`claims`            claims, evidence, verdicts
`signs`             signs of single steps, and p-values
`probed`            what an engine must offer
`step_law`          exact chances of what a step does
`batch_law`         the same under mini-batches of data
`trials`            steps tried at a state
`loss_interval`     steps projected on one band
`probe`             what is tried at the states of plain SGD
`row_claims`        rows of momentum against what steps do: means, deviations, rises
`probe_velocity`    what is tried with momentum: all four cases of a row
`two_phases`        a run against its exact law
`batch_steps`       the steps of a run on mini-batches against what rows predict
`run`               `verify`
==================  ===============================================================
"""

from .claims import FALSE_ALARM, Claim, Report
from .probed import probed_engines
from .run import verify
from .signs import at_least

#: Names of the engines that `verify` takes.
ENGINES = probed_engines()

__all__ = ["ENGINES", "FALSE_ALARM", "Claim", "Report", "at_least", "verify"]
