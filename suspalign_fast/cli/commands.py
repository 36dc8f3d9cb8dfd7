"""The commands of runs: each parses its options, builds a run and prints what comes of it."""

import json
import time
import warnings
from pathlib import Path
from typing import Any, Literal

import click

from ..base import reports
from ..base.registry import ENGINES
from ..claims import ENGINES as VERIFY_ENGINES
from ..claims.verify import verify
from ..model import devices, texts
from ..model.optimizer import Optimizer
from ..model.run import DTYPES, UPDATES, EngineName, Run, update_weights
from ..model.step_size import as_step_size
from ..physics.row import columns
from ..pictures.load import load as load_matplotlib
from ..pictures.trace import is_own_picture, plot_trace
from ..running.cost import first_engine, settled
from ..running.driver import UnstableWarning
from ..running.simulate import execute, resume
from ..storage.output import COMPRESSIONS
from ..studies.reading import is_study
from ..traces.trace import Trace
from ..traces.trace_file import load_trace
from . import options, text
from .console import DIVERGED, Commands, say, warn, warned


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@click.version_option(package_name="suspalign-fast", prog_name="suspalign")
def main() -> None:
    """Suspicious alignment of SGD on quadratics with millions of dimensions.

    Exit status: 0 if all went well, 1 if a claim fails, 2 for bad input and whatever else stops a
    command or its output, 3 if a run diverged, 128 and the number of the signal if one stopped it.
    """


@main.command()
@options.problem
@click.option(
    "--step-size",
    help=f"Step size eta, or a rule: {', '.join(texts.described_rules())}."
    f"{options.STEP_SIZE_DEFAULT}",
)
@click.option("--steps", type=int, default=40_000, help="Number of SGD steps.")
@click.option("--seed", type=int, default=0, help="Seed of the counter-based generator.")
@click.option("--record-every", type=int, default=1, help="Record every n-th step.")
@click.option("--rows", type=int, help="Record about so many steps, logarithmically spaced.")
@click.option(
    "--engine",
    type=click.Choice((*ENGINES.names(), "auto")),
    default="step",
    help="Engine; auto is the fastest of the same law.",
)
@click.option(
    "--device",
    type=options.DEVICES,
    default="cpu",
    help="Where the engine runs; auto is a GPU where one is usable.",
)
@click.option("--dtype", type=click.Choice(DTYPES), default="float64", help="Type of the state.")
@click.option("--update", default="full", help="full, dominant, bulk or two weights '1,0.5'.")
@options.optimizer_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("trace.h5"), help="Trace file."
)
@click.option("--overwrite", is_flag=True, help="Replace existing output files.")
@click.option(
    "--compression", type=click.Choice(COMPRESSIONS), default="gzip", help="Filter of the trace."
)
@click.option("--plot/--no-plot", default=True, help="Write a picture beside the trace.")
@options.picture
@options.effort
@options.allow_divergence
def run(
    asked: options.Asked,
    step_size: str | None,
    steps: int,
    seed: int,
    record_every: int,
    rows: int | None,
    engine: EngineName | Literal["auto"],
    device: devices.DeviceName,
    dtype: str,
    update: str,
    optimizer: Optimizer,
    output: Path,
    overwrite: bool,
    compression: Literal["gzip", "none"],
    plot: bool,
    log_alignment: bool,
    size: str | None,
    threads: int | None,
    quiet: bool,
    allow_divergence: bool,
) -> None:
    """Simulate SGD and write trace and picture.

    Without arguments: the shipped Hessian spectrum of a real network in its full dimension. The
    setting of the paper at an eigenvalue ratio of 10:

    \b
    suspalign run --linear-bands 500,50,100..80,7..1,gap_ratio=10 \\
        --noise isotropic:0.5 --step-size 0.003 --steps 30000
    """  # noqa: D301 - \b keeps lines apart
    if output.suffix == ".png" or not output.name:
        raise ValueError(f"--output must name the trace, not its picture, got '{output}'")
    picture, inches = output.with_suffix(".png"), options.size(size)
    if plot:
        options.check_free(picture, overwrite)
        load_matplotlib()  # what keeps it from drawing is told before the run
    weights = update_weights(options.update(update))
    given = None if step_size is None else options.step_size(step_size)
    named = first_engine(engine)
    where: Any = devices.resolve(device, named)
    workers = options.threads(threads)
    problem = asked.load()
    spectrum = problem.spectrum
    rule = given
    if rule is None:
        rule = options.usual_step_size(asked.source, problem, weights, optimizer)
    said = step_size or f"{rule:g}"
    say(f"spectrum   {asked.source.label}: {text.spectrum(spectrum)}")
    say(
        f"run        {steps:,} steps of size {said}, {text.optimizer(optimizer)}"
        f"{text.noise(asked.noise, asked.noise_std)}, initial std {asked.initial:g}, seed {seed}"
    )
    plan = Run(
        problem,
        as_step_size(rule),
        steps,
        seed=seed,
        record_every=record_every,
        record_at=None if rows is None else texts.logarithmic(rows, steps),
        engine=named,
        device=where,
        dtype=dtype,
        update=weights,
        optimizer=optimizer,
    )
    plan, chosen = settled(plan, engine)
    if chosen:
        say(f"engine     {chosen}")
    if reason := plan.why_unstable():
        warn(f"{reason}: the run will diverge")
    if where == "cuda":
        say(f"device     {devices.describe()}")
    else:
        text.say_estimate(plan, workers)
    started = time.perf_counter()
    with warned():
        warnings.simplefilter("ignore", UnstableWarning)  # it is said already
        trace = execute(
            plan,
            path=output,
            overwrite=overwrite,
            compression=compression,
            num_threads=workers,
            progress=not quiet,
        )
    elapsed = time.perf_counter() - started
    rate = _last_step(trace) / elapsed
    say(
        f"time       {elapsed:.1f} s, {rate:,.0f} steps/s, {rate * spectrum.dim:.3g} coordinate "
        f"steps/s on {text.workers(where, workers)}"
    )
    text.say_summary(trace)
    _draw(trace, output, picture if plot else None, log_alignment=log_alignment, size=inches)
    _end(trace, output, allow_divergence)


def _end(trace: Trace, file: Path, allow_divergence: bool) -> None:
    """Print how a run ended; exit with the status of divergence where it diverged."""
    text.say_end(trace, file)
    if trace.status == "diverged" and not allow_divergence:
        click.get_current_context().exit(DIVERGED)


def _last_step(trace: Trace) -> int:
    return int(trace.read("step", len(trace) - 1, len(trace))[0]) if len(trace) else 0


def _draw(trace: Trace, output: Path, picture: Path | None, **how: Any) -> None:
    """Draw the picture of a trace if one is wanted, and name the files there are."""
    files = [f"{output} ({text.file_size(output)})"]
    if picture is not None:
        plot_trace(trace, picture, **how)
        files.append(f"{picture} ({text.file_size(picture)})")
    say(f"files      {', '.join(files)}")


@main.command("resume")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--steps", type=int, help="New length of the run.  [default: the old one]")
@click.option(
    "--device", type=options.DEVICES, help="Where to go on.  [default: where the run was]"
)
@click.option("--plot/--no-plot", default=True, help="Draw the picture beside the trace again.")
@options.picture
@options.effort
@options.allow_divergence
def resume_command(
    file: Path,
    steps: int | None,
    device: devices.DeviceName | None,
    plot: bool,
    log_alignment: bool,
    size: str | None,
    threads: int | None,
    quiet: bool,
    allow_divergence: bool,
) -> None:
    """Go on with the interrupted or killed run of a trace FILE, or extend a complete one."""
    inches = options.size(size)
    if plot:
        load_matplotlib()
    with warned():
        trace = resume(
            file,
            num_steps=steps,
            device=device,
            num_threads=options.threads(threads),
            progress=not quiet,
        )
    text.say_summary(trace)
    picture = file.with_suffix(".png")
    if plot and picture.exists() and not is_own_picture(picture):
        warn(f"{picture} is not a picture of this package's and stays; see suspalign plot --output")
        plot = False
    _draw(trace, file, picture if plot else None, log_alignment=log_alignment, size=inches)
    _end(trace, file, allow_divergence)


@main.command("verify")
@options.problem
@options.optimizer_options
@click.option("--step-size", type=float, help=f"Step size of the run.{options.STEP_SIZE_DEFAULT}")
@click.option("--steps", type=int, default=20_000, help="Length of the run.")
@click.option("--states", type=int, default=60, help="States at which steps are tried.")
@click.option("--repeats", type=int, default=6, help="Noise draws for each step size tried.")
@click.option("--seed", type=int, default=0, help="Seed of the counter-based generator.")
@click.option("--engine", type=click.Choice(VERIFY_ENGINES), default="step", help="Engine.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def verify_command(
    asked: options.Asked,
    step_size: float | None,
    steps: int,
    states: int,
    repeats: int,
    seed: int,
    engine: Literal["step", "jump", "levels"],
    optimizer: Optimizer,
    as_json: bool,
    quiet: bool,
) -> None:
    """Test the paper's claims on a problem, step by step; exit status 1 if one fails.

    A step is evidence where its exact law makes one sign rarer than 1.35e-3. A claim fails if
    chance alone would make its evidence as bad in fewer than 1 of 10,000 cases: that is the rate
    of false alarms, for each claim: five of plain SGD, ten with momentum.
    """
    problem = asked.load()
    if not as_json:
        say(f"spectrum   {asked.source.label}: {text.spectrum(problem.spectrum)}")
    eta = step_size
    if eta is None:
        eta = options.usual_step_size(asked.source, problem, UPDATES["full"], optimizer)
    report = verify(
        problem,
        eta,
        steps,
        states=states,
        repeats=repeats,
        seed=seed,
        engine=engine,
        optimizer=optimizer,
        progress=not quiet,
    )
    say(json.dumps(report.as_dict(), indent=2) if as_json else report)
    if report.failed:
        click.get_current_context().exit(1)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--follow", is_flag=True, help="Show the progress until it ends.")
def info(file: Path, follow: bool) -> None:
    """Print what a trace FILE holds, or a study, also while a run or a sweep writes it."""
    if is_study(file):
        text.say_study(file, follow=follow)
        return
    trace = _follow(file) if follow else load_trace(file)
    say(f"file       {file} ({text.file_size(file)})")
    for name, value in text.description(trace).items():
        say(f"{name:<10} {value}")
    has_velocity = trace.problem is not None and trace.run.optimizer.has_velocity
    say(f"{'columns':<10} {', '.join(columns(has_velocity=has_velocity))}")
    if len(trace):
        text.say_summary(trace)
    text.say_end(trace, file)


def _follow(file: Path) -> Trace:
    """Move a progress bar with the committed rows of a running trace until its run ends.

    The number of measured rows is not known in advance, so that their bar has no end.
    """
    trace = load_trace(file)
    total = None if trace.problem is None else trace.run.num_rows
    with reports.bar(total, "row", visible=True, unit_scale=True) as bar:
        while True:
            if len(trace):
                last = trace.read("alignment", len(trace) - 1, len(trace))[0]
                bar.set_postfix_str(f"step {_last_step(trace):,}, alignment {last:.4g}", False)
            bar.update(len(trace) - bar.n)
            if trace.status != "running":
                return trace
            time.sleep(text.FOLLOW_SECONDS)
            trace = load_trace(file)
