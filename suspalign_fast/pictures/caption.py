"""What a picture says about its run, in words."""

from dataclasses import MISSING, fields

import numpy as np

from ..base.words import drawn
from ..model import texts
from ..model.noise import DataNoise, DiagonalNoise, HessianNoise, IsotropicNoise, Noise
from ..model.run import UPDATES, Run
from ..model.step_size import ConstantStep, ForeignStep, KnownStepSize, RowStep, Schedule, StepSize
from ..theory.expected import levels_needed
from ..traces.trace import Trace

#: Levels, at most, and levels times steps, of exact curves under noise that depends on the state.
MOST_COUPLED, MOST_STEPS = 1_000, 10**7
#: Words for a run that did not reach its end, and for where it stands.
ENDS = {
    "diverged": "diverged after",
    "failed": "failed after",
    "interrupted": "interrupted after",
    "running": "running, at",
}


def title(trace: Trace) -> list[str]:
    """Return the problem's size and gap, in parts that are not to be broken (with mathtext)."""
    if trace.problem is None:
        return [drawn(part) for part in trace.source.split(", ")]
    spectrum = trace.problem.spectrum
    ratio = spectrum.gap_ratio
    gap = "\\infty" if np.isinf(ratio) else f"{ratio:.3g}"
    return [
        f"d = {spectrum.dim:,}",
        f"k = {spectrum.num_dominant:,}",
        f"$\\lambda_k/\\lambda_{{k+1}} = {gap}$",
    ]


def caption(trace: Trace) -> list[str]:
    """Return how the run was made and how it ended, in parts that are not to be broken."""
    if trace.problem is None:
        return [status(trace)]
    run = trace.run
    parts = [f"engine {run.engine}", noise(run.problem.noise), _initial(run), rule(run.step_size)]
    parts += [texts.described_optimizer(run.optimizer)] if run.optimizer.has_velocity else []
    parts += [_update(run.update)] if run.update != UPDATES["full"] else []
    parts += [run.dtype] if run.dtype != "float64" else []
    parts += [f"on {run.device}"] if run.device != "cpu" else []
    return [*parts, f"seed {run.seed}", status(trace)]


def status(trace: Trace) -> str:
    """Return how far the run went and how it ended."""
    if trace.problem is None:
        return f"{len(trace):,} rows, {drawn(trace.status)}"
    steps = f"{trace.run.num_steps:,} steps"
    if trace.status == "complete":
        return f"{steps}, complete"
    if len(trace) == 0:
        return f"{drawn(trace.status)}, no row of {steps}"
    how = ENDS.get(trace.status, f"{drawn(trace.status)} after")
    return f"{how} step {int(trace.step[-1]):,} of {steps}"


def why_no_exact(trace: Trace, most_levels: int) -> str:
    """Return why the exact theory cannot be drawn beside a trace, nothing if it can."""
    if trace.problem is None:
        return "no exact curve: not a quadratic"
    if len(trace) == 0:
        diverged = trace.status == "diverged"
        return "no rows: the initial state is not finite" if diverged else "no rows yet"
    if np.isnan(trace.alignment).all():
        return "no alignment: the gradient is zero"
    rule = trace.run.step_size
    if not isinstance(rule, KnownStepSize):
        return "no exact curve under a rule"
    last = int(trace.step[-1])
    levels = levels_needed(trace.problem, rule, last, trace.run.update, trace.run.optimizer)
    if trace.problem.noise.depends_on_state:  # levels are coupled: by a matrix, or step by step
        most_levels = MOST_COUPLED if type(rule) is ConstantStep else MOST_STEPS // max(last, 1)
    if levels > most_levels:
        return f"no exact curve: {levels:,} levels"
    return "no exact curve: diverged" if trace.status == "diverged" else ""


def noise(model: Noise) -> str:
    """Return a noise model in words."""
    match model:
        case IsotropicNoise(std):
            return f"isotropic noise {std:.4g}"
        case HessianNoise(std):
            return f"Hessian noise {std:.4g}"
        case DataNoise(size, std):
            return f"batches of {size:,}, label noise {std:.4g}"
        case DiagonalNoise():
            low, high = float(model.values.min()), float(model.values.max())
            return f"diagonal noise {low:.3g} to {high:.3g}"
    return f"noise {drawn(type(model).__name__)}"


def rule(step_size: StepSize) -> str:
    """Return a step size or the rule for it in words."""
    match step_size:
        case ConstantStep(value):
            return f"step size {value:.6g}"
        case Schedule():
            low, high = float(step_size.sizes.min()), float(step_size.sizes.max())
            return f"scheduled step size {low:.4g} to {high:.4g}"
        case RowStep():
            return f"step size by {drawn(step_size.function.py_func.__name__)}(row)"
        case ForeignStep(name):
            return f"step size by {drawn(name)}(row)"
    return f"step size by {type(step_size).__name__}({_arguments(step_size)})"


def _arguments(step_size: StepSize) -> str:
    """Return the arguments of a rule that have no default or differ from it."""
    said = []
    for field in fields(step_size):  # type: ignore[arg-type]
        value = getattr(step_size, field.name)
        if field.default is MISSING:
            said.append(f"{value:.6g}")
        elif value != field.default:
            said.append(f"{field.name}={value:.6g}")
    return ", ".join(said)


def _initial(run: Run) -> str:
    initial = run.problem.initial
    return "initial state given" if isinstance(initial, np.ndarray) else f"initial std {initial:g}"


def _update(weights: tuple[float, float]) -> str:
    names = {pair: name for name, pair in UPDATES.items()}
    return f"update {names.get(weights, '({:g}, {:g})'.format(*weights))}"
