"""A trace file is a netCDF-4 file: xarray shows what `to_xarray` returns."""

import pickle
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run
from suspalign_fast.physics import row
from suspalign_fast.storage import lock, netcdf
from suspalign_fast.traces import labelled as labels
from suspalign_fast.traces import writers

from ..conftest import assert_same_bits

xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

#: Unknown where the package is not installed, only on the path.
VERSION = rf"suspalign-fast ({re.escape(sa.__version__)}|unknown)"
PROBLEM = sa.Quadratic(sa.Spectrum.linear_bands(200, 10), sa.IsotropicNoise(0.5), initial=1.0)


def installed(request):
    """The name of an engine of xarray's, if it is there."""
    if request.param == "netcdf4":
        pytest.importorskip("netCDF4")
    return request.param


engine = pytest.fixture(installed, params=["h5netcdf", "netcdf4"], name="engine")
writer = pytest.fixture(installed, params=["h5netcdf", "netcdf4"], name="writer")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trace.h5"


def simulated(path, steps=20, **more):
    return sa.simulate(PROBLEM, 1e-3, steps, path=path, overwrite=True, **more)


def opened(path, engine, group="trace"):
    with xarray.open_dataset(path, group=group, engine=engine) as rows:
        return rows.load()


PAGE = (Path(__file__).parents[2] / "docs" / "file-format.md").read_text()
#: What the page says of files that are being written: it takes complete rows.
LIVE = "import pickle, sys, xarray\n{}sys.stdout.buffer.write(pickle.dumps(rows.load()))".format(
    re.search(r"```python\n(live = .*?)```", PAGE, re.DOTALL)[1].replace(
        '"trace.h5"', "sys.argv[1]"
    )
)


def opened_live(path):
    """Open a file that is being written, or was when its writer was killed, in a process beside."""
    done = subprocess.run([sys.executable, "-c", LIVE, path], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


def assert_agree(rows, trace):
    """Rows of a file have dimensions, coordinates, names, units and bits of a labelled trace."""
    labelled = trace.to_xarray()
    labelled.attrs = {}
    xarray.testing.assert_identical(rows, labelled)
    for name in labelled.variables:
        assert rows[name].dims == labelled[name].dims
        assert rows[name].dtype.kind == labelled[name].dtype.kind, name
        if labelled[name].dtype.kind == "f":
            bits = (each[name].values.view(np.int64) for each in (rows, labelled))
            np.testing.assert_array_equal(*bits, err_msg=name)


# --- what is in the file ---------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_complete_file_opens_as_the_labelled_trace(path, engine, compression):
    trace = simulated(path, 5000, record_every=1, compression=compression)
    rows = opened(path, engine)
    assert_agree(rows, trace)
    assert dict(rows.sizes) == {"step": 5001, "band": 2, "power": 4, "noise_power": 3}
    assert rows.power_sums.sel(band="bulk", power=2).dims == ("step",)
    assert rows.noise_sums.dims == ("step", "band", "noise_power")
    assert list(rows.noise_power.values) == [4, 5, 6]


def test_every_column_says_what_it_is_in_text_of_fixed_length(path):
    simulated(path)
    with h5py.File(path) as file:
        for name, column in row.columns().items():
            attributes = file["trace"][name].attrs
            assert attributes["units"].decode() == column.unit
            assert attributes["long_name"].decode() == column.meaning
            for text in ("units", "long_name"):
                assert not attributes.get_id(text).get_type().is_variable_str()


@pytest.mark.long
def test_columns_of_others_are_labelled_too(path, engine):
    @row.derived("speed", unit="√θ", meaning="")
    def _speed(part):
        return part.power_sums[..., 1].sum(-1) ** 0.5

    try:
        trace = simulated(path)
        assert_agree(opened(path, engine), trace)
        assert opened(path, engine).speed.attrs == {"units": "√θ", "long_name": ""}
    finally:
        row.remove("speed")


def test_numbers_of_dimensions_differ(path):
    simulated(path)
    with h5py.File(path) as file:
        numbers = [file["trace"][d].attrs["_Netcdf4Dimid"] for d in ("step", *row.DIMENSIONS)]
    assert sorted(numbers) == [0, 1, 2, 3]


def test_the_file_says_what_wrote_it_and_when(path):
    before = datetime.now(UTC).replace(microsecond=0)
    simulated(path)
    with h5py.File(path) as file:
        source, date = (file.attrs[name].decode() for name in ("source", "date"))
    assert re.fullmatch(VERSION, source)
    assert before <= datetime.fromisoformat(date) <= datetime.now(UTC)


def test_a_small_file_stays_small(path, monkeypatch):
    simulated(path, 10)
    labelled = path.stat().st_size
    monkeypatch.setattr(labels, "label", lambda group: None)
    simulated(path, 10)
    assert 0 < labelled - path.stat().st_size < 8_000


def test_the_package_needs_no_scale(path):
    trace = simulated(path)
    with h5py.File(path, "r+") as file:
        for name in row.DIMENSIONS:
            del file["trace"][name]
        for name in row.columns():
            for attribute in list(file["trace"][name].attrs):
                del file["trace"][name].attrs[attribute]
        file["trace/loss"].attrs["DIMENSION_LIST"] = "nonsense"
        file["trace/band"] = 7
    assert_same_bits(sa.load_trace(path), trace)
    assert len(sa.resume(path, num_steps=30)) == 31


# --- live and killed -------------------------------------------------------------------------


@pytest.mark.long
def test_a_live_file_opens_with_swmr(path, monkeypatch):
    monkeypatch.setattr(writers, "COMMIT_INTERVAL", 0.0)
    monkeypatch.setattr(writers, "CHUNK_ROWS", 8)
    run = Run(PROBLEM, 1e-3, 100)
    engine = make_engine(run)
    with writers.TraceWriter(path, run) as writer:
        writer.append(engine.initial_row())
        for steps in (10, 30, 3):
            writer.append(engine.advance(steps))
            assert lock.is_held(path)
            rows = opened_live(path)
            assert_agree(rows, sa.load_trace(path))
            assert rows.sizes["step"] == engine.step + 1
        writer.finish("interrupted")
    assert_agree(opened(path, "h5netcdf"), sa.load_trace(path))


KILLED = """
import os, sys
import suspalign_fast as sa
from suspalign_fast.running import driver
from suspalign_fast.traces import writers as store
store.COMMIT_INTERVAL = 0.0
bounded = driver._bounded
def dying(stretch, engine):
    if engine.step > 250:
        os.kill(os.getpid(), 9)
    return min(50, bounded(stretch, engine))
driver._bounded = dying
problem = sa.Quadratic(sa.Spectrum.linear_bands(200, 10), sa.IsotropicNoise(0.5), initial=1.0)
sa.simulate(problem, 1e-3, 1000, path=sys.argv[1])
"""


@pytest.mark.long
def test_a_killed_file_opens_with_swmr_and_is_resumed(path):
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -9
    trace = sa.load_trace(path)
    assert trace.status == "killed"
    assert len(trace) > 250
    assert_agree(opened_live(path), trace)
    whole = sa.resume(path)
    assert_same_bits(whole, sa.simulate(PROBLEM, 1e-3, 1000))
    assert_agree(opened(path, "h5netcdf"), whole)


# --- resumed ---------------------------------------------------------------------------------


@pytest.mark.long
def test_a_resumed_file_has_its_labels_once(path, engine):
    simulated(path)
    before = attributes_of(path)
    for steps in (30, 40):
        trace = sa.resume(path, num_steps=steps)
        assert_agree(opened(path, engine), trace)
    assert attributes_of(path) == before
    with h5py.File(path) as file:
        assert len(file["trace/step"].attrs["REFERENCE_LIST"]) == len(row.columns()) - 1


def attributes_of(path):
    """Names of all attributes below the root, by object."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, node: found.update({name: sorted(node.attrs)}))
    return found


def test_no_process_is_started_for_labels_of_ours(path, monkeypatch):
    simulated(path)
    monkeypatch.setattr("suspalign_fast.storage.foreign.subprocess.run", None)
    sa.resume(path, num_steps=30)


def without_labels(path, monkeypatch, **more):
    """Write a file as before there were labels."""
    with monkeypatch.context() as patch:
        patch.setattr(labels, "label", lambda group: None)
        trace = simulated(path, **more)
    with h5py.File(path, "r+") as file:
        assert set(file["trace"]) == set(row.columns())
        for name in ("source", "date"):
            del file.attrs[name]
    return trace


@pytest.mark.long
def test_an_older_file_loads_and_is_labelled_once_it_is_resumed(path, engine, monkeypatch):
    old = without_labels(path, monkeypatch)
    assert_same_bits(sa.load_trace(path), old)
    trace = sa.resume(path, num_steps=30)
    assert_agree(opened(path, engine), trace)
    with h5py.File(path) as file:
        assert re.fullmatch(VERSION, file.attrs["source"].decode())


@pytest.mark.long
@pytest.mark.parametrize("text", ["1", np.bytes_(b"1")])
def test_descriptions_that_others_wrote_stay(path, text):
    simulated(path)
    with h5py.File(path, "r+") as file:
        file["trace/loss"].attrs["units"] = text
    sa.resume(path, num_steps=30)
    rows = opened(path, "h5netcdf")
    assert rows.loss.attrs == {"units": "1", "long_name": "loss L(theta)"}
    assert rows.loss_bulk.attrs["units"] == "loss"


# --- what others put into the file -----------------------------------------------------------

#: Dimensions of their own, one with a coordinate of two axes.
MINE = xarray.Dataset(
    {"y": (("k", "l"), np.arange(6.0).reshape(2, 3))},
    coords={"k": [5, 6], "l": [1.0, 2.0, 3.0], "place": (("k", "l"), np.ones((2, 3)))},
)


@pytest.mark.long
@pytest.mark.parametrize("labelled", [True, False])
def test_groups_with_dimensions_of_their_own_survive(path, engine, writer, labelled, monkeypatch):
    if labelled:
        simulated(path)
    else:
        without_labels(path, monkeypatch)
    MINE.to_netcdf(path, mode="a", group="mine", engine=writer)
    for steps in (30, 40):
        trace = sa.resume(path, num_steps=steps)
        xarray.testing.assert_identical(opened(path, engine, "mine"), MINE)
        assert_agree(opened(path, engine), trace)
        numbers = numbers_of(path)
        assert len(numbers) == len(set(numbers)) >= 6


def case(gap_ratio):
    spectrum = sa.Spectrum.two_level(100, 10, gap_ratio, 1.0)
    return sa.Quadratic(spectrum, initial=10.0), {"engine": "levels", "step_size": 1e-3}


@pytest.mark.long
def test_a_study_takes_groups_with_dimensions_of_their_own(path, engine, writer):
    over = {"gap_ratio": [10.0, 100.0]}
    sa.sweep(case, over, 5, path=path, variables=("alignment", "power_sums")).close()
    study = opened(path, engine, None)
    MINE.to_netcdf(path, mode="a", group="mine", engine=writer)
    xarray.testing.assert_identical(opened(path, engine, None), study)
    xarray.testing.assert_identical(opened(path, engine, "mine"), MINE)
    numbers = numbers_of(path)
    assert len(numbers) == len(set(numbers))


def numbers_of(path):
    """Numbers of all dimensions."""
    found = []

    def look(name, node):
        if isinstance(node, h5py.Dataset) and node.is_scale:
            found.append(int(node.attrs["_Netcdf4Dimid"]))

    with h5py.File(path) as file:
        file.visititems(look)
    return found


@pytest.mark.long
def test_variables_along_the_steps_survive(path, engine, writer):
    simulated(path, 20)
    fit = xarray.Dataset({"fit": (("step", "window"), np.ones((21, 2)))}, {"window": [3, 9]})
    fit.to_netcdf(path, mode="a", group="trace", engine=writer)
    trace = sa.resume(path, num_steps=30)
    rows = opened(path, engine)
    assert_agree(rows.drop_vars(["fit", "window"]), trace)
    assert rows.fit.dims == ("step", "window")
    assert list(rows.window.values) == [3, 9]
    np.testing.assert_array_equal(rows.fit[:21], 1.0)
    assert rows.fit[21:].isnull().all()


@pytest.mark.long
def test_scales_of_others_are_attached_to_datasets_of_ours_again(path):
    simulated(path)
    with h5py.File(path, "r+") as file:
        file["level"] = np.arange(200)
        file["level"].make_scale("level")
        file["spectrum/eigenvalues"].dims[0].attach_scale(file["level"])
        file["gone"] = np.arange(200)
        file["spectrum/multiplicities"].dims[0].attach_scale(file["gone"])
        del file["gone"]
    sa.resume(path, num_steps=30)
    with h5py.File(path) as file:
        assert [scale.name for scale in file["spectrum/eigenvalues"].dims[0].values()] == ["/level"]
        assert "DIMENSION_LIST" not in file["spectrum/multiplicities"].attrs
        assert len(file["level"].attrs["REFERENCE_LIST"]) == 1


@pytest.mark.long
def test_no_reference_of_a_copy_points_anywhere_else(path):
    """Addresses of the old file mean nothing in the new one."""
    simulated(path)
    with h5py.File(path, "r+") as file:
        file.create_group("a/deep")["x"] = np.arange(3.0)
        file["b"] = np.arange(3)
        file["b"].make_scale("b")
        file["a/deep/x"].dims[0].attach_scale(file["b"])
        file["a/link"] = h5py.SoftLink("/b")
        file["lost"] = np.arange(3)
        file["a/deep/y"] = np.arange(3.0)
        file["a/deep/y"].dims[0].attach_scale(file["lost"])
        del file["lost"]
    sa.resume(path, num_steps=30)
    with h5py.File(path) as file:
        lists = {"a/deep/x": ["/b"], "a/deep/y": []}
        for name, expected in lists.items():
            found = [scale.name for axis in file[name].dims for scale in axis.values()]
            assert found == expected, name
        references = file["b"].attrs["REFERENCE_LIST"]
        assert [file[reference].name for reference, _ in references] == ["/a/deep/x"]


def test_descriptions_are_written_whole(path):
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", data=[1.0])
        netcdf.describe(data, {"units": "µ", "long_name": ""})
        assert data.attrs["units"].decode() == "µ"
        assert data.attrs["long_name"] == b""
