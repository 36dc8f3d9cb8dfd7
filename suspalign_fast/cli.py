"""The command line: ``suspalign run``, ``info`` and ``plot``."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numba
import numpy as np

from . import __version__
from .datasets import digits_mlp_path
from .noise import HessianNoise, IsotropicNoise
from .problem import Quadratic
from .run import ENGINES
from .simulate import simulate
from .spectrum import Spectrum
from .store import load_trace
from .trace import COLUMNS, Trace

NOISES: dict[str, Any] = {"isotropic": IsotropicNoise, "hessian": HessianNoise}


def _one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Turn the errors of bad input into one line and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except (ValueError, OSError, MemoryError) as error:
            text = str(error) or type(error).__name__
            raise click.ClickException(" ".join(text.split())) from None

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="suspalign")
def main() -> None:
    """Suspicious alignment of SGD on quadratics with millions of dimensions."""


@main.command()
@click.option(
    "--spectrum",
    "spectrum_file",
    type=click.Path(path_type=Path),
    help="Spectrum file (Spectrum.save).  [default: the shipped spectrum of a digits network]",
)
@click.option("--noise", type=click.Choice(list(NOISES)), default="hessian", help="Noise model.")
@click.option("--noise-std", type=float, default=0.3, help="Standard deviation of the noise.")
@click.option("--initial", type=float, default=10.0, help="Std of the initial coefficients.")
@click.option("--step-size", type=float, default=0.1, help="Step size eta.")
@click.option("--steps", type=int, default=40_000, help="Number of SGD steps.")
@click.option("--seed", type=int, default=0, help="Seed of the counter-based generator.")
@click.option("--record-every", type=int, default=1, help="Record every n-th step.")
@click.option("--engine", type=click.Choice(ENGINES), default="step", help="Engine.")
@click.option("--update", default="full", help="full, dominant, bulk or two weights '1,0.5'.")
@click.option("--threads", type=int, help="Number of threads.  [default: all]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("trace.h5"), help="Trace file."
)
@click.option("--overwrite", is_flag=True, help="Replace existing output files.")
@click.option("--plot/--no-plot", default=True, help="Write a PNG beside the trace.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@_one_line_errors
def run(
    spectrum_file: Path | None,
    noise: str,
    noise_std: float,
    initial: float,
    step_size: float,
    steps: int,
    seed: int,
    record_every: int,
    engine: str,
    update: str,
    threads: int | None,
    output: Path,
    overwrite: bool,
    plot: bool,
    quiet: bool,
) -> None:
    """Simulate SGD and write trace and picture.

    Without arguments: the shipped Hessian spectrum of a real network in its full dimension.
    """
    source = digits_mlp_path() if spectrum_file is None else spectrum_file
    picture = output.with_suffix(".png")
    if plot and picture.exists() and not overwrite:
        raise FileExistsError(f"{picture} already exists; use --overwrite or another --output")
    spectrum = Spectrum.load(source)
    problem = Quadratic(spectrum, noise=NOISES[noise](noise_std), initial=initial)
    click.echo(f"spectrum   {source.name}: {_describe_spectrum(spectrum)}")
    click.echo(
        f"run        {steps:,} steps of size {step_size:g}, {noise} noise {noise_std:g}, "
        f"initial std {initial:g}, seed {seed}"
    )
    started = time.perf_counter()
    trace = simulate(
        problem,
        step_size,
        steps,
        seed=seed,
        record_every=record_every,
        engine=engine,
        update=_parse_update(update),
        path=output,
        overwrite=overwrite,
        num_threads=threads,
        progress=not quiet,
    )
    elapsed = time.perf_counter() - started
    rate = int(trace.step[-1]) / elapsed
    click.echo(
        f"time       {elapsed:.1f} s, {rate:,.0f} steps/s, {rate * spectrum.dim:.3g} coordinate "
        f"steps/s on {threads or numba.get_num_threads()} threads"
    )
    _summarize(trace)
    files = [f"{output} ({_size(output)})"]
    if plot:
        from .plot import plot_trace

        plot_trace(trace, picture)
        files.append(f"{picture} ({_size(picture)})")
    click.echo(f"files      {', '.join(files)}")


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@_one_line_errors
def info(file: Path) -> None:
    """Print what a trace FILE holds."""
    trace = load_trace(file)
    spec = trace.spec
    click.echo(f"file       {file} ({_size(file)})")
    click.echo(f"status     {trace.status}, {len(trace):,} of {trace.run.num_rows:,} rows")
    click.echo(f"spectrum   {_describe_spectrum(trace.run.problem.spectrum)}")
    for name in ("engine", "device", "noise", "initial", "step_size", "update", "num_steps"):
        click.echo(f"{name:<10} {_plain(spec[name])}")
    click.echo(f"{'seed':<10} {spec['seed']}, recorded every {spec['record_every']} steps")
    click.echo(f"{'columns':<10} {', '.join(COLUMNS)}")
    if len(trace):
        _summarize(trace)


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
    trace = load_trace(file)
    if picture.exists() and not overwrite:
        raise FileExistsError(f"{picture} already exists; use --overwrite or another --output")
    plot_trace(trace, picture)
    click.echo(f"wrote {picture} ({_size(picture)})")


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
