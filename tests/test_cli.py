import dataclasses
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

import suspalign_fast as sa
from suspalign_fast import cost
from suspalign_fast.cli import main
from suspalign_fast.engines import make_engine
from suspalign_fast.run import Run
from suspalign_fast.store import TraceWriter


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
    assert suspalign("plot", "trace.h5", "-o", "picture.svg").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--step-size", "-1"), "step_size must be a finite number above zero, got -1.0"),
        (("run", "--steps", "-5"), "num_steps must be an integer of at least 0"),
        (("run", "--noise-std", "nan"), "std must be a finite number"),
        (("run", "--update", "1,x"), "--update must be two weights"),
        (("run", "--threads", "0"), "num_threads must be an integer of at least 1"),
        (("run", "--spectrum", "missing.h5"), "missing.h5 does not exist"),
        (("run", "--output", "nowhere/trace.h5"), "is not a directory"),
        (("info", "missing.h5"), "missing.h5 does not exist"),
        (("info", "small.h5"), "not a suspalign trace"),
        (("plot", "small.h5"), "not a suspalign trace"),
    ],
)
def test_bad_input_is_one_line_and_a_failing_exit(suspalign, arguments, message):
    result = suspalign(*arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert "Traceback" not in result.output
    errors = [line for line in result.output.splitlines() if line.startswith("Error")]
    assert len(errors) == 1


def test_existing_output_is_kept_unless_told(suspalign, tmp_path):
    (tmp_path / "trace.png").write_text("mine")
    result = suspalign("run")
    assert result.exit_code == 1
    assert "trace.png already exists" in result.output
    assert not (tmp_path / "trace.h5").exists()
    assert suspalign("run", "--overwrite").exit_code == 0
    assert suspalign("run", "--no-plot").exit_code == 1


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
    assert result.exit_code == 1
    assert "--step-size must be a number or one of critical, interval, online" in result.output


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


def test_rows_are_logarithmically_spaced(suspalign, tmp_path):
    for engine in ("step", "jump", "levels"):
        result = suspalign("run", "--rows", "20", "--engine", engine, "-o", f"{engine}.h5")
        assert result.exit_code == 0, result.output
        trace = sa.load_trace(tmp_path / f"{engine}.h5")
        assert 10 < len(trace) <= 20
        assert trace.step[-1] == 200
        assert trace.run.engine == engine
    assert suspalign("run", "--rows", "1", "-o", "x.h5").exit_code == 1
    result = suspalign("run", "--engine", "jump", "--step-size", "critical:0.9", "-o", "x.h5")
    assert result.exit_code == 1
    assert "take engine 'step' or 'levels'" in result.output


def test_follow_shows_a_run_until_it_ends(suspalign, spectrum_file, tmp_path, monkeypatch):
    monkeypatch.setattr("suspalign_fast.cli.FOLLOW_SECONDS", 0.01)
    problem = sa.Quadratic(sa.Spectrum.load(spectrum_file))
    path = tmp_path / "live.h5"
    run = Run(problem, sa.ConstantStep(1e-3), 50)
    engine, writer = make_engine(run), TraceWriter(path, run)
    monkeypatch.setattr("suspalign_fast.store.COMMIT_INTERVAL", 0.0)
    looks = 0

    def look(file):
        nonlocal looks
        looks += 1
        writer.append(engine.initial_row() if looks == 1 else engine.advance(10))
        if engine.step == 50:
            writer.finish("complete")
        return sa.load_trace(file)

    monkeypatch.setattr("suspalign_fast.cli.load_trace", look)
    result = suspalign("info", "--follow", path)
    assert result.exit_code == 0, result.output
    assert "complete, 51 of 51 rows" in result.output
    assert looks == 6


def test_an_interrupted_run_says_how_to_resume_and_resumes(suspalign, tmp_path, monkeypatch):
    whole = suspalign("run", "--no-plot", "-o", "whole.h5")
    module = sys.modules["suspalign_fast.driver"]
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
    assert suspalign("resume", "trace.h5", "--steps", "100").exit_code == 1
