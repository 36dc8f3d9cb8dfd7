import subprocess
import sys

import h5py
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run
from suspalign_fast.model.spectrum import named
from suspalign_fast.storage import untrusted
from suspalign_fast.storage.dataset import Stored
from suspalign_fast.traces import writers
from suspalign_fast.traces.writers import TraceWriter

from ..conftest import assert_same_bits


@pytest.fixture
def problem():
    return sa.Quadratic(sa.Spectrum.linear_bands(200, 10), sa.IsotropicNoise(0.5), initial=1.0)


@pytest.mark.mostly_long
def test_a_stored_trace_equals_one_in_memory(problem, noise, tmp_path):
    problem = sa.Quadratic(problem.spectrum, noise(200), initial=np.linspace(-1, 1, 200))
    memory = sa.simulate(problem, 1e-3, 5000, record_every=3)
    stored = sa.simulate(problem, 1e-3, 5000, record_every=3, path=tmp_path / "trace.h5")
    assert_same_bits(stored, memory)
    assert_same_bits(sa.load_trace(tmp_path / "trace.h5"), memory)
    assert stored.spec == memory.spec


@pytest.mark.mostly_long
def test_a_stored_run_can_be_run_again(problem, noise, tmp_path):
    problem = sa.Quadratic(problem.spectrum, noise(200), initial=np.linspace(-1, 1, 200))
    sizes = np.linspace(1e-3, 2e-3, 50)
    stored = sa.simulate(problem, sizes, 50, seed=2**63, path=tmp_path / "a.h5", update="bulk")
    run = sa.load_trace(tmp_path / "a.h5").run
    again = sa.simulate(run.problem, run.step_size, run.num_steps, seed=run.seed, update=run.update)
    assert_same_bits(again, stored)


@pytest.mark.long
def test_plain_h5py_reads_every_column(problem, tmp_path):
    trace = sa.simulate(problem, 1e-3, 100, path=tmp_path / "trace.h5")
    script = """
import sys, h5py
with h5py.File(sys.argv[1], "r") as file:
    assert file.attrs["format"] == b"suspalign-trace", file.attrs["format"]
    assert file.attrs["status"].decode().strip() == "complete"
    assert file.attrs["committed_rows"] == 101
    for name, data in file["trace"].items():
        if name in ("band", "power", "noise_power"):
            continue
        assert data.chunks and data.compression == "gzip" and data.maxshape[0] is None, name
        assert len(data) == 101, name
    print(file["trace/alignment"][-1].hex(), len(file["spectrum/eigenvalues"]))
assert "suspalign_fast" not in sys.modules
"""
    process = subprocess.run(
        [sys.executable, "-c", script, trace.path], capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == [float(trace.alignment[-1]).hex(), "200"]
    with h5py.File(trace.path) as file:
        assert set(file["trace"]) == {*trace.columns(), "band", "power", "noise_power"}


def layout_versions(path):
    """Versions of the layout messages of all datasets of a file."""
    data, versions = path.read_bytes(), []

    def look(_, item):
        address = h5py.h5o.get_info(item.id).addr
        messages = untrusted._messages(lambda at, size: data[at : at + size], address)
        versions.extend(body[0] for kind, body in messages if kind == untrusted._LAYOUT)

    with h5py.File(path) as file:
        file.visititems(look)
    return versions


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_files_have_the_format_of_hdf5_1_10(problem, tmp_path, compression):
    """HDF5 2.0 writes layouts of version 5 if it may, which no library before it can read."""
    path = tmp_path / "run.h5"
    sa.simulate(problem, 0.1, 5000, path=path, compression=compression)
    versions = layout_versions(path)
    assert len(versions) > 10
    assert max(versions) <= 4


def test_the_shipped_spectrum_has_the_format_of_hdf5_1_10():
    assert max(layout_versions(named.digits_mlp_path())) <= 4


def test_rows_can_be_read_while_the_run_writes(problem, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "COMMIT_INTERVAL", 0.0)
    run = Run(problem, 1e-3, 100)
    engine = make_engine(run)
    path = tmp_path / "trace.h5"
    with TraceWriter(path, run) as writer:
        writer.append(engine.initial_row())
        writer.append(engine.advance(10))
        early = sa.load_trace(path)
        assert (len(early), early.status) == (11, "running")
        writer.append(engine.advance(20))
        assert len(early.loss) == 11
        assert len(sa.load_trace(path).loss) == 31
        writer.finish("interrupted")
    assert sa.load_trace(path).status == "interrupted"


def test_rows_wait_for_a_full_chunk_or_the_clock_and_none_is_lost(problem, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "COMMIT_INTERVAL", 1e9)
    monkeypatch.setattr(writers, "CHUNK_ROWS", 64)
    run = Run(problem, 1e-3, 300)
    engine = make_engine(run)
    path = tmp_path / "trace.h5"
    with TraceWriter(path, run) as writer:
        committed = []
        for rows in (engine.initial_row(), *(engine.advance(10) for _ in range(10))):
            writer.append(rows)
            committed.append(len(sa.load_trace(path)))
    assert committed == [0] * 7 + [64] * 4
    assert len(sa.load_trace(path)) == 101


def write_in_pieces(path, run, compression="gzip"):
    engine = make_engine(run)
    with TraceWriter(path, run, overwrite=True, compression=compression) as writer:
        writer.append(engine.initial_row())
        while engine.step < run.num_steps:
            writer.append(engine.advance(min(17, run.num_steps - engine.step)))
        writer.finish("complete")
    return path.stat().st_size


@pytest.mark.long
def test_rows_that_come_slowly_do_not_blow_up_the_file(problem, tmp_path, monkeypatch):
    run = Run(problem, 1e-3, 6000, engine="levels")
    monkeypatch.setattr(writers, "COMMIT_INTERVAL", 1e9)
    fast = write_in_pieces(tmp_path / "fast.h5", run)
    monkeypatch.setattr(writers, "COMMIT_INTERVAL", 0.0)
    slow = write_in_pieces(tmp_path / "slow.h5", run)
    raw = write_in_pieces(tmp_path / "raw.h5", run, "none")
    assert fast < 0.7 * raw
    assert slow < 1.2 * raw
    for name in ("slow.h5", "raw.h5"):
        assert_same_bits(sa.load_trace(tmp_path / name), sa.load_trace(tmp_path / "fast.h5"))


@pytest.mark.long
def test_the_compression_can_be_chosen_and_outlives_a_resumption(problem, tmp_path):
    expected = sa.simulate(problem, 1e-3, 60)
    for compression, kept in (("gzip", "gzip"), ("none", None)):
        path = tmp_path / f"{compression}.h5"
        sa.simulate(problem, 1e-3, 50, path=path, compression=compression)
        sa.resume(path, num_steps=60)
        assert_same_bits(sa.load_trace(path), expected)
        with h5py.File(path) as file:
            for name in ("trace/step", "trace/power_sums", "spectrum/eigenvalues"):
                assert file[name].compression == kept
    with pytest.raises(ValueError, match="compression must be one of 'gzip', 'none', got 'zip'"):
        sa.simulate(problem, 1e-3, 5, path=tmp_path / "c.h5", compression="zip")
    assert not (tmp_path / "c.h5").exists()


def test_an_existing_file_is_kept(problem, tmp_path):
    path = tmp_path / "trace.h5"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"trace\.h5 already exists"):
        sa.simulate(problem, 1e-3, 5, path=path)
    assert path.read_text() == "precious"
    assert len(sa.simulate(problem, 1e-3, 5, path=path, overwrite=True)) == 6


def test_loading_reads_one_row_and_no_spectrum(problem, tmp_path, monkeypatch):
    path = tmp_path / "trace.h5"
    sa.simulate(problem, 1e-3, 500, path=path)
    read = []
    real = Stored.rows

    def rows(self, *bounds):
        read.append((self._name, *bounds))
        return real(self, *bounds)

    monkeypatch.setattr(Stored, "rows", rows)
    trace = sa.load_trace(path)
    assert read == [("trace/step", 500, 501)]
    assert trace.alignment.size == 501
    assert all("spectrum" not in name for name, *_ in read)
    assert trace.run.problem.spectrum.dim == 200
    assert ("spectrum/eigenvalues",) in read


@pytest.mark.long
def test_rows_of_a_column_can_be_read_alone(problem, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "CHUNK_ROWS", 64)
    whole = sa.simulate(problem, 1e-3, 300, path=tmp_path / "trace.h5").columns()
    trace = sa.load_trace(tmp_path / "trace.h5")
    for start, stop in ((0, 301), (0, 1), (63, 65), (100, 200), (300, 400), (5, 5), (-3, 301)):
        for name, values in whole.items():
            part = trace.read(name, start, stop)
            np.testing.assert_array_equal(part, values[start:stop], err_msg=f"{name} {start}")
    with pytest.raises(KeyError, match="no column 'magic'"):
        trace.read("magic", 0, 1)


def test_a_directory_that_does_not_exist(problem, tmp_path):
    with pytest.raises(OSError, match="is not a directory"):
        sa.simulate(problem, 1e-3, 5, path=tmp_path / "nowhere" / "trace.h5")


PEAK_MEMORY = """
import resource, sys
import suspalign_fast as sa
problem = sa.Quadratic(sa.Spectrum.two_level(10**6, 100, 10.0, 1.0))
for steps in (40_000, 600_000):
    sa.simulate(problem, 1e-2, steps, engine="levels", path=sys.argv[1], overwrite=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_number_of_steps(tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", PEAK_MEMORY, tmp_path / "trace.h5"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    few, many = map(int, process.stdout.split())
    kilobytes_of_the_rows = 560_000 * 184 // 1024
    assert many - few < kilobytes_of_the_rows / 10


def damage(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def forget_status(file):
    del file.attrs["status"]


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.modify("format", b"other"), "not a suspalign trace"),
        (lambda f: f.attrs.modify("format_version", 99), "format version 99"),
        (lambda f: f.attrs.modify("spec", b"{}"), "damaged"),
        (lambda f: f.attrs.modify("spec", b"not json"), "damaged"),
        (lambda f: f.attrs.modify("committed_rows", 10**9), "does not hold 1000000000 rows"),
        (lambda f: f.attrs.modify("committed_rows", -1), "does not hold -1 rows"),
        (lambda f: f.pop("trace/power_sums"), "damaged"),
        (lambda f: f.pop("spectrum"), "does not hold a suspalign spectrum"),
        (forget_status, "damaged"),
    ],
)
def test_damaged_files_are_refused_with_path_and_reason(problem, tmp_path, change, message):
    path = tmp_path / "trace.h5"
    sa.simulate(problem, 1e-3, 5, path=path)
    damage(path, change)
    with pytest.raises(OSError, match=message) as caught:
        sa.load_trace(path)
    assert "trace.h5" in str(caught.value)


def test_a_spectrum_loads_from_a_trace_file(problem, tmp_path):
    sa.simulate(problem, 1e-3, 5, path=tmp_path / "trace.h5")
    loaded = sa.Spectrum.load(tmp_path / "trace.h5")
    np.testing.assert_array_equal(loaded.eigenvalues, problem.spectrum.eigenvalues)
