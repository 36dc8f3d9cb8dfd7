"""What is measured of the package: an engine that is built, compiled and ready to advance."""

from functools import partial

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run

STEP_SIZE = 3e-3
#: More steps than any benchmark takes.
ENDLESS = 10**12


def two_bands(dim, num_dominant=None, noise=None):
    """Return the problem of most benchmarks: distinct eigenvalues in two bands."""
    spectrum = sa.Spectrum.linear_bands(dim, num_dominant or max(1, min(1000, dim // 10)))
    return sa.Quadratic(spectrum, noise or sa.IsotropicNoise(0.5), initial=10.0)


def ready_engine(problem, step_size=STEP_SIZE, **options):
    """Return an engine whose next steps are the first ones."""
    rule = sa.ConstantStep(step_size) if isinstance(step_size, float) else step_size
    engine = make_engine(Run(problem, rule, ENDLESS, **options))
    engine.initial_row()
    return engine


def advancing(problem, num_steps, step_size=STEP_SIZE, **options):
    """Return a function that does the next `num_steps` steps of an engine."""
    return partial(ready_engine(problem, step_size, **options).advance, num_steps)
