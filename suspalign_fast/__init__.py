"""Suspicious alignment of SGD on quadratics with millions of dimensions.

>>> import suspalign_fast as sa
>>> spectrum = sa.Spectrum.linear_bands(dim=1_000_000, num_dominant=1_000)
>>> problem = sa.Quadratic(spectrum, noise=sa.IsotropicNoise(0.5), initial=10.0)
>>> trace = sa.simulate(problem, step_size=3e-3, num_steps=1_000)  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import columns as _columns  # noqa: F401  (makes the columns that every trace has)
from . import least_squares, phases, row, theory
from ._errors import ForkError
from .built_in_steps import CriticalStep, LossIntervalStep, OnlineCriticalStep
from .data_noise import DataNoise
from .devices import DeviceError
from .ensemble import simulate_ensemble
from .estimate import estimate
from .kernels.rules import Row
from .noise import DiagonalNoise, HessianNoise, IsotropicNoise, Noise
from .optimizer import SGD, Momentum
from .plot import plot_trace
from .plot_studies import plot_study
from .problem import Quadratic
from .signals import Interrupted
from .simulate import resume, simulate
from .spectrum import Spectrum
from .step_size import ConstantStep, RowStep, Schedule, StepSize
from .study import open_study
from .sweep import sweep
from .trace import Trace
from .trace_file import load_trace
from .verify import verify

if TYPE_CHECKING:
    from . import network

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "ConstantStep",
    "CriticalStep",
    "DataNoise",
    "DeviceError",
    "DiagonalNoise",
    "ForkError",
    "HessianNoise",
    "Interrupted",
    "IsotropicNoise",
    "LossIntervalStep",
    "Momentum",
    "Noise",
    "OnlineCriticalStep",
    "Quadratic",
    "Row",
    "RowStep",
    "Schedule",
    "Spectrum",
    "StepSize",
    "Trace",
    "estimate",
    "least_squares",
    "load_trace",
    "network",
    "open_study",
    "phases",
    "plot_study",
    "plot_trace",
    "resume",
    "row",
    "simulate",
    "simulate_ensemble",
    "sweep",
    "theory",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load the part for networks when it is first used: it needs torch, the rest does not."""
    if name == "network":
        return importlib.import_module(".network", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
