"""Measured rows with noise constants of their own, and their file; no torch is needed."""

import copy
import pickle

import h5py
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.cli.commands import main
from suspalign_fast.physics import rows as measured
from suspalign_fast.physics.row import RECORDED
from suspalign_fast.storage.output import text
from suspalign_fast.traces.writers import MeasuredWriter

from ..repository.test_docs import ROOT

K = 3
ROWS = 20


@pytest.fixture(scope="module")
def data_run():
    """A run whose noise depends on the state: every row has constants of its own."""
    spectrum = sa.Spectrum.linear_bands(200, 10)
    problem = sa.Quadratic(spectrum, sa.DataNoise(8, 0.5), initial=1.0)
    return sa.simulate(problem, 1e-3, ROWS - 1, engine="reference")


@pytest.fixture(scope="module")
def columns(data_run):
    sums = data_run.power_sums.copy()
    sums[:, :, 0] = np.nan
    noise = data_run.problem.noise
    at = noise.constants_at(data_run.constants, data_run.power_sums, data_run.noise_sums)
    ones = np.ones(ROWS)
    return {
        "step": data_run.step, "step_size": data_run.step_size, "power_sums": sums,
        "noise_sums": data_run.noise_sums, "loss": data_run.loss, "noise_constants": at,
        "critical_error": 0.1 * ones, "critical_edge": 0.5 * ones,
        "beyond_quadratic": np.zeros(ROWS), "top_eigenvalues": np.ones((ROWS, K + 1)),
    }  # fmt: skip


def made(columns, **options):
    rest = {name: values for name, values in columns.items() if name != "noise_constants"}
    return sa.Trace.measured(rest, columns["noise_constants"], source="a network", **options)


def written(path, columns, rows=ROWS, status="complete"):
    shapes = {name: np.shape(v)[1:] for name, v in columns.items() if name not in RECORDED}
    writer = MeasuredWriter(path, "a network", shapes, overwrite=True)
    for i in range(rows):
        writer.append({name: values[i : i + 1] for name, values in columns.items()})
    if status:
        writer.finish(status)
    return writer


def test_constants_of_every_row_are_used(columns, data_run):
    trace = made(columns)
    np.testing.assert_array_equal(trace.critical_step_size, data_run.critical_step_size)
    np.testing.assert_array_equal(trace.regime, data_run.regime)
    np.testing.assert_array_equal(trace.loss_interval, data_run.loss_interval)
    np.testing.assert_array_equal(trace.loss, data_run.loss)
    assert trace.constants.shape == (ROWS, 2, 3)
    assert np.isnan(trace.loss_bulk).all()
    with pytest.raises(ValueError, match="measured on a network"):
        _ = trace.run


def test_predictions_of_rows_are_those_of_each_alone(columns):
    trace = made(columns)
    together = trace.predicted
    for i in range(0, ROWS, 5):
        one = {name: columns[name][i : i + 1] for name in RECORDED}
        alone = sa.Trace.measured(one, columns["noise_constants"][i], source="a row").predicted
        for name in ("mean", "std", "change", "z", "probability"):
            np.testing.assert_allclose(getattr(together, name)[i], getattr(alone, name)[0], 1e-12)


def test_a_part_of_a_column_is_that_part(columns, tmp_path):
    written(tmp_path / "a.h5", columns)
    for trace in (made(columns), sa.load_trace(tmp_path / "a.h5")):
        for name in trace.columns():
            np.testing.assert_array_equal(trace.read(name, 3, 7), made(columns)[name][3:7])


def test_upper_bounds_are_infinite_where_curvature_is_negative(columns):
    sums, constants = np.ones((2, 4)), np.zeros((2, 3))
    sums[1, 2] = -1.0
    assert sa.physics.formulas.loss_interval(sums, constants).tolist() == [2.0, np.inf]


@pytest.mark.long
def test_a_file_is_the_trace(columns, tmp_path):
    path = tmp_path / "a.h5"
    written(path, columns)
    trace = sa.load_trace(path)
    assert trace == made(columns)
    for same in (pickle.loads(pickle.dumps(trace)), copy.deepcopy(made(columns))):
        assert same == trace
    other = columns | {"noise_constants": 2.0 * columns["noise_constants"]}
    assert made(other) != trace
    assert made({n: v for n, v in columns.items() if n != "loss"}) != trace
    sa.plot_trace(trace, tmp_path / "a.png")


def test_a_file_is_read_while_it_grows(columns, tmp_path):
    path = tmp_path / "a.h5"
    writer = written(path, columns, rows=5, status="")
    trace = sa.load_trace(path)
    assert (len(trace), trace.status) == (5, "running")
    writer.append({name: values[5:6] for name, values in columns.items()})
    assert len(sa.load_trace(path)) == 6
    np.testing.assert_array_equal(sa.load_trace(path).alignment, made(columns).alignment[:6])
    writer.finish("interrupted")
    assert sa.load_trace(path).status == "interrupted"


@pytest.mark.long
def test_files_are_netcdf(columns, tmp_path):
    xarray = pytest.importorskip("xarray")
    path = tmp_path / "a.h5"
    written(path, columns)
    rows = xarray.open_dataset(path, group="trace", engine="h5netcdf").load()
    labelled = made(columns).to_xarray()
    assert set(rows.variables) == set(labelled.variables)
    for name, variable in labelled.variables.items():
        assert rows[name].dims == variable.dims
        np.testing.assert_array_equal(rows[name].values, variable.values)
    assert rows.top_eigenvalues.attrs["units"] == "loss/theta^2"
    assert rows.noise_constants.sel(constant="N2", band="bulk").shape == (ROWS,)


def test_the_command_line_describes_a_file(columns, tmp_path):
    from click.testing import CliRunner

    written(tmp_path / "a.h5", columns)
    for more in ((), ("--follow",)):
        done = CliRunner().invoke(main, ["info", str(tmp_path / "a.h5"), *more])
        assert done.exit_code == 0, done.output
        assert "a network" in done.output
        assert f"{made(columns).loss[0]:.4g}" in done.output
    assert CliRunner().invoke(main, ["resume", str(tmp_path / "a.h5")]).exit_code == 2


@pytest.mark.parametrize(("change", "message"), [
    ({"loss": np.ones(3)}, "column 'loss' must have 20 rows"),
    ({"loss": np.ones((ROWS, 2))}, r"rows of 'loss' must have shape \(\), got \(2,\)"),
    ({"top_eigenvalues": np.ones(ROWS)}, "rows of 'top_eigenvalues' must have shape"),
    ({"top_eigenvalues": np.ones((ROWS, 1))}, r"shape \(k \+ 1,\), k >= 1, got \(1,\)"),
    ({"top_eigenvalues": np.ones((ROWS, 0))}, r"shape \(k \+ 1,\), k >= 1, got \(0,\)"),
    ({"temperature": np.ones(ROWS)}, "measured columns must be of loss, noise_constants"),
    ({"noise_constants": np.ones((ROWS, 3))}, "constants must be of shape"),
])  # fmt: skip
def test_columns_are_checked(columns, change, message):
    with pytest.raises(ValueError, match=message):
        made(columns | change)


DESCENDING = np.tile([4.0, 3.0, 2.0, 1.0], (ROWS, 1))


def with_row(row, values):
    changed = DESCENDING.copy()
    changed[row] = values
    return changed


@pytest.mark.mostly_long
@pytest.mark.parametrize(("values", "message"), [
    (DESCENDING[:, ::-1], r"finite and descending, .* got \[1.0, 2.0, 3.0, 4.0\] at row 0"),
    (with_row(7, [4.0, 3.0, 2.0, 2.5]), r"got \[4.0, 3.0, 2.0, 2.5\] at row 7"),
    (with_row(7, [-1.0, -2.0, -4.0, -3.0]), "finite and descending"),
    (with_row(19, [4.0, np.nan, 2.0, 1.0]), r"got \[4.0, nan, 2.0, 1.0\] at row 19"),
    (with_row(0, [np.nan] * 4), "finite and descending"),
    (with_row(0, [np.inf, 3.0, 2.0, 1.0]), "finite and descending"),
    (with_row(0, [4.0, 3.0, 2.0, -np.inf]), "finite and descending"),
])  # fmt: skip
def test_top_eigenvalues_descend(columns, values, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        made(columns | {"top_eigenvalues": values})
    shapes = {name: np.shape(v)[1:] for name, v in columns.items() if name not in RECORDED}
    shapes["top_eigenvalues"] = values.shape[1:]
    writer = MeasuredWriter(tmp_path / "a.h5", "a network", shapes)
    with pytest.raises(ValueError, match="top_eigenvalues must be"):
        writer.append(columns | {"top_eigenvalues": values})
    with pytest.raises(ValueError, match=r"rows of 'top_eigenvalues' must have shape .* got \(7,"):
        writer.append(columns | {"top_eigenvalues": np.ones((ROWS, 7))})
    writer.finish("failed")
    assert len(sa.load_trace(tmp_path / "a.h5")) == 0


@pytest.mark.mostly_long
@pytest.mark.parametrize("values", [
    DESCENDING, with_row(3, [4.0, 3.0, 2.0, np.nan]), with_row(3, [4.0, 4.0, 0.0, -1.0]),
])  # fmt: skip
def test_top_eigenvalues_may_be_equal_negative_and_the_last_unknown(columns, values, tmp_path):
    trace = made(columns | {"top_eigenvalues": values})
    written(tmp_path / "a.h5", columns | {"top_eigenvalues": values})
    for found in (trace, sa.load_trace(tmp_path / "a.h5")):
        np.testing.assert_array_equal(found["top_eigenvalues"], values)


def test_a_file_whose_top_eigenvalues_ascend_is_refused(columns, tmp_path):
    path = tmp_path / "a.h5"
    written(path, columns | {"top_eigenvalues": DESCENDING})
    with h5py.File(path, "r+") as file:
        file["trace/top_eigenvalues"][:] = DESCENDING[:, ::-1]
    with pytest.raises(OSError, match=r"a.h5 cannot be read: column 'top_eigenvalues': .* at row"):
        _ = sa.load_trace(path)["top_eigenvalues"]


def test_there_is_a_line_for_every_column_in_the_page_of_the_format():
    page = (ROOT / "docs" / "file-format.md").read_text()
    for column in measured.columns().values():
        assert f"| `/trace/{column.name}` |" in page


DAMAGE = {
    "later": (lambda f: f.attrs.modify("format_version", 2), "has format version 2 of measured"),
    "status": (lambda f: f.attrs.modify("status", np.bytes_(b"lost".ljust(16))), "status 'lost'"),
    "rows": (lambda f: f.attrs.modify("committed_rows", np.int64(21)), "does not hold 21 rows"),
    "negative": (lambda f: f.attrs.modify("committed_rows", np.int64(-1)), "does not hold -1"),
    "missing": (lambda f: f["trace"].__delitem__("noise_constants"), "noise_constants' is missing"),
    "spec": (lambda f: f.attrs.__setitem__("spec", text("{")), "damaged"),
    "columns": (
        lambda f: f.attrs.__setitem__("spec", text('{"source": "", "update": "full", '
                                                   '"measured": {"noise_constants": [2, 2]}}')),
        "must have shape",
    ),
    "constants": (
        lambda f: f.attrs.__setitem__("spec", text('{"source": "", "update": "full", '
                                                   '"measured": {}}')),
        "no constants of the noise",
    ),
}  # fmt: skip


@pytest.mark.mostly_long
@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files_are_refused(kind, columns, tmp_path):
    path = tmp_path / "a.h5"
    written(path, columns)
    damage, message = DAMAGE[kind]
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(OSError, match=message):
        sa.load_trace(path)


@pytest.mark.long
def test_another_file_in_the_place_is_told(columns, tmp_path):
    path = tmp_path / "a.h5"
    written(path, columns)
    trace = sa.load_trace(path)
    written(path, columns)
    with pytest.raises(OSError, match="another run replaced the file"):
        _ = trace.alignment


NETWORKS = sorted((ROOT / "data" / "networks").glob("*.h5"))


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_rows_of_the_repository_are_read(path):
    trace = sa.load_trace(path)
    assert trace.status == "complete"
    assert np.isfinite(trace.alignment).all()
    if "quadratic" in path.name:
        assert trace.problem.spectrum.dim == 4650
        return
    assert trace.step[[0, -1]].tolist() == [0, 3000]
    lowest = int(np.argmin(trace.alignment))
    assert trace.alignment[lowest] + 0.1 < min(trace.alignment[[0, -1]])  # falls, then rises
    late = trace.step > 100
    assert (trace.beyond_quadratic[late] == 0).all()


@pytest.mark.long
def test_a_picture_of_a_network_shows_error_and_edge():
    trace = sa.load_trace(ROOT / "data" / "networks" / "tanh-mse.h5")
    assert trace.beyond_quadratic.any()
    panel = sa.plot_trace(trace).axes[2]
    edge = 2.0 / trace.top_eigenvalues[:, 0]
    assert any(np.array_equal(line.get_ydata(), edge) for line in panel.lines)
    beyond = trace.critical_step_size[trace.beyond_quadratic == 1]
    assert any(np.array_equal(line.get_ydata(), beyond) for line in panel.lines)
    (band,) = panel.collections
    ends = band.get_paths()[0].vertices[:, 1]
    for value in trace.critical_step_size + trace.critical_error:
        assert np.isclose(ends, value).any()
