import dataclasses
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import suspalign_fast as sa
from suspalign_fast.cli.commands import main
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run
from suspalign_fast.running import cost
from suspalign_fast.traces.trace import Trace
from suspalign_fast.traces.writers import TraceWriter

from ..conftest import assert_same_bits


@pytest.fixture
def spectrum_file(tmp_path):
    path = tmp_path / "small.h5"
    sa.Spectrum.linear_bands(300, 12).save(path)
    return path


@pytest.fixture
def suspalign(tmp_path, monkeypatch, spectrum_file):
    """A function that runs the command line in an empty folder with a small spectrum."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        if arguments[0] == "run":
            arguments = ("run", "--spectrum", spectrum_file, "--step-size", "0.003",
                         "--steps", "200", *arguments[1:])  # fmt: skip
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


def test_run_writes_trace_and_picture_and_says_where(suspalign, tmp_path):
    result = suspalign("run")
    assert result.exit_code == 0, result.output
    for part in (
        "d = 300, k = 12",
        "(minimum)",
        "(end)",
        "loss",
        "trace.h5",
        "trace.png",
        "steps/s",
    ):
        assert part in result.output
    trace = sa.load_trace(tmp_path / "trace.h5")
    assert len(trace) == 201
    assert f"{trace.alignment[-1]:.4g} at step 200 (end)" in result.output
    assert (tmp_path / "trace.png").read_bytes().startswith(b"\x89PNG")


def test_options_reach_the_run(suspalign, tmp_path):
    result = suspalign(
        "run", "--noise", "isotropic", "--noise-std", "0.25", "--initial", "2", "--seed", "9",
        "--record-every", "5", "--threads", "1", "--engine", "reference", "--update", "1,0.5",
        "--output", "other.h5", "--no-plot", "--quiet",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    run = sa.load_trace(tmp_path / "other.h5").run
    assert run.problem.noise == sa.IsotropicNoise(0.25)
    assert (run.problem.initial, run.seed, run.record_every) == (2.0, 9, 5)
    assert (run.engine, run.update, run.num_steps) == ("reference", (1.0, 0.5), 200)
    assert not (tmp_path / "other.png").exists()


def test_info_prints_what_a_trace_holds(suspalign):
    suspalign("run", "--no-plot")
    result = suspalign("info", "trace.h5")
    assert result.exit_code == 0
    for part in ("complete, 201 of 201 rows", "d = 300", "hessian", "critical_step_size", "0.003"):
        assert part in result.output


def test_plot_draws_a_trace_again(suspalign, tmp_path):
    suspalign("run", "--no-plot")
    assert suspalign("plot", "trace.h5", "-o", "picture.svg").exit_code == 0
    assert "<svg" in (tmp_path / "picture.svg").read_text()
    assert suspalign("plot", "trace.h5", "-o", "picture.svg").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--step-size", "-1"), "--step-size must be a finite number above zero, got -1.0"),
        (("run", "--step-size", "critical:0"), "--step-size critical:0: fraction must be a finite"),
        (("run", "--steps", "-5"), "--steps must be an integer of at least 0"),
        (("run", "--steps", "many"), "Invalid value for '--steps'"),
        (("run", "--engine", "warp"), "Invalid value for '--engine'"),
        (("run", "--nothing"), "No such option"),
        (("run", "--noise-std", "nan"), "--noise-std must be a finite number"),
        (("run", "--initial", "-1"), "--initial must be a finite number"),
        (("run", "--seed", "-1"), "--seed must be an integer"),
        (("run", "--record-every", "0"), "--record-every must be an integer"),
        (("run", "--rows", "1"), "--rows must be an integer of at least 2"),
        (("run", "--update", "1,x"), "--update must be two weights"),
        (("run", "--update", "half"), "--update must be 'full'"),
        (("run", "--momentum", "1"), "--momentum must be from 0 to below 1, got 1.0"),
        (("run", "--momentum", "-0.1"), "--momentum must be a finite number of at least zero"),
        (("run", "--momentum", "nan"), "--momentum must be a finite number of at least zero"),
        (("run", "--momentum", "much"), "Invalid value for '--momentum'"),
        (("run", "--nesterov"), "--nesterov must go with --momentum, and there is none"),
        (("run", "--threads", "0"), "--threads must be an integer of at least 1"),
        (("verify", "--states", "0"), "--states must be an integer"),
        (("fly",), "No such command"),
        (("run", "--spectrum", "missing.h5"), "missing.h5 does not exist"),
        (("run", "--output", "nowhere/trace.h5"), "is not a directory"),
        (("info", "missing.h5"), "missing.h5 does not exist"),
        (("info", "small.h5"), "not a suspalign trace"),
        (("plot", "small.h5"), "not a suspalign trace"),
    ],
)
def test_bad_input_is_one_line_and_a_failing_exit(suspalign, arguments, message):
    result = suspalign(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


def test_existing_output_is_kept_unless_told(suspalign, tmp_path):
    (tmp_path / "trace.png").write_text("mine")
    result = suspalign("run")
    assert result.exit_code == 2
    assert "trace.png already exists" in result.output
    assert not (tmp_path / "trace.h5").exists()
    assert suspalign("run", "--overwrite").exit_code == 0
    assert suspalign("run", "--no-plot").exit_code == 2


def test_the_installed_command_runs():
    process = subprocess.run(
        [sys.executable, "-m", "suspalign_fast", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "suspalign, version" in process.stdout


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("critical:0.9", sa.CriticalStep(0.9)),
        ("interval:0.5", sa.LossIntervalStep(0.5)),
        ("online:0.8", sa.OnlineCriticalStep(0.8)),
    ],
)
def test_step_size_rules_on_the_command_line(suspalign, tmp_path, text, rule):
    result = suspalign("run", "--no-plot", "--step-size", text, "--steps", "3")
    assert result.exit_code == 0, result.output
    assert sa.load_trace(tmp_path / "trace.h5").run.step_size == rule


@pytest.mark.parametrize("text", ["big", "critical:", "magic:0.5", "critical:x", "nan"])
def test_unknown_step_sizes_are_named(suspalign, text):
    result = suspalign("run", "--step-size", text)
    assert result.exit_code == 2
    assert (
        "--step-size must be a number or one of critical, loss_interval, online_critical"
        in result.output
    )


def test_an_estimate_comes_first_and_a_hint_where_another_engine_is_far_faster(suspalign, tmp_path):
    assert "estimate   about" in suspalign("run", "--no-plot").output
    run = Run(sa.Quadratic(sa.Spectrum.two_level(10**6, 10, 2.0, 1.0)), sa.ConstantStep(0.1), 10**6)
    engine, seconds = cost.faster_engine(run, 2, 1e-9)
    assert engine == "levels"
    assert seconds < cost.estimate_seconds(run, 2, 1e-9) / 100
    adaptive = dataclasses.replace(run, step_size=sa.CriticalStep(0.5))
    assert cost.faster_engine(adaptive, 2, 1e-9)[0] == "levels"
    rare = dataclasses.replace(run, record_every=10**4, engine="levels")
    assert cost.faster_engine(rare, 2, 1e-9) is None


@pytest.mark.long
def test_rows_are_logarithmically_spaced(suspalign, tmp_path):
    for engine in ("step", "jump", "levels"):
        result = suspalign("run", "--rows", "20", "--engine", engine, "-o", f"{engine}.h5")
        assert result.exit_code == 0, result.output
        trace = sa.load_trace(tmp_path / f"{engine}.h5")
        assert 10 < len(trace) <= 20
        assert trace.step[-1] == 200
        assert trace.run.engine == engine
    assert suspalign("run", "--rows", "1", "-o", "x.h5").exit_code == 2
    result = suspalign("run", "--engine", "jump", "--step-size", "critical:0.9", "-o", "x.h5")
    assert result.exit_code == 2
    assert "take engine 'step' or 'levels'" in result.output


def test_follow_shows_a_run_until_it_ends(suspalign, spectrum_file, tmp_path, monkeypatch):
    monkeypatch.setattr("suspalign_fast.cli.text.FOLLOW_SECONDS", 0.01)
    problem = sa.Quadratic(sa.Spectrum.load(spectrum_file))
    path = tmp_path / "live.h5"
    run = Run(problem, sa.ConstantStep(1e-3), 50)
    engine, writer = make_engine(run), TraceWriter(path, run).__enter__()
    monkeypatch.setattr("suspalign_fast.traces.writers.COMMIT_INTERVAL", 0.0)
    looks = 0

    def look(file):
        nonlocal looks
        looks += 1
        writer.append(engine.initial_row() if looks == 1 else engine.advance(10))
        if engine.step == 50:
            writer.finish("complete")
        return sa.load_trace(file)

    monkeypatch.setattr("suspalign_fast.cli.commands.load_trace", look)
    result = suspalign("info", "--follow", path)
    assert result.exit_code == 0, result.output
    assert "complete, 51 of 51 rows" in result.output
    assert looks == 6


def test_an_interrupted_run_says_how_to_resume_and_resumes(suspalign, tmp_path, monkeypatch):
    whole = suspalign("run", "--no-plot", "-o", "whole.h5")
    module = sys.modules["suspalign_fast.running.driver"]
    bounded = module._bounded

    def stopping(stretch, engine):
        if engine.step > 50:
            os.kill(os.getpid(), signal.SIGINT)
        return min(30, bounded(stretch, engine))

    with monkeypatch.context() as patch:
        patch.setattr(module, "_bounded", stopping)
        result = suspalign("run", "--no-plot")
    assert result.exit_code == 130
    assert "resume with: suspalign resume trace.h5" in result.output
    result = suspalign("resume", "trace.h5")
    assert result.exit_code == 0, result.output
    ends = [line for line in whole.output.splitlines() if line.startswith("alignment")]
    assert ends[0] in result.output
    assert suspalign("resume", "trace.h5", "--steps", "100").exit_code == 2


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "optimizer", "words"),
    [
        (("--momentum", "0.9"), sa.Momentum(0.9), "momentum 0.9"),
        (
            ("--momentum", "0.9", "--nesterov", "--engine", "auto"),
            sa.Momentum(0.9, nesterov=True),
            "Nesterov momentum 0.9",
        ),
        (("--momentum", "0"), sa.Momentum(0.0), "momentum 0"),
    ],
)
def test_momentum_reaches_the_run_which_says_it(suspalign, tmp_path, arguments, optimizer, words):
    result = suspalign("run", *arguments)
    assert result.exit_code == 0, result.output
    assert f"200 steps of size 0.003, {words}, hessian noise 0.3, initial std 10" in result.output
    trace = sa.load_trace(tmp_path / "trace.h5")
    assert trace.run.optimizer == optimizer
    said = suspalign("info", "trace.h5").output
    assert f"optimizer  {words}\n" in said
    assert ("cross_sums" in said) == optimizer.has_velocity
    result = suspalign("resume", "trace.h5", "--steps", "250")
    assert result.exit_code == 0, result.output
    problem, engine = trace.run.problem, trace.run.engine
    whole = sa.simulate(problem, 0.003, 250, engine=engine, optimizer=optimizer)
    assert_same_bits(sa.load_trace(tmp_path / "trace.h5"), whole)


def test_plain_sgd_is_not_said_in_every_line(suspalign):
    assert "200 steps of size 0.003, hessian noise" in suspalign("run", "--no-plot").output
    assert "optimizer  plain SGD\n" in suspalign("info", "trace.h5").output


# --- how a run ends --------------------------------------------------------------------------


def test_more_threads_than_the_machine_has_are_a_warning(suspalign, tmp_path):
    result = suspalign("run", "--no-plot", "--threads", "9999")
    assert result.exit_code == 0, result.output
    assert "--threads 9999: this machine has" in result.stderr


def test_an_unstable_step_size_is_said_before_and_divergence_last(suspalign):
    result = suspalign("run", "--no-plot", "--step-size", "5", "--steps", "2000")
    assert result.exit_code == 3
    assert "step size 5 is above 2 / lambda = 0.02: the run will diverge" in result.stderr
    last = result.stdout.splitlines()[-1]
    assert last.startswith("diverged   a sum overflowed after step ")
    assert "step size 5 is above 2 / lambda = 0.02" in last
    stable = suspalign("run", "--no-plot", "--overwrite")
    assert stable.stderr.count("warning") == 0
    assert "diverged" not in stable.output
    bulk = suspalign("run", "--no-plot", "--overwrite", "--step-size", "2", "--update", "bulk")
    assert "warning" not in bulk.stderr


DIVERGING = ("run", "--no-plot", "--step-size", "5", "--steps", "2000")


def test_a_run_that_diverges_has_an_exit_status_of_its_own(suspalign):
    assert suspalign(*DIVERGING).exit_code == 3
    assert suspalign(*DIVERGING, "--overwrite", "--allow-divergence").exit_code == 0
    assert suspalign("info", "trace.h5").exit_code == 0  # which has done what it was asked for
    assert suspalign("resume", "trace.h5").exit_code == 2
    short = ("run", "--no-plot", "--overwrite", "--step-size", "5", "--steps", "3")
    assert suspalign(*short).exit_code == 0
    assert suspalign("resume", "trace.h5", "--no-plot", "--steps", "2000").exit_code == 3


def test_steps_that_a_resumed_run_computes_again_are_said_before(suspalign):
    suspalign("run", "--no-plot")
    result = suspalign("resume", "trace.h5", "--no-plot", "--steps", "300")
    assert result.exit_code == 0
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("warning")]
    assert line.endswith("trace.h5: no checkpoint: 200 steps are computed again, rows are kept")


@pytest.mark.parametrize(
    ("spectrum", "step_size"),
    [
        (["--linear-bands", "5000,25"], 0.005),
        (["--two-level", "500,5,8,1"], 0.062),
        (["--two-level", "500,5,8,1", "--update", "bulk"], 0.5),
        (["--two-level", "500,5,8,1", "--momentum", "0.9"], 0.12),
        (["--two-level", "500,5,8,1", "--noise", "data:8,0.5"], 0.0073),
    ],
)
def test_the_step_size_of_a_given_spectrum_is_stable(spectrum, step_size, tmp_path):
    arguments = ["run", *spectrum, "--steps", "500", "--no-plot", "-o", str(tmp_path / "t.h5")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    assert f"steps of size {step_size:g}," in result.stdout
    assert sa.load_trace(tmp_path / "t.h5").step_size[0] == step_size


def test_the_minimum_of_the_loss_is_that_of_the_loss(suspalign, tmp_path):
    result = suspalign("run", "--no-plot")
    trace = sa.load_trace(tmp_path / "trace.h5")
    row = int(np.argmin(trace.loss))
    assert row != int(np.nanargmin(trace.alignment))
    assert f"{trace.loss[row]:.4g} at step {trace.step[row]:,} (minimum)" in result.output
    lowest = int(np.nanargmin(trace.alignment))
    part = f"{trace.alignment[lowest]:.4g} at step {trace.step[lowest]:,} (minimum)"
    assert part in result.output


def test_a_summary_reads_a_trace_piece_by_piece(suspalign, tmp_path, monkeypatch):
    suspalign("run", "--no-plot")
    whole = suspalign("info", "trace.h5").output
    monkeypatch.setattr("suspalign_fast.traces.trace.PIECE", 7)
    reads = []
    real = Trace.read
    monkeypatch.setattr(
        Trace, "read", lambda self, name, a, b: reads.append(b - a) or real(self, name, a, b)
    )
    monkeypatch.setattr(Trace, "__getitem__", None)
    assert suspalign("info", "trace.h5").output == whole
    assert max(reads) == 7


@pytest.mark.long
def test_resume_draws_the_picture_again_but_not_over_that_of_someone_else(suspalign, tmp_path):
    picture = tmp_path / "trace.png"
    suspalign("run")
    before = picture.read_bytes()
    assert suspalign("resume", "trace.h5", "--steps", "300").exit_code == 0
    assert picture.read_bytes() != before
    picture.write_bytes(b"\x89PNG mine")
    result = suspalign("resume", "trace.h5", "--steps", "310")
    assert result.exit_code == 0
    assert "is not a picture of this package's and stays" in result.stderr
    assert picture.read_bytes() == b"\x89PNG mine"


def in_a_process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "suspalign_fast", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip


def piped(command, folder):
    return subprocess.run(
        command.format(python=f"{sys.executable} -m suspalign_fast"), shell=True, cwd=folder,
        capture_output=True, text=True, timeout=120, executable="/bin/bash",
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/bin/bash"), reason="needs bash")
def test_readers_that_leave_early_are_no_error(suspalign, tmp_path):
    suspalign("run", "--no-plot")
    result = piped("set -o pipefail; {python} info trace.h5 | head -n 1", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    run = "run --spectrum small.h5 --step-size 0.003 --steps 300 --no-plot"
    result = piped(f"{{python}} {run} -o a.h5 | head -n 0", tmp_path)
    assert "Traceback" not in result.stderr
    assert sa.load_trace(tmp_path / "a.h5").status == "complete"
    full = piped("{python} info trace.h5 >/dev/full", tmp_path)
    assert full.returncode == 2
    assert full.stderr.startswith("Error: standard output cannot be written: ")
    assert len(full.stderr.splitlines()) == 1
    full = piped("{python} info nothing.h5 >/dev/full", tmp_path)
    assert (full.returncode, len(full.stderr.splitlines())) == (2, 1)
    full = piped("{python} --help >/dev/full", tmp_path)
    assert (full.returncode, len(full.stderr.splitlines())) == (2, 1)
    for number, streams in enumerate((">/dev/full", "2>/dev/full", ">&-", "2>&-", ">&- 2>&-")):
        result = piped(f"{{python}} {run} -o {number}.h5 {streams}", tmp_path)
        assert "Traceback" not in result.stderr
        assert sa.load_trace(tmp_path / f"{number}.h5").status == "complete", streams


STOPPED = """
import os, signal, sys
from suspalign_fast.running import driver
from suspalign_fast.cli import main
bounded = driver._bounded
def stopping(stretch, engine):
    if engine.step > 50:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return min(30, bounded(stretch, engine))
driver._bounded = stopping
main(["run", "--spectrum", "small.h5", "--step-size", "0.003", "--steps", "300", "--no-plot"])
"""


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_the_exit_status_tells_the_signal(tmp_path, spectrum_file, name, status):
    process = subprocess.run(
        [sys.executable, "-c", STOPPED, name], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == status, process.stderr
    assert "resume with: suspalign resume trace.h5" in process.stderr
    assert in_a_process("resume", "trace.h5", cwd=tmp_path).returncode == 0


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="kills")
def test_a_killed_run_is_followed_no_longer_and_says_how_to_go_on(tmp_path, spectrum_file):
    process = subprocess.run(
        [sys.executable, "-c", STOPPED.replace("getattr(signal, sys.argv[1])", "9")], cwd=tmp_path
    )
    assert process.returncode == -9
    result = in_a_process("info", "--follow", "trace.h5", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "status     killed" in result.stdout
    assert result.stdout.splitlines()[-1] == "killed     go on with: suspalign resume trace.h5"


def test_follow_shows_whole_steps(suspalign, tmp_path):
    suspalign("run", "--no-plot", "--steps", "20000", "--engine", "levels")
    result = suspalign("info", "--follow", "trace.h5")
    assert "step 20,000, alignment" in result.stderr
