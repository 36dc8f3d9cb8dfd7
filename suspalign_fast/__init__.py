"""Suspicious alignment of SGD on quadratics with millions of dimensions.

>>> import suspalign_fast as sa
>>> spectrum = sa.Spectrum.linear_bands(dim=1_000_000, num_dominant=1_000)
>>> problem = sa.Quadratic(spectrum, noise=sa.IsotropicNoise(0.5), initial=10.0)
>>> trace = sa.simulate(problem, step_size=3e-3, num_steps=1_000)  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import theory
from .base import old_paths
from .base.executors import Interrupted
from .base.registry import ENGINES, NOISES, OPTIMIZERS, RULES
from .base.reports import ForkError
from .claims.verify import verify
from .engines.base import Engine
from .kernels.rules import Row
from .model import least_squares
from .model.built_in_steps import CriticalStep, LossIntervalStep, OnlineCriticalStep
from .model.devices import DeviceError
from .model.noise import DataNoise, DiagonalNoise, HessianNoise, IsotropicNoise, Noise, Scaling
from .model.optimizer import SGD, Factors, Momentum, Optimizer
from .model.problem import Quadratic
from .model.spectrum.spectrum import Spectrum
from .model.step_size import (
    AdaptiveStepSize,
    ConstantStep,
    KnownStepSize,
    RowStep,
    Schedule,
    StepSize,
)
from .physics import formulas as _columns  # noqa: F401  (makes the columns that every trace has)
from .physics import row
from .physics.rows import Rows
from .pictures.study import plot_study
from .pictures.trace import plot_trace
from .running.ensemble import estimate, simulate_ensemble
from .running.simulate import resume, simulate
from .studies.reading import open_study
from .studies.sweep import sweep
from .theory import phases
from .traces.trace import Trace
from .traces.trace_file import load_trace

if TYPE_CHECKING:
    from . import network

__version__ = "0.1.0"

__all__ = [
    "ENGINES",
    "NOISES",
    "OPTIMIZERS",
    "RULES",
    "SGD",
    "AdaptiveStepSize",
    "ConstantStep",
    "CriticalStep",
    "DataNoise",
    "DeviceError",
    "DiagonalNoise",
    "Engine",
    "Factors",
    "ForkError",
    "HessianNoise",
    "Interrupted",
    "IsotropicNoise",
    "KnownStepSize",
    "LossIntervalStep",
    "Momentum",
    "Noise",
    "OnlineCriticalStep",
    "Optimizer",
    "Quadratic",
    "Row",
    "RowStep",
    "Rows",
    "Scaling",
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

old_paths.install()


def __getattr__(name: str) -> Any:
    """Load the part for networks, which needs torch, and modules by their old names when used."""
    if name == "network":
        return importlib.import_module(".network", __name__)
    if f"{__name__}.{name}" in old_paths.TODAY:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
