"""The paper's claims, tested on a problem step by step (``sa.verify``).

Every claim is a test with a stated false-alarm rate, `FALSE_ALARM`: where a claim is true and the
simulation right, it is said to fail in at most so many cases. What chance allows is known, because
a step is Gaussian: given a state, or at a time, every sum of squares is one of independent normals
of known means and variances, whose tails `kernels.tail` computes.

==============  ===============================================================
`evidence`      claims, verdicts, signs of single steps and their p-values
`laws`          exact chances of what a step does
`trials`        steps tried at a state
`single_steps`  what is claimed of single steps, of plain SGD and with momentum
`whole_runs`    a run against its exact law, and against what its rows predict
`verify`        `verify`
==============  ===============================================================
"""

from .evidence import FALSE_ALARM, Claim, Report, at_least
from .laws import probed_engines
from .verify import verify

#: Names of the engines that `verify` takes.
ENGINES = probed_engines()

__all__ = ["ENGINES", "FALSE_ALARM", "Claim", "Report", "at_least", "verify"]
