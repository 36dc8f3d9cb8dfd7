"""What ``docs/extending.md`` shows works from outside of the package, block by block."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.base.registry import ENGINES, NOISES, OPTIMIZERS, RULES
from suspalign_fast.physics import row
from suspalign_fast.traces.writers import MeasuredWriter

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
PROBLEM = sa.Quadratic(sa.Spectrum.linear_bands(300, 10), initial=2.0)

#: Run after the page: the command line knows what the page registered.
COMMAND_LINE = """
from click.testing import CliRunner
from suspalign_fast.cli import main
sa.Spectrum.linear_bands(300, 10).save("small.h5")
common = ["run", "--spectrum", "small.h5", "--steps", "20", "--no-plot", "--quiet"]
for i, options in enumerate((
    ["--step-size", "inverse:0.005"], ["--noise", "bulk_only"], ["--engine", "descent"],
    ["--noise", "quadratic", "--engine", "levels"],
)):
    result = CliRunner().invoke(main, [*common, *options, "-o", f"{i}.h5"])
    assert result.exit_code == 0, result.output
result = CliRunner().invoke(main, ["info", "0.h5"])
assert "gradient_norm" in result.output and "inverse" in result.output
"""

#: A process that has registered nothing loads what it can and names what is missing.
STRANGER = """
import suspalign_fast as sa
trace = sa.load_trace("norm.h5")
assert trace.alignment.size == 101 and not hasattr(trace, "gradient_norm")
try:
    sa.resume("quadratic.h5")
except OSError as error:
    assert "'quadratic' is not known" in str(error) and "register" in str(error), error
else:
    raise AssertionError
try:
    sa.load_trace("optimizer.h5").run
except (OSError, ValueError) as error:
    assert "'quasi_hyperbolic' is not known" in str(error), error
else:
    raise AssertionError
"""


#: Runs of the page are short: they are extended before there is a checkpoint.
QUIET = "import warnings\nwarnings.filterwarnings('ignore', '.*steps are computed again')\n"


def run(code, folder):
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIET + code],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]


@pytest.mark.long
def test_the_page_runs(tmp_path):
    assert len(BLOCKS) == 7
    run("\n".join(BLOCKS) + COMMAND_LINE, tmp_path)
    run(STRANGER, tmp_path)


# --- registries ------------------------------------------------------------------------------


@pytest.mark.parametrize("registry", [NOISES, RULES, ENGINES, OPTIMIZERS])
def test_a_name_is_taken_once(registry):
    name = registry.names()[0]
    with pytest.raises(ValueError, match=f"no .* has, got '{name}'"):
        registry.register(name)(type("Other", (), {}))
    assert registry.names().count(name) == 1


def test_aliases_are_found_but_not_listed():
    assert RULES["interval"] is RULES["loss_interval"] is sa.LossIntervalStep
    assert RULES["online"] is sa.OnlineCriticalStep
    assert "interval" in RULES
    assert "interval" not in RULES.names()
    assert RULES.name_of(sa.CriticalStep(0.9)) == "critical"


def test_a_derived_class_is_not_the_one_it_is_derived_from():
    class Other(sa.CriticalStep):
        pass

    assert RULES.name_of(Other(0.9)) is None
    with pytest.raises(ValueError, match="registered class"):
        RULES.describe(Other(0.9), {})


def test_names_of_types_are_those_of_the_registry():
    from typing import get_args

    from suspalign_fast.model.run import EngineName

    assert get_args(EngineName) == ENGINES.names()


# --- laws of the noise -------------------------------------------------------------------------


class Law(sa.Noise):
    def __init__(self, sigma, power):
        self.law = sa.Scaling(sigma, power)

    def scaling(self, spectrum):
        return self.law


class Both(Law):
    def __init__(self, sigma, power, factor):
        super().__init__(sigma, power)
        self.factor = factor

    def scaling(self, spectrum):
        return self.law

    def stds(self, spectrum):
        return self.factor * self.law.stds(spectrum.eigenvalues)


@pytest.mark.mostly_long
@pytest.mark.parametrize("engine", ["step", "jump", "levels", "reference"])
@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("spectrum", [
    sa.Spectrum.linear_bands(3000, 37),
    sa.Spectrum([100.0, 90.0, 2.0, 0.5, 0.0], 30, [10, 20, 300, 1400, 50]),
])  # fmt: skip
def test_a_law_has_the_rows_of_its_standard_deviations(engine, power, spectrum):
    law, size = Law(0.3, power), 0.5 / float(spectrum.eigenvalues[0])
    traces = [
        sa.simulate(sa.Quadratic(spectrum, noise, initial=3.0), size, 40, engine=engine)
        for noise in (law, sa.DiagonalNoise(law.stds(spectrum)))
    ]
    for name in ("power_sums", "noise_sums"):
        np.testing.assert_allclose(traces[0][name], traces[1][name], rtol=1e-10)


def test_a_law_that_contradicts_the_standard_deviations_is_refused():
    sa.Quadratic(PROBLEM.spectrum, Both(0.3, 1, 1.0))
    with pytest.raises(ValueError, match="stds that follow its scaling"):
        sa.Quadratic(PROBLEM.spectrum, Both(0.3, 1, 1.01))


@pytest.mark.parametrize(("law", "message"), [
    (Law(-0.1, 0), "sigma must be"), (Law(np.nan, 0), "sigma must be"),
    (Law(0.1, 3), "power must be one of 0, 1, 2"), (Law(0.1, 0.5), "power must be one of 0, 1, 2"),
    (sa.Noise(), "stds or its scaling"),
])  # fmt: skip
def test_laws_that_are_none_are_refused(law, message):
    with pytest.raises(ValueError, match=message):
        sa.Quadratic(PROBLEM.spectrum, law)


# --- columns -----------------------------------------------------------------------------------


@pytest.fixture
def column():
    names = []

    def add(function, name="extra"):
        names.append(name)
        return row.derived(name, unit="1", meaning="of a test")(function)

    yield add
    for name in names:
        row.remove(name)


def test_files_written_before_a_column_have_it(tmp_path, column):
    sa.simulate(PROBLEM, 1e-3, 50, path=tmp_path / "a.h5")
    column(lambda part: part.power_sums[:, 0, 3] + part.constants[0, 0] * part.step)
    trace = sa.load_trace(tmp_path / "a.h5")
    expected = trace.power_sums[:, 0, 3] + trace.constants[0, 0] * trace.step
    assert np.array_equal(trace.extra, expected)
    assert np.array_equal(trace.read("extra", 10, 20), expected[10:20])
    assert np.array_equal(sa.resume(tmp_path / "a.h5", num_steps=60).extra[:51], expected)


@pytest.mark.parametrize(("function", "message"), [
    (lambda part: part.power_sums[:, 0], "must return an array of shape"),
    (lambda part: part.nothing, "raised AttributeError: nothing"),
])  # fmt: skip
def test_a_column_that_fails_is_nan_with_a_warning(tmp_path, column, function, message):
    column(function)
    file = tmp_path / "a.h5"
    with pytest.warns(RuntimeWarning, match=message) as said:
        trace = sa.simulate(PROBLEM, 1e-3, 9_000, path=file)
    assert (trace.status, len(said)) == ("complete", 1)  # not one a commit
    with h5py.File(file) as stored:
        assert np.isnan(stored["trace/extra"][:]).all()
    for all_columns in (trace.columns, trace.table):
        with pytest.warns(RuntimeWarning, match=message):
            found = all_columns()
        assert np.isnan(found["extra"]).all()
        assert np.array_equal(found["loss"], trace.loss)
    with pytest.raises(ValueError, match=message):
        _ = trace.extra


def test_a_column_that_fails_keeps_no_measured_file_from_being_written(tmp_path, column):
    column(lambda part: 1 / 0)
    rows = sa.simulate(PROBLEM, 1e-3, 3)
    writer = MeasuredWriter(tmp_path / "m.h5", "a test", {"noise_constants": (2, 3)})
    recorded = {name: rows[name] for name in row.RECORDED}
    recorded["noise_constants"] = np.broadcast_to(rows.constants, (4, 2, 3))
    with pytest.warns(RuntimeWarning, match="raised ZeroDivisionError: .*; the column is NaN"):
        writer.append(recorded)
    writer.append(recorded)  # what is said is said
    writer.finish("complete")
    assert np.array_equal(sa.load_trace(tmp_path / "m.h5").loss[:4], rows.loss)


@pytest.mark.parametrize("name", ["loss", "power_sums", "band", "noise_power", "not a name", ""])
def test_names_of_columns_are_new_identifiers(name):
    with pytest.raises(ValueError, match="identifier that no column and no dimension has"):
        row.derived(name, unit="1", meaning="")


# --- traces without a problem --------------------------------------------------------------------


@pytest.mark.long
def test_measured_rows_are_a_trace(tmp_path):
    simulated = sa.simulate(PROBLEM, 1e-3, 30)
    columns = {name: simulated[name] for name in row.RECORDED}
    trace = sa.Trace.measured(columns, simulated.constants, source="a network")
    for name in row.columns():
        assert np.array_equal(trace[name], simulated[name])
    assert np.array_equal(trace.regime, simulated.regime)
    assert np.isfinite(trace.predicted.probability).all()
    assert trace.problem is None
    assert "a network" in repr(trace)
    with pytest.raises(ValueError, match="measured on a network"):
        _ = trace.run
    figure = sa.plot_trace(trace, tmp_path / "a.png")
    said = " ".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))
    assert "a network" in said
    assert "not a quadratic" in said


@pytest.mark.parametrize(("change", "message"), [
    ({"power_sums": np.ones((31, 2, 3))}, r"'power_sums' must have shape \(31, 2, 4\)"),
    ({"step": np.arange(30)}, "must have shape"),
])  # fmt: skip
def test_measured_columns_are_checked(change, message):
    simulated = sa.simulate(PROBLEM, 1e-3, 30)
    columns = {name: simulated[name] for name in row.RECORDED} | change
    with pytest.raises(ValueError, match=message):
        sa.Trace.measured(columns, simulated.constants, source="a network")


# --- the page of the format ------------------------------------------------------------------


def test_the_page_of_the_format_has_the_columns_there_are():
    page = (PAGE.parent / "file-format.md").read_text()
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \((rows[^)]*)\) \| (.*?) \| (.*) \|$", page, re.MULTILINE
    )
    expected = [
        (
            column.name,
            np.dtype(column.dtype).name,
            ", ".join(["rows", *map(str, column.shape)]),
            column.unit,
            column.meaning.replace("|", "\\|"),
        )
        for column in row.columns(has_velocity=True).values()
    ]
    assert rows == expected


# --- classes that change ---------------------------------------------------------------------


@dataclass(frozen=True)
class Stored(sa.Noise):
    """Noise of a user's, registered while a test lasts."""

    values: np.ndarray

    def stds(self, spectrum):
        return np.asarray(self.values, float)


@pytest.fixture
def stored():
    NOISES.register("stored")(Stored)
    yield
    NOISES.remove("stored")


def test_a_class_that_changed_is_not_resumed(tmp_path, stored, monkeypatch):
    problem = sa.Quadratic(PROBLEM.spectrum, Stored(np.full(300, 0.5)))
    sa.simulate(problem, 1e-3, 50, path=tmp_path / "a.h5")
    assert len(sa.resume(tmp_path / "a.h5", num_steps=60)) == 61
    monkeypatch.setattr(Stored, "stds", lambda self, spectrum: 1.01 * self.values)
    before = (tmp_path / "a.h5").read_bytes()
    with pytest.raises(ValueError, match="noise must be that of the run in"):
        sa.resume(tmp_path / "a.h5", num_steps=70)
    assert (tmp_path / "a.h5").read_bytes() == before


def test_values_along_unsorted_levels_are_stored_as_they_are_used(tmp_path, stored):
    """Files keep levels sorted: what a class made of the order they were given in is kept, too."""

    class Order(Stored):
        def stds(self, spectrum):
            return self.values if spectrum.order is None else self.values[spectrum.order]

    NOISES.register("order")(Order)
    try:
        spectrum = sa.Spectrum([1.0, 3.0, 2.0], 1)
        problem = sa.Quadratic(spectrum, Order(np.array([0.1, 0.3, 0.2])))
        whole = sa.simulate(problem, 0.1, 60)
        sa.simulate(problem, 0.1, 50, path=tmp_path / "a.h5")
        assert np.array_equal(sa.resume(tmp_path / "a.h5", num_steps=60).loss, whole.loss)
    finally:
        NOISES.remove("order")
