"""Files that may be anything load or are refused with an error that names them.

No crash, no hang, no code run, no more memory than an honest file of that size could take.
"""

import importlib.util
import os
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.storage import dataset
from suspalign_fast.storage.untrusted import lookup3

from ..conftest import assert_same_bits

pytest.importorskip("resource")
SCRIPT = Path(__file__).parents[2] / "bench" / "faults" / "fuzz_files.py"
PROBLEM = sa.Quadratic(sa.Spectrum.linear_bands(40, 4), sa.IsotropicNoise(0.5), initial=1.0)


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_files", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
def test_files_with_mutated_bytes(fuzz, tmp_path):
    bases = fuzz.make_bases(tmp_path)
    with fuzz.Worker() as worker:
        tally = fuzz.run_all(worker, fuzz.byte_mutations(bases, tmp_path, 250, 2))
    assert tally.findings == {}, str(tally)


@pytest.mark.long
def test_files_with_mutated_structure(fuzz, tmp_path):
    bases = fuzz.make_bases(tmp_path)
    skipped = []
    with fuzz.Worker() as worker:
        for first, base in enumerate(bases):
            some = slice(first, None, 40)
            tally = fuzz.run_all(worker, fuzz.structural_mutations(base, tmp_path, skipped, some))
            assert tally.findings == {}, str(tally)


@pytest.fixture
def trace_file(tmp_path):
    path = tmp_path / "trace.h5"
    sa.simulate(PROBLEM, 1e-3, 300, path=path)
    return path


def test_a_dataset_in_place_of_a_group_is_refused_at_once(trace_file):
    with h5py.File(trace_file, "r+") as file:
        del file["run"]
        file.create_dataset("run", shape=(2**50,), chunks=(1024,), dtype="f8")
    with pytest.raises(OSError, match="'run' is not a group"):
        sa.load_trace(trace_file)


# --- types -----------------------------------------------------------------------------------

#: Loads a file in every way, in a process of its own: what it is tested for would end this one.
LOAD = """
import sys
import suspalign_fast as sa
for use in (sa.load_trace, sa.Spectrum.load, lambda path: sa.load_trace(path).columns()):
    try:
        use(sys.argv[1])
        print("loaded")
    except OSError as error:
        assert sys.argv[1] in str(error), error
        print("refused:", error)
"""


def load_in_a_process(path, limit=None, timeout=30):
    """Answers of `LOAD`; an error if it crashes, hangs or needs too much memory."""

    def limited():
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    process = subprocess.run(
        [sys.executable, "-c", LOAD + PEAK, str(path)], capture_output=True, text=True,
        timeout=timeout, preexec_fn=limited,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    *answers, peak = process.stdout.strip().splitlines()
    if limit is not None:
        assert int(peak) < limit, f"{int(peak) / 1e6:.0f} MB"
    return answers


PEAK = """
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
print(peak)
"""


def opaque(tag):
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 8)
    kind.set_tag(tag)
    return kind


def put_attribute(node, name, kind, space=None):
    """Put an attribute of a low-level type in place of one, its bytes those of an address."""
    if name in node.attrs:
        del node.attrs[name]
    space = h5py.h5s.create(h5py.h5s.SCALAR) if space is None else space
    attribute = h5py.h5a.create(node.id, name.encode(), kind, space)
    attribute.write(np.array(b"AAAAAAAA", "V8"), kind)


ATTRIBUTES = [
    ("/", "format"),
    ("/", "format_version"),
    ("/", "status"),
    ("/", "committed_rows"),
    ("/", "spec"),
    ("/", "run_id"),
    ("spectrum", "num_dominant"),
]


@pytest.mark.mostly_long
@pytest.mark.parametrize(("node", "name"), ATTRIBUTES)
def test_an_opaque_attribute_is_never_taken_for_a_python_object(trace_file, node, name):
    with h5py.File(trace_file, "r+") as file:
        put_attribute(file[node], name, opaque(b"NUMPY:|O"))
    answers = load_in_a_process(trace_file)
    if node == "/":  # the spectrum beside it is whole
        assert [answer.split(":")[0] for answer in answers] == ["refused", "loaded", "refused"]
    else:
        assert all(answer.startswith("refused") for answer in answers)


@pytest.mark.mostly_long
@pytest.mark.parametrize("name", ["trace/step", "spectrum/eigenvalues", "run/noise_constants"])
def test_an_opaque_dataset_is_never_taken_for_python_objects(trace_file, name):
    with h5py.File(trace_file, "r+") as file:
        shape = file[name].shape
        del file[name]
        space = h5py.h5s.create_simple(shape)
        made = h5py.h5d.create(file.id, name.encode(), opaque(b"NUMPY:|O"), space)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.full(shape, b"AAAAAAAA", "V8"), made.get_type())
    assert any(answer.startswith("refused") for answer in load_in_a_process(trace_file))


@pytest.mark.long
def test_types_are_told_apart_before_they_are_looked_into(trace_file):
    """Sequences nested 7,000 deep: the type alone made 10 GB of Python objects."""
    kind = h5py.h5t.NATIVE_INT64
    for _ in range(3000):
        kind = h5py.h5t.vlen_create(kind)
    with h5py.File(trace_file, "r+") as file:
        del file.attrs["committed_rows"]
        h5py.h5a.create(file.id, b"committed_rows", kind, h5py.h5s.create(h5py.h5s.SCALAR))
    answers = load_in_a_process(trace_file, limit=600e6)
    assert "committed_rows" in answers[0]


# --- sizes -----------------------------------------------------------------------------------


def chunked(file, name, shape, chunk, filters):
    """Create a dataset with a pipeline of our own, nothing written."""
    del file[name]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk(chunk)
    for code in filters:
        creation.set_filter(code, 0, (6,) if code == h5py.h5z.FILTER_DEFLATE else ())
    space = h5py.h5s.create_simple(shape)
    return h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F64LE, space, creation)


@pytest.mark.long
def test_a_chunk_that_inflates_beyond_its_size(trace_file):
    with h5py.File(trace_file, "r+") as file:
        shape = file["trace/step_size"].shape
        made = chunked(file, "trace/step_size", shape, (301,), [h5py.h5z.FILTER_DEFLATE])
        made.write_direct_chunk((0,), zlib.compress(bytes(2**31), 9))
    assert trace_file.stat().st_size < 3e6
    answers = load_in_a_process(trace_file, limit=600e6)
    assert "a chunk" in answers[2]


@pytest.mark.long
def test_a_stream_within_a_stream(trace_file):
    inner = zlib.compress(bytes(2**31), 9)
    with h5py.File(trace_file, "r+") as file:
        shape = file["trace/step_size"].shape
        made = chunked(file, "trace/step_size", shape, (301,), [h5py.h5z.FILTER_DEFLATE] * 2)
        made.write_direct_chunk((0,), zlib.compress(inner, 9))
    assert trace_file.stat().st_size < 2e5
    answers = load_in_a_process(trace_file, limit=600e6)
    assert "filters that this package does not use" in answers[0]


def test_chunks_of_one_number(trace_file):
    with h5py.File(trace_file, "r+") as file:
        chunked(file, "spectrum/eigenvalues", (7_000_000,), (1,), [h5py.h5z.FILTER_DEFLATE])
        chunked(file, "spectrum/multiplicities", (7_000_000,), (1,), [])
    answers = load_in_a_process(trace_file, limit=600e6)
    assert all("claims 7000000 chunks" in answer for answer in answers)


@pytest.mark.skipif(sys.platform != "linux", reason="files with holes")
def test_a_contiguous_dataset_in_a_hole(trace_file):
    with h5py.File(trace_file, "r+") as file:
        del file["spectrum/eigenvalues"]
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple((2**29,))
        h5py.h5d.create(file.id, b"spectrum/eigenvalues", h5py.h5t.IEEE_F64LE, space, creation)
    assert trace_file.stat().st_size > 2**32
    assert trace_file.stat().st_blocks * 512 < 2**20
    answers = load_in_a_process(trace_file, limit=600e6)
    assert all(answer.startswith("refused") for answer in answers)


def test_a_missing_chunk_is_no_row_of_zeros(trace_file):
    with h5py.File(trace_file, "r+") as file:
        chunked(file, "trace/step_size", (301,), (301,), [])
    with pytest.raises(OSError, match="a chunk is missing"):
        _ = sa.load_trace(trace_file).step_size


def test_virtual_datasets_are_recognized_unopened(trace_file, monkeypatch):
    """Opening one makes libhdf5 read a heap, in which it can loop for ever."""
    with h5py.File(trace_file, "r+") as file:
        del file["trace/step_size"]
        layout = h5py.VirtualLayout((301,), "f8")
        layout[:] = h5py.VirtualSource(".", "trace/loss", shape=(301,))
        file.create_virtual_dataset("trace/step_size", layout)
    opened = []
    real = dataset.h5d.open
    monkeypatch.setattr(dataset.h5d, "open", lambda *a: opened.append(a[1]) or real(*a))
    with pytest.raises(OSError, match="'trace/step_size' keeps its values elsewhere"):
        sa.load_trace(trace_file)
    assert b"step_size" not in opened
    assert b"step" in opened


def test_pipes_are_not_waited_for(tmp_path, trace_file):
    pipe = tmp_path / "pipe.h5"
    os.mkfifo(pipe)
    for use in (sa.load_trace, sa.Spectrum.load, sa.resume):
        with pytest.raises(OSError, match=r"pipe\.h5"):
            use(pipe)
    checkpoint = tmp_path / "trace.h5.ckpt"
    os.mkfifo(checkpoint)
    with pytest.raises(OSError, match=r"trace\.h5\.ckpt"):
        sa.resume(trace_file, num_steps=400)


# --- files of killed runs --------------------------------------------------------------------

KILLED = """
import os, sys
import numpy as np
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
problem = sa.Quadratic(sa.Spectrum.linear_bands(40, 4), sa.IsotropicNoise(0.5), initial=1.0)
sa.simulate(problem, 1e-3, 1000, path=sys.argv[1])
"""


@pytest.fixture
def killed_file(tmp_path):
    path = tmp_path / "killed.h5"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode == -9
    return path


def test_a_killed_run_is_called_killed_and_loads_without_waiting(killed_file):
    trace = sa.load_trace(killed_file)
    assert trace.status == "killed"
    assert len(trace) > 250
    assert_same_bits(trace, sa.simulate(PROBLEM, 1e-3, len(trace) - 1))
    assert killed_file.read_bytes()[11] & 1, "the file itself still says that it is being written"
    assert len(sa.resume(killed_file)) == 1001


FLIP = """
import sys, signal
import suspalign_fast as sa
for line in sys.stdin:
    path = line.strip()
    for use in (lambda p: sa.load_trace(p).columns(), sa.resume):
        try:
            use(path)
        except (OSError, ValueError) as error:
            assert path in str(error), error
    print("done", flush=True)
"""


@pytest.mark.long
def test_flipped_bits_in_files_of_killed_runs_are_not_waited_for(killed_file, tmp_path):
    """A reader beside a writer waits for damaged metadata to become whole, for ever."""
    whole = killed_file.read_bytes()
    places = [(at, bit) for at in (*range(12, 112), 200, 300, 500, 700, 900) for bit in (0, 5)]
    process = subprocess.Popen(
        [sys.executable, "-c", FLIP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for at, bit in places:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << bit
        damaged[44:48] = lookup3(bytes(damaged[:44])).to_bytes(4, "little")
        path = tmp_path / f"damaged-{at}-{bit}.h5"
        path.write_bytes(damaged)
        print(path, file=process.stdin)
    try:
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert out.count("done") == len(places)
    assert process.returncode == 0


# --- what contradicts itself -----------------------------------------------------------------


def spec_with(**changes):
    def change(file):
        import json

        spec = json.loads(file.attrs["spec"])
        spec.update(changes)
        file.attrs["spec"] = np.bytes_(json.dumps(spec).encode())

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spec_with(num_steps=3), "it has 301 rows and says that it is complete, its run has 4"),
        (spec_with(num_steps=9000), "its run has 9001"),
        (spec_with(record_every=100), "its run has 4"),
        (spec_with(num_steps=600, record_every=2), "its row 300 is not one of its run: step 300"),
        (spec_with(dim=41), "the run's description is of another spectrum"),
        (spec_with(num_dominant=5), "the run's description is of another spectrum"),
    ],
)
def test_descriptions_that_contradict_the_rows_are_refused(trace_file, change, message):
    with h5py.File(trace_file, "r+") as file:
        change(file)
    with pytest.raises(OSError, match=message) as caught:
        _ = sa.load_trace(trace_file).run
    assert str(trace_file) in str(caught.value)


# --- what an honest file may be --------------------------------------------------------------


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_files_rewritten_by_other_tools_load(tmp_path, libver, compression):
    path = tmp_path / "trace.h5"
    expected = sa.simulate(PROBLEM, 1e-3, 300, path=path, compression=compression)
    copy = tmp_path / "copy.h5"
    with h5py.File(path) as old, h5py.File(copy, "w", libver=libver) as new:
        for name in old:
            old.copy(name, new)
        for name, value in old.attrs.items():
            new.attrs[name] = value
    assert_same_bits(sa.load_trace(copy), expected)


def test_the_checksum_of_superblocks_is_that_of_libhdf5(tmp_path):
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551
    for i in range(20):
        with h5py.File(tmp_path / "file.h5", "w", libver="latest") as file:
            file["x"] = np.zeros(i * 100)
        head = (tmp_path / "file.h5").read_bytes()[:48]
        assert lookup3(head[:44]) == int.from_bytes(head[44:], "little")
