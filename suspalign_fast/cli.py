"""The command line: ``suspalign run``, ``resume``, ``verify``, ``info`` and ``plot``."""

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numba
import numpy as np
from tqdm import tqdm

from . import __version__, _checks, devices
from ._column import COMPRESSIONS
from .cost import estimate_seconds, faster_engine, seconds_per_normal
from .datasets import digits_mlp_path
from .noise import HessianNoise, IsotropicNoise
from .problem import Quadratic
from .run import DTYPES, ENGINES, Run, update_weights
from .simulate import Interrupted, resume, simulate
from .spectrum import Spectrum
from .step_size import CriticalStep, LossIntervalStep, OnlineCriticalStep, StepSize, as_step_size
from .store import load_trace
from .trace import COLUMNS, Trace
from .verify import ENGINES as VERIFY_ENGINES
from .verify import verify

RULES: dict[str, Any] = {
    "critical": CriticalStep,
    "interval": LossIntervalStep,
    "online": OnlineCriticalStep,
}
#: Seconds between two looks at a running trace.
FOLLOW_SECONDS = 0.5
NOISES: dict[str, Any] = {"isotropic": IsotropicNoise, "hessian": HessianNoise}


def _one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the errors of bad input into one line and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError, MemoryError, OverflowError, devices.DeviceError) as error:
            text = str(error) or type(error).__name__
            raise click.ClickException(" ".join(text.split())) from None
        except Exception as error:
            if not devices.is_from_driver(error):
                raise
            text = " ".join(str(error).split()) or type(error).__name__
            raise click.ClickException(f"the GPU failed: {text}") from None
        except Interrupted as stop:
            click.echo(str(stop), err=True)
            raise SystemExit(130) from None

    return wrapped


def _problem_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that describe a problem."""
    options = (
        click.option(
            "--spectrum",
            "spectrum_file",
            type=click.Path(path_type=Path),
            help="Spectrum file (Spectrum.save).  [default: the shipped spectrum of a network]",
        ),
        click.option(
            "--noise", type=click.Choice(list(NOISES)), default="hessian", help="Noise model."
        ),
        click.option("--noise-std", type=float, default=0.3, help="Noise standard deviation."),
        click.option("--initial", type=float, default=10.0, help="Std of initial coefficients."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="suspalign")
def main() -> None:
    """Suspicious alignment of SGD on quadratics with millions of dimensions."""


@main.command()
@_problem_options
@click.option(
    "--step-size",
    default="0.1",
    help="Step size eta, or a rule: critical:FRACTION, interval:POSITION, online:FRACTION.",
)
@click.option("--steps", type=int, default=40_000, help="Number of SGD steps.")
@click.option("--seed", type=int, default=0, help="Seed of the counter-based generator.")
@click.option("--record-every", type=int, default=1, help="Record every n-th step.")
@click.option("--rows", type=int, help="Record about so many steps, logarithmically spaced.")
@click.option("--engine", type=click.Choice(ENGINES), default="step", help="Engine.")
@click.option(
    "--device",
    type=click.Choice((*devices.DEVICES, "auto")),
    default="cpu",
    help="Where the engine runs; auto is a GPU where one is usable.",
)
@click.option("--dtype", type=click.Choice(DTYPES), default="float64", help="Type of the state.")
@click.option("--update", default="full", help="full, dominant, bulk or two weights '1,0.5'.")
@click.option("--threads", type=int, help="Number of threads.  [default: all]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("trace.h5"), help="Trace file."
)
@click.option("--overwrite", is_flag=True, help="Replace existing output files.")
@click.option(
    "--compression", type=click.Choice(COMPRESSIONS), default="gzip", help="Filter of the trace."
)
@click.option("--plot/--no-plot", default=True, help="Write a PNG beside the trace.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@_one_line_errors
def run(
    spectrum_file: Path | None,
    noise: str,
    noise_std: float,
    initial: float,
    step_size: str,
    steps: int,
    seed: int,
    record_every: int,
    rows: int | None,
    engine: str,
    device: str,
    dtype: str,
    update: str,
    threads: int | None,
    output: Path,
    overwrite: bool,
    compression: str,
    plot: bool,
    quiet: bool,
) -> None:
    """Simulate SGD and write trace and picture.

    Without arguments: the shipped Hessian spectrum of a real network in its full dimension.
    """
    source = digits_mlp_path() if spectrum_file is None else spectrum_file
    if output.suffix == ".png" or not output.name:
        raise ValueError(f"--output must name the trace, not its picture, got '{output}'")
    picture = output.with_suffix(".png")
    if plot and picture.exists() and not overwrite:
        raise FileExistsError(f"{picture} already exists; use --overwrite or another --output")
    rule = _parse_step_size(step_size)
    where = devices.resolve(device, engine)
    problem = _problem(source, noise, noise_std, initial)
    spectrum = problem.spectrum
    click.echo(f"spectrum   {source.name}: {_describe_spectrum(spectrum)}")
    click.echo(
        f"run        {steps:,} steps of size {step_size}, {noise} noise {noise_std:g}, "
        f"initial std {initial:g}, seed {seed}"
    )
    plan = Run(
        problem,
        as_step_size(rule),
        steps,
        seed=seed,
        record_every=record_every,
        record_at=None if rows is None else _logarithmic(rows, steps),
        engine=engine,
        device=where,
        dtype=dtype,
        update=update_weights(_parse_update(update)),
    )
    if where == "cuda":
        click.echo(f"device     {devices.describe()}")
    else:
        _echo_estimate(plan, threads)
    started = time.perf_counter()
    trace = simulate(
        problem,
        plan.step_size,
        steps,
        seed=seed,
        record_every=record_every,
        record_at=plan.record_at,
        engine=engine,
        device=where,
        dtype=dtype,
        update=plan.update,
        path=output,
        overwrite=overwrite,
        compression=compression,
        num_threads=threads,
        progress=not quiet,
    )
    elapsed = time.perf_counter() - started
    rate = (int(trace.step[-1]) if len(trace) else 0) / elapsed
    click.echo(
        f"time       {elapsed:.1f} s, {rate:,.0f} steps/s, {rate * spectrum.dim:.3g} coordinate "
        f"steps/s on {_workers(where, threads)}"
    )
    _summarize(trace)
    files = [f"{output} ({_size(output)})"]
    if plot:
        from .plot import plot_trace

        plot_trace(trace, picture)
        files.append(f"{picture} ({_size(picture)})")
    click.echo(f"files      {', '.join(files)}")


@main.command("resume")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--steps", type=int, help="New length of the run.  [default: the old one]")
@click.option(
    "--device",
    type=click.Choice((*devices.DEVICES, "auto")),
    help="Where to go on.  [default: where the run was]",
)
@click.option("--threads", type=int, help="Number of threads.  [default: all]")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@_one_line_errors
def resume_command(
    file: Path, steps: int | None, device: str | None, threads: int | None, quiet: bool
) -> None:
    """Go on with the interrupted run of a trace FILE, or extend a complete one."""
    trace = resume(file, num_steps=steps, device=device, num_threads=threads, progress=not quiet)
    _summarize(trace)
    click.echo(f"files      {file} ({_size(file)})")


@main.command("verify")
@_problem_options
@click.option("--step-size", type=float, default=0.1, help="Step size of the run.")
@click.option("--steps", type=int, default=20_000, help="Length of the run.")
@click.option("--states", type=int, default=60, help="States at which steps are tried.")
@click.option("--repeats", type=int, default=6, help="Noise draws for each step size tried.")
@click.option("--seed", type=int, default=0, help="Seed of the counter-based generator.")
@click.option("--engine", type=click.Choice(VERIFY_ENGINES), default="step", help="Engine.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@_one_line_errors
def verify_command(
    spectrum_file: Path | None,
    noise: str,
    noise_std: float,
    initial: float,
    step_size: float,
    steps: int,
    states: int,
    repeats: int,
    seed: int,
    engine: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Test the paper's claims on a problem, step by step; exit status 1 if one fails.

    A step is evidence where its exact law makes one sign rarer than 1.35e-3. A claim fails if
    chance alone would make its evidence as bad in fewer than 1 of 10,000 cases: that is the rate
    of false alarms, for each of the five claims.
    """
    source = digits_mlp_path() if spectrum_file is None else spectrum_file
    problem = _problem(source, noise, noise_std, initial)
    if not as_json:
        click.echo(f"spectrum   {source.name}: {_describe_spectrum(problem.spectrum)}")
    report = verify(
        problem,
        step_size,
        steps,
        states=states,
        repeats=repeats,
        seed=seed,
        engine=engine,
        progress=not quiet,
    )
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else report)
    if report.failed:
        raise SystemExit(1)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--follow", is_flag=True, help="Show the progress of a run until it ends.")
@_one_line_errors
def info(file: Path, follow: bool) -> None:
    """Print what a trace FILE holds, also while a run writes it."""
    trace = _follow(file) if follow else load_trace(file)
    spec = trace.spec
    click.echo(f"file       {file} ({_size(file)})")
    click.echo(f"status     {trace.status}, {len(trace):,} of {trace.run.num_rows:,} rows")
    click.echo(f"spectrum   {_describe_spectrum(trace.run.problem.spectrum)}")
    for name in ("engine", "device", "noise", "initial", "step_size", "update", "num_steps"):
        click.echo(f"{name:<10} {_plain(spec[name])}")
    given = trace.run.record_at is not None
    every = "at given steps" if given else f"every {spec['record_every']} steps"
    click.echo(f"{'seed':<10} {spec['seed']}, recorded {every}")
    click.echo(f"{'columns':<10} {', '.join(COLUMNS)}")
    if len(trace):
        _summarize(trace)


def _follow(file: Path) -> Trace:
    """Move a progress bar with the committed rows of a running trace until its run ends."""
    trace = load_trace(file)
    with tqdm(total=trace.run.num_rows, unit="row", unit_scale=True, dynamic_ncols=True) as bar:
        while True:
            if len(trace):
                bar.set_postfix(
                    step=int(trace.step[-1]), alignment=f"{trace.alignment[-1]:.4g}", refresh=False
                )
            bar.update(len(trace) - bar.n)
            if trace.status != "running":
                return trace
            time.sleep(FOLLOW_SECONDS)
            trace = load_trace(file)


@main.command("plot")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Picture; its ending chooses the format.  [default: FILE with .png]",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing picture.")
@_one_line_errors
def plot_command(file: Path, output: Path | None, overwrite: bool) -> None:
    """Draw alignment and loss of a trace FILE."""
    from .plot import plot_trace

    picture = file.with_suffix(".png") if output is None else output
    if not picture.suffix or picture == file:
        raise ValueError(f"--output must be a picture with an ending like .png, got '{picture}'")
    trace = load_trace(file)
    if picture.exists() and not overwrite:
        raise FileExistsError(f"{picture} already exists; use --overwrite or another --output")
    plot_trace(trace, picture)
    click.echo(f"wrote {picture} ({_size(picture)})")


def _logarithmic(rows: int, steps: int) -> Any:
    """About `rows` increasing steps from 0 to `steps`, evenly spaced on a logarithmic axis."""
    count = _checks.integer("rows", rows, 2)
    last = _checks.integer("num_steps", steps, 1)
    middle = [min(round(step), last) for step in np.geomspace(1, last, count - 1).tolist()]
    return np.unique(np.array([0, *middle, last], dtype=np.int64))


def _workers(device: str, threads: int | None) -> str:
    return "the GPU" if device == "cuda" else f"{threads or numba.get_num_threads()} threads"


def _echo_estimate(run: Run, threads: int | None) -> None:
    normal = seconds_per_normal()
    seconds = estimate_seconds(run, threads, normal)
    click.echo(f"estimate   about {_duration(seconds)} with engine {run.engine}, once compiled")
    if faster := faster_engine(run, threads, normal):
        engine, less = faster
        click.echo(
            f"hint       --engine {engine} samples the same law at the recorded rows in about "
            f"{_duration(less)}"
        )


def _duration(seconds: float) -> str:
    if seconds < 60.0:
        return f"{max(seconds, 0.1):.1f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 7200.0 else f"{seconds / 3600.0:.1f} h"


def _problem(source: Path, noise: str, noise_std: float, initial: float) -> Quadratic:
    return Quadratic(Spectrum.load(source), noise=NOISES[noise](noise_std), initial=initial)


def _parse_step_size(text: str) -> float | StepSize:
    kind, _, number = text.rpartition(":")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if (":" in text and kind not in RULES) or np.isnan(value):
        raise ValueError(
            f"--step-size must be a number or one of {', '.join(RULES)} with a number like "
            f"'critical:0.9', got {text!r}"
        )
    return RULES[kind](value) if kind else value


def _parse_update(text: str) -> str | tuple[float, float]:
    if "," not in text:
        return text
    try:
        dominant, bulk = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"--update must be two weights like '1,0.5', got {text!r}") from None
    return dominant, bulk


def _describe_spectrum(spectrum: Spectrum) -> str:
    lam, k = spectrum.eigenvalues, spectrum.num_dominant_levels
    return (
        f"d = {spectrum.dim:,}, k = {spectrum.num_dominant:,}, dominant {lam[0]:.4g} .. "
        f"{lam[k - 1]:.4g}, bulk {lam[k]:.4g} .. {lam[-1]:.4g}, gap ratio {spectrum.gap_ratio:.3g}"
    )


def _summarize(trace: Trace) -> None:
    """Print alignment and loss at the start, at the lowest alignment and at the end."""
    alignment, loss, step = trace.alignment, trace.loss, trace.step
    if len(trace) == 0:
        click.echo("rows       none: the initial state is not finite")
        return
    marks = [("start", 0), ("end", len(trace) - 1)]
    if np.isfinite(alignment).any():
        marks.insert(1, ("minimum", int(np.nanargmin(alignment))))
    click.echo(f"status     {trace.status}")
    for label, values in (("alignment", alignment), ("loss", loss)):
        parts = [f"{values[row]:.4g} at step {step[row]:,} ({name})" for name, row in marks]
        click.echo(f"{label:<10} {', '.join(parts)}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    return str(value)


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
