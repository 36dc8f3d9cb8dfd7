"""Studies on the command line: a TOML file is the sweep in Python, every bad one a sentence."""

import contextlib
import copy
import datetime
import os
import pickle
import signal
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import suspalign_fast as sa
from suspalign_fast.base import threads
from suspalign_fast.cli import console
from suspalign_fast.cli.commands import main
from suspalign_fast.storage import lock
from suspalign_fast.studies import toml

DOCS = Path(__file__).parents[2] / "docs"
xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

STUDY = """
num_steps = 60
seeds = 3
record_at = [1, 7, 60]
theory = true
engine = "levels"
variables = ["alignment", "loss", "power_sums"]

[problem]
family = "linear_bands"
dim = 500
num_dominant = 50
dominant = [100, 80]
bulk = [7, 1]
noise = "isotropic:0.5"
initial = 10.0

[over]
gap_ratio = [10.0, 50.0]
step_size = {from = 1e-3, to = 4e-3, num = 3, scale = "log"}
"""


def case(gap_ratio):
    spectrum = sa.Spectrum.linear_bands(500, 50, (100, 80), (7, 1), gap_ratio=gap_ratio)
    return sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0), {"engine": "levels"}


@pytest.fixture(scope="module")
def in_python():
    over = {"gap_ratio": [10.0, 50.0], "step_size": np.geomspace(1e-3, 4e-3, 3).tolist()}
    return sa.sweep(
        case, over, 60, seeds=range(3), record_at=[1, 7, 60], theory=True,
        variables=("alignment", "loss", "power_sums"),
    )  # fmt: skip


@pytest.fixture
def suspalign(tmp_path, monkeypatch):
    """A function that runs the command line in an empty folder with a study."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(STUDY)

    def call(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


def opened(path):
    with sa.open_study(path) as study:
        return study.load()


def assert_same(found, expected):
    for name in [*expected.data_vars, *expected.coords]:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        assert found[name].dims == expected[name].dims


def changed(old, new):
    assert old in STUDY
    return STUDY.replace(old, new)


@pytest.mark.mostly_long
@pytest.mark.parametrize("executor", ["threads", "threads:2", "processes:2"])
def test_a_study_is_the_sweep_in_python(suspalign, in_python, executor):
    result = suspalign("sweep", "study.toml", "--executor", executor, "-o", "out.nc", "--quiet")
    assert result.exit_code == 0, result.output
    assert_same(opened("out.nc"), in_python)
    lines = result.stdout.splitlines()
    assert lines[0].endswith(
        "linear_bands, 2 gap_ratio x 3 step_size x 3 seeds = 18 runs, 60 steps"
    )
    assert lines[1] == "runs       18 complete"
    assert lines[2].startswith("file       out.nc (")
    assert lines[3] == "draw       suspalign plot out.nc"
    assert result.stderr == ""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dask_gives_the_same_bits(suspalign, in_python):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, processes=True
    )
    try:
        where = cluster.scheduler_address.replace("tcp:", "dask:")
        result = suspalign("sweep", "study.toml", "--executor", where, "--quiet")
    finally:
        cluster.close()
    assert result.exit_code == 0, result.output
    assert_same(opened("study.nc"), in_python)


def test_the_case_travels_and_says_what_it_is(suspalign):
    study = toml.load("study.toml")
    assert pickle.loads(pickle.dumps(study.case)) == study.case
    assert "linear_bands" in repr(study.case)
    assert os.getcwd() not in repr(study.case)


def test_the_same_command_goes_on_and_more_values_are_added(suspalign, tmp_path, monkeypatch):
    assert suspalign("sweep", "study.toml", "--quiet").exit_code == 0
    before = opened("study.nc")
    ran = []
    real = toml.StudyCase.__call__
    monkeypatch.setattr(
        toml.StudyCase, "__call__", lambda self, **p: ran.append(p) or real(self, **p)
    )
    (tmp_path / "study.toml").write_text(changed("[10.0, 50.0]", "[10.0, 50.0, 100.0]"))
    result = suspalign("sweep", "study.toml", "--quiet")
    assert "runs       27 complete" in result.output
    assert_same(opened("study.nc").isel(gap_ratio=slice(2)), before)
    (tmp_path / "study.toml").write_text(changed("isotropic:0.5", "isotropic:0.6"))
    result = suspalign("sweep", "study.toml", "--quiet")
    assert result.exit_code == 2
    assert "its problem was another" in result.stderr
    result = suspalign("sweep", "study.toml", "--quiet", "--overwrite")
    assert result.exit_code == 0, result.output
    assert not np.array_equal(opened("study.nc").loss, before.loss)


@pytest.mark.parametrize("mistake", ["executor", "file", "case"])
def test_overwriting_removes_nothing_before_all_else_is_right(
    suspalign, tmp_path, monkeypatch, mistake
):
    suspalign("sweep", "study.toml", "--quiet")
    before = (tmp_path / "study.nc").read_bytes()
    more = ["--executor", "procesess:2"] if mistake == "executor" else []
    if mistake == "file":
        (tmp_path / "study.toml").write_text(changed("isotropic:0.5", "isotropik:0.5"))
    if mistake == "case":  # the file cannot be made
        replaced = "suspalign_fast.storage.paths.check_room"
        monkeypatch.setattr(replaced, lambda *_: (_ for _ in ()).throw(OSError("disk is full")))
    result = suspalign("sweep", "study.toml", "--quiet", "--overwrite", *more)
    assert result.exit_code == 2
    assert (tmp_path / "study.nc").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["study.nc", "study.toml"]


def test_a_picture_stays_until_the_new_one_is_whole(suspalign, tmp_path, monkeypatch):
    suspalign("sweep", "study.toml", "--quiet")
    (tmp_path / "study.png").write_bytes(b"a picture")

    def broken(self, file, **how):
        file.write(b"half")
        raise OSError("disk is full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", broken)
    result = suspalign("plot", "study.nc", "--overwrite")
    assert result.exit_code == 2
    assert (tmp_path / "study.png").read_bytes() == b"a picture"
    assert len(list(tmp_path.iterdir())) == 3


def test_info_describes_a_study(suspalign, tmp_path):
    suspalign("sweep", "study.toml", "--quiet")
    for more in ((), ("--follow",)):
        result = suspalign("info", "study.nc", *more)
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        assert "status     complete" in lines
        assert "axis       gap_ratio: 10, 50 (2)" in lines
        assert "runs       18 complete" in lines
        assert any(line.startswith("steps      ") for line in lines)
        assert any(line.startswith("variables  alignment, loss") for line in lines)
    sa.sweep(unlucky, {"a": [1, 2]}, 5, path=tmp_path / "bad.nc").close()
    result = suspalign("info", "bad.nc")
    assert "runs       1 complete, 1 error" in result.stdout
    assert "the first error: RuntimeError: no luck" in result.stderr


def unlucky(a):
    if a == 2:
        raise RuntimeError("no luck\x1b[31m")
    return sa.Quadratic(sa.Spectrum.two_level(50, 5, 5.0, 1.0)), {"step_size": 1e-3}


def test_foreign_files_are_never_replaced(suspalign, tmp_path):
    (tmp_path / "study.nc").write_text("mine")
    xarray.Dataset({"a": ("step", [1.0])}).to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    for output in ("study.nc", "b.nc"):
        for more in ((), ("--overwrite",)):
            result = suspalign("sweep", "study.toml", "-o", output, *more)
            assert result.exit_code == 2
            assert f"{output} already exists and is no study" in result.stderr
    assert (tmp_path / "study.nc").read_text() == "mine"


@pytest.mark.long
def test_a_study_that_is_being_written_is_left_alone(suspalign, tmp_path):
    suspalign("sweep", "study.toml", "--quiet")
    before = (tmp_path / "study.nc").read_bytes()
    held = lock.Lock(tmp_path / "study.nc")
    held.add(tmp_path / "study.nc")
    try:
        for more in ((), ("--overwrite",)):
            process = subprocess.run(
                [sys.executable, "-m", "suspalign_fast", "sweep", "study.toml", *more],
                cwd=tmp_path, capture_output=True, text=True,
            )  # fmt: skip
            assert process.returncode == 2
            assert "is being written by another" in process.stderr
            assert len(process.stderr.splitlines()) == 1
    finally:
        held.release()
    assert (tmp_path / "study.nc").read_bytes() == before


def swept(text, folder="", **options):
    return toml.of_table(tomllib.loads(text), folder).sweep(**options)


SHORT = """
num_steps = 5
step_size = "critical:0.9"
[problem]
family = "two_level"
dim = 100
num_dominant = 3
dominant = 5.0
bulk = 1.0
"""


def test_fields_of_noise_and_rule_are_axes():
    noise = "noise = {model = 'data', label_std = 0.1}\n"
    study = swept(f"{SHORT}{noise}[over]\nbatch_size = [2e0, 8]\nfraction = [0.5, 1.5]")
    assert study.batch_size.values.tolist() == [2, 8]
    problem = sa.Quadratic(sa.Spectrum.two_level(100, 3, 5.0, 1.0), sa.DataNoise(8, 0.1))
    trace = sa.simulate(problem, sa.CriticalStep(1.5), 5)
    found = study.loss.sel(batch_size=8, fraction=1.5, seed=0)
    np.testing.assert_array_equal(found, trace.loss)
    whole = noise.replace("label_std", "batch_size = 8e0, label_std")
    one = swept(f"{SHORT}{whole}".replace('"critical:0.9"', "{rule = 'critical', fraction = 1.5}"))
    np.testing.assert_array_equal(one.loss.sel(seed=0), trace.loss)


def test_texts_are_axes_and_options():
    study = swept(
        'update = "1,0.5"\n' + SHORT
        + '[over]\nnoise = ["isotropic:0.3", "data:4,0.1"]\nstep_size = ["critical:0.5", "0.01"]\n'
        + 'engine = ["step", "levels"]\ninitial = [1, 2.5]'
    )  # fmt: skip
    spectrum = sa.Spectrum.two_level(100, 3, 5.0, 1.0)
    for noise, model in (
        ("isotropic:0.3", sa.IsotropicNoise(0.3)),
        ("data:4,0.1", sa.DataNoise(4, 0.1)),
    ):
        for text, rule in (("critical:0.5", sa.CriticalStep(0.5)), ("0.01", 0.01)):
            problem = sa.Quadratic(spectrum, model, initial=2.5)
            trace = sa.simulate(problem, rule, 5, engine="levels", update=(1.0, 0.5))
            found = study.loss.sel(
                noise=noise, step_size=text, engine="levels", initial=2.5, seed=0
            )
            np.testing.assert_array_equal(found, trace.loss)


def test_momentum_is_an_option_and_an_axis():
    plain = swept(SHORT)
    problem = sa.Quadratic(sa.Spectrum.two_level(100, 3, 5.0, 1.0))
    one = swept("momentum = 0.9\nnesterov = true\n" + SHORT)
    ball = sa.Momentum(0.9, nesterov=True)
    trace = sa.simulate(problem, sa.CriticalStep(0.9), 5, optimizer=ball)
    np.testing.assert_array_equal(one.loss.sel(seed=0), trace.loss)
    assert not np.array_equal(one.loss, plain.loss)
    assert_same(swept("nesterov = false\n" + SHORT), plain)
    for kind, nesterov in (("", False), ("nesterov = true\n", True)):
        text = "theory = true\n" + kind + SHORT.replace('"critical:0.9"', "0.01")
        study = swept(f"{text}[over]\nmomentum = [0, 0.5, 0.9]")
        assert study.momentum.values.tolist() == [0.0, 0.5, 0.9]
        for beta in (0.0, 0.5, 0.9):
            optimizer = sa.Momentum(beta, nesterov=nesterov)
            found = study.sel(momentum=beta)
            trace = sa.simulate(problem, 0.01, 5, optimizer=optimizer)
            np.testing.assert_array_equal(found.loss.sel(seed=0), trace.loss)
            exact = sa.theory.expected(problem, 0.01, study.step.values, optimizer=optimizer)
            np.testing.assert_array_equal(found.exact_loss_mean, exact.loss_mean)


def test_a_study_of_plain_sgd_goes_on_from_before_there_was_momentum():
    """What tells a point's content is that of the same case in Python."""
    case = toml.of_table(tomllib.loads(SHORT)).case
    problem, options = case()
    run = sa.model.run.Run(problem, num_steps=5, **options)
    assert "optimizer" not in run.to_json()[0]


@pytest.mark.parametrize(
    ("problem", "over", "make"),
    [
        (
            'family = "power_law"\ndim = 1e3\nnum_dominant = 10\nexponent = 1.5',
            "gap_ratio = [3.0, 9.0]",
            lambda at: sa.Spectrum.power_law(1000, 10, 1.5, gap_ratio=at),
        ),
        (
            'family = "two_level"\nnum_dominant = 3\ndominant = 5\nbulk = 1',
            "dim = {from = 10, to = 1000, num = 3, scale = 'log'}",
            lambda at: sa.Spectrum.two_level(at, 3, 5.0, 1.0),
        ),
        (
            'family = "eigenvalues"\npath = "lam.npy"',
            "num_dominant = [2, 3]",
            lambda at: sa.Spectrum([9.0, 8.0, 2.0, 1.0], at),
        ),
        (
            'family = "linear_bands"\ndim = 40\nnum_dominant = 4',
            'bulk = ["7..1", "5..2"]',
            lambda at: sa.Spectrum.linear_bands(40, 4, bulk=tuple(map(float, at.split("..")))),
        ),
        (
            'family = "file"',
            'path = ["a.h5", "b.h5"]',
            lambda at: sa.Spectrum.load(at),
        ),
    ],
)
def test_every_family_is_that_of_python(tmp_path, monkeypatch, problem, over, make):
    np.save(tmp_path / "lam.npy", [1.0, 2.0, 8.0, 9.0])
    sa.Spectrum([3.0, 1.0], 1).save(tmp_path / "a.h5")
    sa.Spectrum([5.0, 2.0], 1).save(tmp_path / "b.h5")
    study = swept(
        f"num_steps = 4\nstep_size = 1e-3\n[problem]\n{problem}\n[over]\n{over}", tmp_path
    )
    monkeypatch.chdir(tmp_path)
    name = over.split(" ")[0]
    assert study.sizes[name] > 1
    for at in study[name].values.tolist():
        trace = sa.simulate(sa.Quadratic(make(at)), 1e-3, 4)
        np.testing.assert_array_equal(study.loss.sel({name: at, "seed": 0}), trace.loss)


def test_rows_seeds_and_enough_of_them(suspalign, tmp_path):
    study = swept("rows = 4\nseeds = [5, 9]\n" + SHORT)
    assert study.step.values.tolist() == [0, 1, 2, 5]
    assert study.seed.values.tolist() == [5, 9]
    theory = SHORT.replace('"critical:0.9"', "1e-3\nseeds = 0\ntheory = true")
    assert np.isfinite(swept(theory).exact_loss_mean).all()
    until = "seeds = 40\nrecord_every = 5\n" + SHORT
    until += "[until]\nstderr = 1e9\nfirst = 4\nvariable = 'loss'"
    (tmp_path / "until.toml").write_text(until)
    result = suspalign("sweep", "until.toml", "--quiet")
    assert "runs       4 complete, 36 not needed" in result.stdout
    assert "warning" not in result.stderr


def test_the_study_of_the_docs_is_the_published_sweep():
    text = (DOCS / "published.toml").read_text()
    assert f"```toml\n{text}```" in (DOCS / "studies.md").read_text()
    study = swept(text.replace("30_000", "50").replace("theory = true", "theory = false"))
    assert dict(study.sizes) == {"gap_ratio": 9, "seed": 7, "step": 51}
    bulk = np.linspace(7.0, 1.0, 450) * (80.0 / 10.1) / 7.0
    spectrum = sa.Spectrum(np.r_[np.linspace(100.0, 80.0, 50), bulk], 50)
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)
    trace = sa.simulate(problem, 0.003, 50, seed=3)
    found = study.alignment.sel(gap_ratio=10.1, seed=3)
    np.testing.assert_allclose(found, trace.alignment[study.step.values], rtol=1e-9)


def test_ranges():
    def values(whole=False, **given):
        return toml.axis_values("x", {"from": given.pop("start"), **given}, whole=whole)

    assert values(start=0, to=1, num=5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert values(start=4, to=1, num=4.0) == [4.0, 3.0, 2.0, 1.0]
    assert values(start=1, to=8, num=4, scale="log") == pytest.approx([1.0, 2.0, 4.0, 8.0])
    assert values(whole=True, start=1, to=3, num=9) == [1, 2, 3]


RANGE = 'step_size = {from = 1e-3, to = 4e-3, num = 3, scale = "log"}'
BAD = [
    ("num_steps = 60", "num_step = 60", "a study must have no keys but problem, over, num_steps"),
    ("num_steps = 60", "", "num_steps must be a key of the study, got none"),
    ("num_steps = 60", "num_steps = 1.5", "num_steps must be an integer of at least 0, got 1.5"),
    ("num_steps = 60", "num_steps = 3", "record_at must be"),
    ("seeds = 3", "seeds = -3", "seeds must be an integer of at least 0 and at most 1"),
    ("seeds = 3", "seeds = [1, 'a']", "seeds must be an integer"),
    ("seeds = 3", "seeds = [1, 1]", "seeds must differ"),
    ("seeds = 3", "seeds = true", "seeds must be an integer"),
    ("record_at = [1, 7, 60]", "record_at = [7, 1]", "record_at must be"),
    ("record_at = [1, 7, 60]", "record_at = 7", "record_at must be a list of numbers or of texts"),
    ("record_at = [1, 7, 60]", "record_at = [1]\nrows = 9", "one of record_every, record_at, rows"),
    ("record_at = [1, 7, 60]", "rows = 1", "rows must be an integer of at least 2 and at most"),
    ("record_at = [1, 7, 60]", "record_every = 0", "record_every must be an integer of at least 1"),
    ("theory = true", "theory = 1", "theory must be True or False, got 1"),
    ("theory = true", "until = {stderr = 1, last = 3}", "[until] must have no keys but stderr"),
    ("theory = true", "until = {first = 3}", "[until] must have stderr, got none"),
    ("theory = true", "until = {stderr = 1, variable = 'x'}", "'variable'] must be one of"),
    ('engine = "levels"', 'engine = "warp"', "engine must be one of 'step'"),
    ('engine = "levels"', 'update = "half"', "update must be 'full'"),
    ('engine = "levels"', 'dtype = "float16"', "dtype must be"),
    ('engine = "levels"', "momentum = 1.0", "momentum must be from 0 to below 1, got 1.0"),
    ('engine = "levels"', "momentum = '0.9'", "momentum must be a finite number of at least zero"),
    ('engine = "levels"', "momentum = true", "momentum must be a finite number of at least zero"),
    ('engine = "levels"', "nesterov = true", "nesterov must go with momentum, and there is none"),
    ('engine = "levels"', "nesterov = 1", "nesterov must be True or False, got 1"),
    ("gap_ratio = [10.0, 50.0]", "momentum = [0.9, 1.0]", "got 1.0 (at momentum = 1.0"),
    ("gap_ratio = [10.0, 50.0]", "nesterov = [1]", "[over] must have no keys but dim"),
    ('["alignment", "loss", "power_sums"]', '["speed"]', "variables must be columns of a trace"),
    ('["alignment", "loss", "power_sums"]', "3", "variables must be a text or a list of texts"),
    ("[problem]", "[problems]", "no keys but problem, over"),
    ('"linear_bands"', '"cubic"', "[problem] must have family = one of 'linear_bands'"),
    ("dim = 500", "size = 500", "[problem] must have no keys but family, noise, initial, dim"),
    ("dim = 500", "", "linear_bands needs dim"),
    ("dim = 500", "dim = 20", "num_dominant must be below dim = 20, got 50"),
    ("dim = 500", "dim = true", "[problem] dim must be a number"),
    ("[100, 80]", "[100, 'a']", "dominant must be a finite number of at least zero, got 'a'"),
    ("[100, 80]", '"100"', "dominant must be a pair"),
    ("[100, 80]", '"1..x"', "dominant must be a number or a pair like 100..80, got '1..x'"),
    ('"isotropic:0.5"', '"pink:0.5"', "noise must be one of isotropic, hessian, data"),
    ('"isotropic:0.5"', '"isotropic:x"', "noise must be one of isotropic"),
    ('"isotropic:0.5"', '"isotropic:-1"', "must be a finite number"),
    ('"isotropic:0.5"', '"isotropic"', "noise 'isotropic' needs std"),
    ('"isotropic:0.5"', "{model = 'pink'}", "noise.model must be one of 'isotropic'"),
    ('"isotropic:0.5"', "{model = 'data', size = 3}", "noise must have no keys but model, batch_s"),
    ('"isotropic:0.5"', "3", "noise must be a text or a table with model = NAME, got 3"),
    ("initial = 10.0", "initial = -1", "initial must be a finite number"),
    ("gap_ratio = [10.0, 50.0]", "ratio = [1.0]", "[over] must have no keys but dim, num_dominant"),
    ("gap_ratio = [10.0, 50.0]", "fraction = [1.0]", "[over] must have no keys but dim"),
    ("gap_ratio = [10.0, 50.0]", "gap_ratio = 10", "[over] gap_ratio must be a list of numbers or"),
    ("gap_ratio = [10.0, 50.0]", "gap_ratio = []", "[over] gap_ratio must have at least one value"),
    ("gap_ratio = [10.0, 50.0]", "gap_ratio = [2, 2.0]", "each value once, got 2.0 twice"),
    ("gap_ratio = [10.0, 50.0]", "gap_ratio = [2, 'a']", "[over] gap_ratio must be a list of num"),
    ("gap_ratio = [10.0, 50.0]", "gap_ratio = [nan]", "[over] gap_ratio must be a list of numbers"),
    ("gap_ratio = [10.0, 50.0]", "gap_ratio = [true]", "[over] gap_ratio must be a list of number"),
    ("gap_ratio = [10.0, 50.0]", "gap_ratio = [0.5]", "gap_ratio must be above 1, got 0.5 (at gap"),
    ("from = 1e-3", "form = 1e-3", "[over] step_size must have no keys but from, to, num, scale"),
    ("num = 3", "num = 0", "[over] step_size.num must be an integer of at least 1"),
    ("to = 4e-3, ", "", "[over] step_size must have to in its range"),
    ("to = 4e-3", "to = 1e-3", "[over] step_size.to must be another number than from"),
    ("to = 4e-3", "to = -1", "[over] step_size on a logarithmic scale must be between positive"),
    ("to = 4e-3", "to = inf", "[over] step_size.to must be a finite number"),
    ('"log"', '"root"', "[over] step_size.scale must be one of 'linear', 'log'"),
    ("step_size = {", "step_sizes = {", "no keys but dim"),
    (RANGE, "step_size = ['critical:0.5', 'critical:x']", "step_size must be a number or one of"),
    (RANGE, "", "step_size must be a key of the study or of [over], got neither"),
    ("seeds = 3", "seeds = = 3", "study.toml is not TOML: "),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BAD)
def test_a_bad_study_is_one_sentence_and_exit_status_2(suspalign, tmp_path, old, new, message):
    (tmp_path / "study.toml").write_text(changed(old, new))
    assert_refused(suspalign("sweep", "study.toml"), message)
    assert not (tmp_path / "study.nc").exists()


def assert_refused(result, message):
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


WEIRD = [
    True, -1, 0, 1e300, float("nan"), float("inf"), "", "x", [], [1], [[1, 2]], {}, {"a": 1},
    10**30,
    {"model": "data"}, {"rule": "critical"}, {"rule": ["x"]}, {"rule": "constant", "value": "x"},
    {"model": "isotropic", "std": [1]}, {"model": "diagonal", "values": [1, 2]}, ["a", 1], [True],
    [{}], datetime.date(2020, 1, 1), "critical:0.5", "auto", "cuda",
]  # fmt: skip


def keys(table, *above):
    for key, value in table.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from keys(value, *above, key)


def test_no_value_of_any_key_is_a_traceback():
    whole = tomllib.loads(STUDY) | {"step_size": 1e-3, "update": "full", "dtype": "float64"}
    whole |= {
        "momentum": 0.5,
        "nesterov": True,
        "device": "cpu",
        "until": {"stderr": 1, "variable": "loss", "first": 3},
    }
    others = [("over", name) for name in ("dim", "bulk", "noise", "std", "engine", "momentum")]
    refused = 0
    for *above, key in [*keys(whole), *others]:
        for value in WEIRD:
            content = table = copy.deepcopy(whole)
            for name in above:
                table = table[name]
            table[key] = value
            with contextlib.suppress(ValueError, OSError, MemoryError, sa.DeviceError):
                toml.of_table(content)
                continue
            refused += 1
    assert refused > 500


def test_noise_and_its_fields_exclude_each_other(suspalign, tmp_path):
    text = changed("gap_ratio = [10.0, 50.0]", "std = [0.1]\nnoise = ['hessian:1']")
    (tmp_path / "study.toml").write_text(text)
    assert_refused(suspalign("sweep", "study.toml"), "[over] must have either noise or std")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.toml",), "missing.toml does not exist"),
        ((".",), ". cannot be read: Is a directory"),
        (("bytes.toml",), "bytes.toml is not TOML"),
        (("study.toml", "-o", "study.toml"), "--output must name the file of the results"),
        (("study.toml", "-o", "nowhere/x.nc"), "is not a directory"),
        (("study.toml", "--executor", "cloud"), "--executor must be threads, threads:N, processes"),
        (("study.toml", "--executor", "processes:0"), "N from 1 to 10000, got 'processes:0'"),
        (("study.toml", "--executor", "processes:"), "--executor must be threads"),
        (("study.toml", "--executor", "processes:-1"), "--executor must be threads"),
        (("study.toml", "--executor", "dask://"), "--executor must be threads"),
        (("study.toml", "--speed", "3"), "No such option"),
    ],
)
def test_bad_options_are_one_sentence(suspalign, tmp_path, arguments, message):
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert_refused(suspalign("sweep", *arguments), message)


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_is_not_there_is_one_sentence(suspalign, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(console, "PATIENCE", 0.2)
    result = suspalign("sweep", "study.toml", "--executor", "dask://127.0.0.1:1")
    assert_refused(result, "--executor: no Dask scheduler answers at tcp://127.0.0.1:1")


def test_packages_that_are_absent_are_named_with_their_extra(suspalign, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "distributed", None)
        result = suspalign("sweep", "study.toml", "--executor", "dask://localhost:1")
        assert_refused(result, "pip install 'suspalign-fast[clusters]'")
    suspalign("sweep", "study.toml", "--quiet")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "xarray", None)
        for arguments in (("sweep", "study.toml", "-o", "new.nc"), ("plot", "study.nc")):
            assert_refused(suspalign(*arguments), "pip install 'suspalign-fast[studies]'")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "h5netcdf", None)  # files are read by this package's own reader
        assert suspalign("plot", "study.nc", "-o", "without.png").exit_code == 0


def test_runs_that_fail_are_counted_and_the_first_is_quoted(suspalign, tmp_path):
    text = changed("[10.0, 50.0]", "[10.0, 0.5]").replace("num = 3", "num = 2")
    (tmp_path / "study.toml").write_text(text.replace("to = 4e-3", "to = 10.0"))
    result = suspalign("sweep", "study.toml", "--quiet")
    assert result.exit_code == 0, result.output
    assert "runs       3 complete, 3 diverged, 6 error" in result.stdout
    assert "the first error: ValueError: gap_ratio must be above 1, got 0.5" in result.stderr


STOPPED = """
import os, signal, sys
from suspalign_fast.base import threads as _threads
from suspalign_fast.studies import toml as toml_study
from suspalign_fast.cli import main
real, calls = toml_study.StudyCase.__call__, []
def stopping(self, **point):
    calls.append(point)
    if len(calls) == 14:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return real(self, **point)
if __name__ == "__main__":
    toml_study.StudyCase.__call__ = stopping
    main(["sweep", "study.toml", "--quiet"])
"""


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_with_one_line_and_the_same_command_goes_on(
    suspalign, tmp_path, in_python, name, status
):
    process = subprocess.run(
        [sys.executable, "-c", STOPPED, name], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == status, process.stderr
    assert process.stderr == "stopped; go on with: suspalign sweep study.toml\n"
    result = suspalign("sweep", "study.toml", "--quiet")
    assert result.exit_code == 0, result.output
    assert_same(opened("study.nc"), in_python)


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_in_a_terminal_ends_the_processes_too(suspalign, tmp_path):
    """A terminal sends it to all: workers say nothing, and none is left."""
    text = SHORT.replace("num_steps = 5", "num_steps = 500_000_000\nrecord_every = 100_000_000")
    (tmp_path / "long.toml").write_text(text.replace('"critical:0.9"', "1e-3\nseeds = 20"))
    process = subprocess.Popen(
        [sys.executable, "-m", "suspalign_fast", "sweep", "long.toml", "--quiet", "--executor",
         "processes:2"],
        cwd=tmp_path, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (tmp_path / "long.nc").exists() and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(5)  # workers are at work, or on their way
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)  # ends once nobody has the pipes any more
    assert process.returncode == 130
    again = "suspalign sweep long.toml --executor processes:2"
    assert said == f"stopped; go on with: {again}\n"


IDLE = """
import time
from suspalign_fast.cli import pools
with pools.executor("processes:2") as pool:
    assert list(pool.map(abs, [1, 2])) == [1, 2]
    print("ready", flush=True)
    time.sleep(600)
"""
OWN_POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from suspalign_fast.studies import toml as toml_study
if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(abs, [1, 2]))
        print("ready", flush=True)
        toml_study.load("long.toml").sweep(executor=pool)
"""


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("what", ["the command", "idle workers", "a pool of one's own"])
def test_workers_end_with_a_parent_that_is_killed(tmp_path, what):
    text = SHORT.replace("num_steps = 5", "num_steps = 500_000_000\nrecord_every = 100_000_000")
    (tmp_path / "long.toml").write_text(text.replace('"critical:0.9"', "1e-3\nseeds = 20"))
    (tmp_path / "own.py").write_text(OWN_POOL)
    arguments = {
        "the command": ["-m", "suspalign_fast", "sweep", "long.toml", "--executor", "processes:2"],
        "idle workers": ["-c", IDLE],
        "a pool of one's own": ["own.py"],
    }[what]
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline()
        if what != "idle workers":
            time.sleep(6)  # workers are at work
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)  # ends once nobody has the pipes any more
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("text", "kind", "workers"),
    [
        ("threads:3", ThreadPoolExecutor, 3),
        ("processes:2", ProcessPoolExecutor, 2),
        ("processes", ProcessPoolExecutor, threads.available()),
    ],
)
def test_executors_are_what_they_are_called(text, kind, workers):
    with console.executor("threads") as pool:
        assert pool is None
    with console.executor(text) as pool:
        assert isinstance(pool, kind)
        assert pool._max_workers == workers
        if kind is ProcessPoolExecutor:
            assert pool._mp_context.get_start_method() == "spawn"
            assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN
