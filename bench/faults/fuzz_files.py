"""Load mutated trace files in a limited subprocess and count what comes of it.

``python bench/faults/fuzz_files.py --count 5000 --seed 1`` mutates small valid trace files at
random, byte by byte, and ``--structural`` adds every mutation of their HDF5 structure. Among the
files are those of killed and of interrupted runs, with checkpoints, which are mutated, too, and
resumed. A file must either serve or be refused with OSError or ValueError that names it, within the
memory and the time the worker has. ``--studies`` does the same with the files of sweeps
(``fuzz_studies.py``), whose values must be those that were written, too.
"""

import argparse
import collections
import contextlib
import functools
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_studies as studies

import suspalign_fast as sa
from suspalign_fast.physics.row import columns
from suspalign_fast.storage.untrusted import lookup3
from suspalign_fast.traces.checkpoint import checkpoint_path

#: Address space of the worker above what it starts with, and seconds a file.
MEMORY = 4 * 2**30
TIMEOUT = 40.0
#: What a file may make of memory: this, and twice what it honestly holds.
PEAK = 200_000_000

USES = ("trace", "spectrum", "resume")

Mutation = Callable[[h5py.File], None]

# --- the worker ----------------------------------------------------------------------------------


def _use_trace(path: str) -> None:
    trace = sa.load_trace(path)
    for name in columns():
        if len(trace[name]) != len(trace):
            raise AssertionError(f"{name} has {len(trace[name])} rows of {len(trace)}")
    assert trace.step.dtype.kind == "i", f"step has dtype {trace.step.dtype}"
    repr(trace)
    json.dumps(trace.spec)


def _resume(path: str) -> None:
    """Go on with a run that has not ended, unless it has been made a long one."""
    trace = sa.load_trace(path)
    if trace.status in ("killed", "interrupted", "running") and trace.run.num_steps < 10_000:
        sa.resume(path, num_threads=1)


def _honest(path: str) -> int:
    """Bytes of memory that a file needs if all in it is what it should be."""
    return 20 * os.path.getsize(path)


def _reset_peak() -> int:
    """Forget the largest memory held so far; return what is held."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    return 0


def _outcome(use: Callable[[str], object], path: str) -> list[str]:
    """Return "loaded", "refused" or "unexpected", with what was raised."""
    try:
        use(path)
    except BaseException as error:
        where = " < ".join(
            f"{frame.name}:{frame.lineno}"
            for frame in reversed(traceback.extract_tb(error.__traceback__)[-4:])
        )
        text = f"{type(error).__name__}: {str(error)[:200]} [{where}]"
        named = isinstance(error, OSError | ValueError) and path in str(error)
        if isinstance(error, studies.SilentDifferenceError):
            return ["silent", text]
        return ["refused" if named else "unexpected", text]
    return ["loaded", ""]


def work() -> None:
    """Answer every path on standard input with one line of JSON."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", flush=True)
    for line in sys.stdin:
        path, _, base = line.rstrip("\n").partition("\t")
        done = studies.uses(base) if base else {
            "trace": _use_trace, "spectrum": sa.Spectrum.load, "resume": _resume
        }  # fmt: skip
        before, honest = _reset_peak(), _honest(path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answer: dict[str, Any] = {name: _outcome(use, path) for name, use in done.items()}
        answer["excess"] = _status("VmHWM") - before - 2 * honest
        answer["warnings"] = sorted({f"{w.category.__name__}: {w.message}" for w in caught})
        print(json.dumps(answer), flush=True)


class Worker:
    """A subprocess that loads files, started again whenever it dies or hangs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, path: Path, base: Path | None = None) -> dict[str, Any]:
        """Return the worker's answer, or ``{"crash": signal}`` or ``{"hang": seconds}``."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", __file__, "--worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
            assert self._answer(60.0) == b"ready\n"
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}{f'{chr(9)}{base}' if base else ''}\n".encode())
        answer = self._answer(TIMEOUT)
        if answer is None:
            self.close()
            return {"hang": TIMEOUT}
        if not answer.endswith(b"\n"):
            code = self._process.wait()
            self.close()
            return {"crash": code}
        result: dict[str, Any] = json.loads(answer)
        return result

    def _answer(self, timeout: float) -> bytes | None:
        """Return a line, what there is of one if the process ended, None after the time-out."""
        assert self._process is not None
        assert self._process.stdout is not None
        text = b""
        while not text.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], timeout)[0]:
                return None
            part = self._process.stdout.read(65_536)
            if not part:
                break
            text += part
        return text

    def close(self) -> None:
        """End the subprocess."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


# --- valid files ---------------------------------------------------------------------------------


def make_bases(folder: Path) -> list[Path]:
    """Write small valid trace files of different engines and rules; return their paths.

    Those whose name starts with "old" have the oldest HDF5 format, whose metadata has no checksums.
    """
    spectrum = sa.Spectrum.linear_bands(40, 4)
    levels = sa.Spectrum([9.0, 8.0, 0.5, 0.1, 0.0], 5, [2, 3, 20, 10, 5])
    diagonal = sa.Quadratic(
        spectrum, sa.DiagonalNoise(np.linspace(0.2, 1.4, 40)), np.linspace(-1.0, 1.0, 40)
    )
    sizes = np.linspace(1e-3, 2e-3, 400)
    paths = [folder / f"{name}.h5" for name in ("schedule", "critical", "constant")]
    at = np.arange(0, 401, 2)
    sa.simulate(diagonal, sizes, 400, record_at=at, path=paths[0])
    sa.simulate(
        sa.Quadratic(levels, sa.HessianNoise(0.3)),
        sa.CriticalStep(0.9, max_step=0.1),
        300,
        engine="levels",
        path=paths[1],
    )
    sa.simulate(sa.Quadratic(spectrum), 1e-3, 300, engine="step", path=paths[2])
    for source in paths[:2]:
        target = folder / f"old_{source.name}"
        with h5py.File(source) as new, h5py.File(target, "w", libver="earliest") as old:
            for name in new:
                new.copy(name, old)
            for name, value in new.attrs.items():
                old.attrs[name] = value
        paths.append(target)
    return [*paths, *_unfinished(folder)]


#: Runs a simulation that a signal ends on the way, when some rows are committed.
_STOPPED = """
import os, sys
import suspalign_fast as sa
from suspalign_fast.running import driver
from suspalign_fast.traces import writers as store
store.COMMIT_INTERVAL = 0.0
bounded = driver._bounded
def stopping(stretch, engine):
    if engine.step > 150:
        os.kill(os.getpid(), int(sys.argv[2]))
    return min(40, bounded(stretch, engine))
driver._bounded = stopping
problem = sa.Quadratic(sa.Spectrum.linear_bands(40, 4), sa.HessianNoise(0.3))
try:
    sa.simulate(problem, 1e-3, 300, path=sys.argv[1], checkpoint_every=1e-9)
except sa.Interrupted:
    pass
"""


def _unfinished(folder: Path) -> list[Path]:
    """Write the files of a killed and of an interrupted run, with checkpoints."""
    paths = []
    for name, number in (("killed", signal.SIGKILL), ("interrupted", signal.SIGTERM)):
        paths.append(folder / f"{name}.h5")
        subprocess.run([sys.executable, "-c", _STOPPED, str(paths[-1]), str(int(number))])
        assert checkpoint_path(paths[-1]).exists()
    with h5py.File(paths[-1], "r+") as file:  # what others put into it
        file.attrs["note"] = "text of variable length"
        file["more/values"] = np.arange(5)
    return paths


# --- mutations of bytes --------------------------------------------------------------------------


def mutate_bytes(data: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """Return the name of a random mutation and the mutated bytes."""
    out = np.frombuffer(data, dtype=np.uint8).copy()
    size = out.size
    # Half of the places lie where most of the metadata is.
    top = min(size, 4096) if rng.random() < 0.5 else size
    at = int(rng.integers(top))
    kind = rng.choice(["bit", "byte", "few", "cluster", "fill", "cut", "extend", "swap", "word"])
    length = int(rng.integers(1, 65))
    match kind:
        case "bit":
            out[at] ^= 1 << rng.integers(8)
        case "byte":
            out[at] = rng.integers(256)
        case "few":
            out[rng.integers(top, size=8)] = rng.integers(256, size=8)
        case "cluster":
            out[at : at + length] = rng.integers(256, size=out[at : at + length].size)
        case "fill":
            out[at : at + length] = rng.choice([0, 255])
        case "cut":
            out = out[:at]
        case "extend":
            out = np.append(out, rng.integers(256, size=length, dtype=np.uint8))
        case "swap":
            other = int(rng.integers(size))
            count = min(length, size - at, size - other)
            first, second = out[at : at + count].copy(), out[other : other + count].copy()
            out[at : at + count], out[other : other + count] = second, first
        case "word":
            values = [2**63 - 1, 2**64 - 1, 2**31, 2**50, 2**32 - 1, 1]
            word = np.frombuffer(values[rng.integers(len(values))].to_bytes(8, "little"), np.uint8)
            out[at : at + 8] = word[: out[at : at + 8].size]
    return str(kind), out.tobytes()


def byte_mutations(
    bases: list[Path], folder: Path, count: int, seed: int
) -> Iterator[tuple[str, Path]]:
    """Yield names and paths of mutated files, each a pure function of the seed and its number."""
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        base = bases[i % len(bases)]
        path = copy_of(base, folder)
        beside = checkpoint_path(path)
        target = beside if beside.exists() and rng.random() < 0.3 else path
        kind, mutated = mutate_bytes(target.read_bytes(), rng)
        if target == path and rng.random() < 0.3:
            mutated = with_checksum(mutated)
            kind += " with checksum"
        target.write_bytes(mutated)
        yield f"{base.stem}{target.suffix} seed {seed} number {i} {kind}", path


def copy_of(base: Path, folder: Path) -> Path:
    """Copy a file, and the checkpoint beside it, over the file that is mutated next."""
    path = folder / "mutated.h5"
    for old in folder.glob("mutated.h5*"):
        old.unlink()
    shutil.copyfile(base, path)
    if checkpoint_path(base).exists():
        shutil.copyfile(checkpoint_path(base), checkpoint_path(path))
    return path


def with_checksum(data: bytes) -> bytes:
    """Make the checksum of a superblock fit, so that what it says is believed."""
    if len(data) < 48:
        return data
    return data[:44] + lookup3(data[:44]).to_bytes(4, "little") + data[48:]


# --- mutations of structure ----------------------------------------------------------------------

_WRONG_ATTRIBUTES: dict[str, Any] = {
    "empty": h5py.Empty("f8"),
    "text": "nonsense",
    "bytes": np.bytes_(b"\xff\xfe nonsense"),
    "negative": -1,
    "huge": 2**62,
    "unsigned": np.uint64(2**64 - 1),
    "nan": np.nan,
    "infinite": np.inf,
    "float": 1.5,
    "bool": True,
    "complex": 1 + 2j,
    "array": np.arange(3),
    "nothing": np.zeros(0),
    "big array": np.zeros(8000),
    "long": "x" * 60_000,
    "texts": ["a", "b"],
    "opaque": np.void(b"abcdefgh"),
    "compound": np.array((1, 2.0), dtype=[("a", "i8"), ("b", "f8")]),
    "sequence": np.array([np.arange(3)], dtype=h5py.vlen_dtype("i8")),
}


def _object_pointer() -> h5py.h5t.TypeID:
    """Return a type that h5py takes for pointers to Python objects."""
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 8)
    kind.set_tag(b"NUMPY:|O")
    return kind


def _nested(depth: int) -> h5py.h5t.TypeID:
    kind = h5py.h5t.NATIVE_INT64
    for _ in range(depth):
        kind = h5py.h5t.vlen_create(kind)
    return kind


_WRONG_TYPES: dict[str, Callable[[], h5py.h5t.TypeID]] = {
    "object pointer": _object_pointer,
    "nested sequences": lambda: _nested(3000),
    "one sequence": lambda: _nested(1),
    "reference": lambda: h5py.h5t.STD_REF_OBJ,
}

_NUMBERS = np.arange(400.0)


def _odd_float() -> h5py.h5t.TypeID:
    kind = h5py.h5t.IEEE_F64LE.copy()
    kind.set_fields(63, 48, 15, 0, 48)
    return kind


def _low_level(file: h5py.File, name: str, kind: Any) -> None:
    space = h5py.h5s.create_simple((400,))
    h5py.h5d.create(file.id, name.encode(), kind, space)


def _virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((400,), "f8")
    layout[:] = h5py.VirtualSource(file.filename, "trace/loss", shape=(400,))
    file.create_virtual_dataset(name, layout)


def _pipe_link(file: h5py.File, name: str) -> None:
    pipe = Path(file.filename).with_suffix(".pipe")
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    file[name] = h5py.ExternalLink(str(pipe), "/trace")


def _spoiled(value: float) -> Callable[[h5py.File, str, Any], None]:
    def put(file: h5py.File, name: str, old: Any) -> None:
        values = np.array(old, dtype=np.float64)
        values.flat[values.size // 2] = value
        file.create_dataset(name, data=values)

    return put


#: What stands in for a dataset: functions of the file, its name and its old values.
_REPLACEMENTS: dict[str, Callable[[h5py.File, str, Any], Any]] = {
    "missing": lambda f, n, old: None,
    "a group": lambda f, n, old: f.create_group(n),
    "a type": lambda f, n, old: f.__setitem__(n, np.dtype("f8")),
    "null": lambda f, n, old: f.create_dataset(n, data=h5py.Empty("f8")),
    "scalar": lambda f, n, old: f.create_dataset(n, data=1.0),
    "no rows": lambda f, n, old: f.create_dataset(n, data=old[:0]),
    "one row": lambda f, n, old: f.create_dataset(n, data=old[:1]),
    "more rows": lambda f, n, old: f.create_dataset(n, data=np.concatenate([old, old])),
    "more axes": lambda f, n, old: f.create_dataset(n, data=old[..., None]),
    "32 axes": lambda f, n, old: f.create_dataset(n, data=np.zeros((1,) * 32)),
    "float": lambda f, n, old: f.create_dataset(n, data=old.astype("f8")),
    "integer": lambda f, n, old: f.create_dataset(n, data=np.zeros(old.shape, "i8")),
    "unsigned": lambda f, n, old: f.create_dataset(n, data=np.zeros(old.shape, "u8")),
    "big-endian": lambda f, n, old: f.create_dataset(
        n, data=old.astype(old.dtype.str.replace("<", ">"))
    ),
    "half": lambda f, n, old: f.create_dataset(n, data=np.zeros(old.shape, "f2")),
    "long double": lambda f, n, old: f.create_dataset(n, data=old.astype(np.longdouble)),
    "complex": lambda f, n, old: f.create_dataset(n, data=old.astype("c16")),
    "half complex": lambda f, n, old: f.create_dataset(n, data=old.astype("c8")),
    "text": lambda f, n, old: f.create_dataset(n, data=["a"] * 400),
    "fixed text": lambda f, n, old: f.create_dataset(n, data=np.full(400, b"12345678")),
    "opaque": lambda f, n, old: f.create_dataset(n, data=np.zeros(400, "V8")),
    "array type": lambda f, n, old: f.create_dataset(n, shape=(400,), dtype=("f4", (2,))),
    "sequences": lambda f, n, old: f.create_dataset(n, (400,), dtype=h5py.vlen_dtype("f8")),
    "references": lambda f, n, old: f.create_dataset(n, (400,), dtype=h5py.ref_dtype),
    "enumeration": lambda f, n, old: f.create_dataset(
        n, old.shape, dtype=h5py.enum_dtype({"A": 0}, basetype="i8")
    ),
    "odd float": lambda f, n, old: _low_level(f, n, _odd_float()),
    "time": lambda f, n, old: _low_level(f, n, h5py.h5t.UNIX_D64LE),
    "2^50 rows": lambda f, n, old: f.create_dataset(
        n, (2**50, *old.shape[1:]), dtype=old.dtype, chunks=(1024, *old.shape[1:])
    ),
    "2^40 rows, 8 kB": lambda f, n, old: f.create_dataset(
        n, (2**40,), dtype=old.dtype, chunks=(1024,)
    ).__setitem__(slice(1024), 1),
    "2^60 rows, contiguous": lambda f, n, old: _low_level_rows(f, n, 2**60),
    "2^63 rows, contiguous": lambda f, n, old: _low_level_rows(f, n, 2**63),
    "2^28 rows, contiguous": lambda f, n, old: _low_level_rows(f, n, 2**28),
    "large chunk": lambda f, n, old: (
        f.create_dataset(
            n,
            old.shape,
            maxshape=(None,) * old.ndim,
            dtype=old.dtype,
            chunks=(2**28 // 8,) * old.ndim,
        )
        if old.ndim == 1
        else None
    ),
    "bomb": lambda f, n, old: f.create_dataset(
        n, (2**30, *old.shape[1:]), dtype=old.dtype, chunks=True, compression="gzip"
    ).__setitem__(0, old[0]),
    "object pointers": lambda f, n, old: _low_level(f, n, _object_pointer()),
    "nested sequences": lambda f, n, old: _low_level(f, n, _nested(3000)),
    "inflating chunk": lambda f, n, old: _inflating(f, n, old, 1),
    "stream in a stream": lambda f, n, old: _inflating(f, n, old, 2),
    "chunks of one number": lambda f, n, old: f.create_dataset(
        n, (2**23, *old.shape[1:]), dtype=old.dtype, chunks=(1,) * old.ndim, compression="gzip"
    ),
    "in a hole": lambda f, n, old: _in_a_hole(f, n),
    "lzf": lambda f, n, old: f.create_dataset(n, data=old, compression="lzf"),
    "fletcher": lambda f, n, old: f.create_dataset(n, data=old, fletcher32=True),
    "scale-offset": lambda f, n, old: f.create_dataset(n, data=old, scaleoffset=4),
    "unknown filter": lambda f, n, old: _unknown_filter(f, n),
    "external": lambda f, n, old: f.create_dataset(
        n, (400,), dtype="f8", external=[("/dev/zero", 0, 3200)]
    ),
    "virtual": lambda f, n, old: _virtual(f, n),
    "soft link": lambda f, n, old: f.__setitem__(n, h5py.SoftLink("/trace/loss")),
    "dangling link": lambda f, n, old: f.__setitem__(n, h5py.SoftLink("/nowhere")),
    "looping link": lambda f, n, old: f.__setitem__(n, h5py.SoftLink(f"/{n}")),
    "external link": lambda f, n, old: f.__setitem__(
        n, h5py.ExternalLink(f.filename, "/trace/loss")
    ),
    "pipe": lambda f, n, old: _pipe_link(f, n),
    "hard link up": lambda f, n, old: f.__setitem__(n, f["/"]),
    "nan": _spoiled(np.nan),
    "infinite": _spoiled(np.inf),
    "negative": _spoiled(-1.0),
    "large": _spoiled(1e300),
    "tiny": _spoiled(5e-324),
    "zeros": lambda f, n, old: f.create_dataset(n, data=np.zeros(old.shape, old.dtype)),
    "largest integers": lambda f, n, old: f.create_dataset(
        n, data=np.full(old.shape, 2**63 - 1, "i8")
    ),
    "negative integers": lambda f, n, old: f.create_dataset(
        n, data=np.full(old.shape, -(2**63), "i8")
    ),
    "large counts": lambda f, n, old: f.create_dataset(n, data=np.full(old.shape, 2**53, "i8")),
}


def _low_level_rows(file: h5py.File, name: str, rows: int) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    space = h5py.h5s.create_simple((rows,))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_INT64, space, creation)


def _inflating(file: h5py.File, name: str, old: Any, times: int) -> None:
    """Put a chunk of 1 GB, deflated so many times, in place of one of the right size."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk(old.shape)
    for _ in range(times):
        creation.set_deflate(9)
    kind = h5py.h5t.py_create(old.dtype)
    made = h5py.h5d.create(
        file.id, name.encode(), kind, h5py.h5s.create_simple(old.shape), creation
    )
    made.write_direct_chunk((0,) * old.ndim, _zeros(times))


@functools.cache
def _zeros(times: int) -> bytes:
    """Return 1 GB of zeros, deflated so many times."""
    return zlib.compress(_zeros(times - 1) if times > 1 else bytes(2**30), 6)


def _in_a_hole(file: h5py.File, name: str) -> None:
    """Create a dataset of 4 GB that takes no bytes of the disk."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((2**29,))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_INT64, space, creation)


def _unknown_filter(file: h5py.File, name: str) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((100,))
    creation.set_filter(32_111, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple((400,))
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.NATIVE_DOUBLE, space, creation)


_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    0.5,
    2**62,
    2**63,
    10**400,
    1e-300,
    1e300,
    float("nan"),
    float("inf"),
    "nonsense",
    "\ud800\0",
    [],
    [1, 2, 3],
    [[]],
    ["critical"],
    {},
    {"array": "initial"},
    {"array": "nothing"},
    {"array": []},
    {"array": None},
    {"std": None},
    {"std": 10**400},
    {"model": "diagonal", "array": "step_size"},
    {"model": "isotropic", "std": -1},
    {"model": "isotropic", "std": 1e300},
    {"model": []},
    {"model": "hessian"},
    {"rule": "function", "name": ["x"]},
    {"rule": "function", "name": "x" * 10_000},
    {"rule": "schedule", "array": "record_at"},
    {"rule": "schedule", "array": "initial"},
    {"rule": "critical"},
    {"rule": "critical", "fraction": "x"},
    {"rule": "critical", "fraction": 0.5, "max_step": [], "more": 1},
    {"rule": "loss_interval", "position": 1e308},
    {"rule": "online_critical", "fraction": 1, "decay": float("nan")},
    {"rule": {}},
    {"rule": ["critical"]},
)

_TEXTS = {
    "empty": "",
    "null": "null",
    "list": "[]",
    "number": "3",
    "text": '"x"',
    "cut": '{"dim": 4',
    "deep lists": "[" * 50_000,
    "deep dicts": '{"a":' * 10_000,
    "digits": '{"num_steps": ' + "9" * 10_000 + "}",
    "bytes": np.bytes_(b"\xff\xfe"),
    "spaces": " " * 60_000,
}


def _node_attributes(file: h5py.File) -> list[tuple[str, str]]:
    return [("/", name) for name in file.attrs] + [("spectrum", "num_dominant")]


def _set_attribute(node: str, name: str, value: Any) -> Mutation:
    def change(file: h5py.File) -> None:
        del file[node].attrs[name]
        if value is not None:
            file[node].attrs[name] = value

    return change


def _set_type(node: str, name: str, make: Callable[[], h5py.h5t.TypeID]) -> Mutation:
    def change(file: h5py.File) -> None:
        del file[node].attrs[name]
        space = h5py.h5s.create(h5py.h5s.SCALAR)
        made = h5py.h5a.create(file[node].id, name.encode(), make(), space)
        if made.get_type().get_class() == h5py.h5t.OPAQUE:
            made.write(np.array(b"AAAAAAAA", "V8"), made.get_type())

    return change


def _replace(name: str, put: Callable[[h5py.File, str, Any], Any]) -> Mutation:
    def change(file: h5py.File) -> None:
        node = file[name]
        old = node[()] if isinstance(node, h5py.Dataset) else _NUMBERS
        del file[name]
        put(file, name, old)

    return change


def _spec(change_spec: Callable[[dict[str, Any]], object]) -> Mutation:
    def change(file: h5py.File) -> None:
        spec = json.loads(file.attrs["spec"])
        change_spec(spec)
        file.attrs["spec"] = json.dumps(spec)

    return change


def _many_links(file: h5py.File) -> None:
    for i in range(5000):
        file["run"][f"x{i}"] = file["run/noise_constants"]


def _long_attribute(file: h5py.File) -> None:
    file.attrs.create("spec", "{" + " " * 2**22 + "}")


def _dense_attribute(file: h5py.File) -> None:
    del file.attrs["spec"]
    file.attrs.create("spec", np.zeros(2**21, "u1"))


def structure(file: h5py.File) -> dict[str, Mutation]:
    """Return all mutations of the structure of a trace file by name."""
    made: dict[str, Mutation] = {}
    for node, name in _node_attributes(file):
        made[f"attribute {name}: missing"] = _set_attribute(node, name, None)
        for kind, value in _WRONG_ATTRIBUTES.items():
            made[f"attribute {name}: {kind}"] = _set_attribute(node, name, value)
        for kind, make in _WRONG_TYPES.items():
            made[f"attribute {name}: {kind}"] = _set_type(node, name, make)
    groups = [name for name in ("trace", "run", "spectrum") if name in file]
    datasets = [f"{group}/{name}" for group in groups for name in file[group]]
    for name in groups + datasets:
        for kind, put in _REPLACEMENTS.items():
            made[f"{name}: {kind}"] = _replace(name, put)
    for kind, text in _TEXTS.items():
        made[f"spec: {kind}"] = _set_attribute("/", "spec", text)
    for key in json.loads(file.attrs["spec"]):
        made[f"spec {key}: missing"] = _spec(lambda s, key=key: s.pop(key))
        for i, value in enumerate(_VALUES):
            change = _spec(lambda s, key=key, value=value: s.__setitem__(key, value))
            made[f"spec {key}: {i} {str(value)[:40]!r}"] = change
    for name in ("odd", "a" * 5000, b"\xff\xfe".decode("utf8", "surrogateescape"), "new\nline"):
        made[f"run/{name[:20]!r}"] = lambda f, name=name: f["run"].__setitem__(name, np.arange(3.0))
    made["run: links to itself"] = lambda f: f["run"].__setitem__("loop", f["run"])
    made["run: many links"] = _many_links
    made["spec: 4 MiB text"] = _long_attribute
    made["spec: 2 MiB array"] = _dense_attribute
    return made


def structural_mutations(
    base: Path, folder: Path, skipped: list[str], some: slice = slice(None)
) -> Iterator[tuple[str, Path]]:
    """Yield names and paths of files with mutated structure, or of some of them.

    What h5py itself cannot write is added to `skipped`.
    """
    path = folder / "mutated.h5"
    if sa.load_trace(base).status == "killed":
        return  # libhdf5 does not write to it
    with h5py.File(base) as file:
        mutations = structure(file)
    for name, change in list(mutations.items())[some]:
        copy_of(base, folder)
        try:
            with h5py.File(path, "r+") as file:
                change(file)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
            skipped.append(f"{base.stem} {name}: {error}")
            continue
        yield f"{base.stem} {name}", path


# --- counting ------------------------------------------------------------------------------------


def run_all(
    worker: Worker, mutations: Iterator[tuple[str, Path]], base: Path | None = None
) -> "Tally":
    """Load every file and count the outcomes; of a study beside the base that it was."""
    tally = Tally()
    for name, path in mutations:
        tally.add(name, worker.load(path, base))
    return tally


class Tally:
    """Counts of outcomes, and the names of the mutations behind findings."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.findings: dict[str, list[str]] = {}
        self.warnings: dict[str, list[str]] = {}

    def add(self, name: str, answer: dict[str, Any]) -> None:
        """Count one answer of the worker."""
        self.counts["mutations"] += 1
        if answer.get("excess", 0) > PEAK:
            self.counts["memory"] += 1
            self.findings.setdefault(f"memory {answer['excess'] // 10**8}00 MB", []).append(name)
        for kind in ("crash", "hang"):
            if kind in answer:
                self.counts[kind] += 1
                self.findings.setdefault(f"{kind} {answer[kind]}", []).append(name)
                return
        for what in (use for use in (*USES, *studies.USES) if use in answer):
            outcome, text = answer[what]
            self.counts[f"{what} {outcome}"] += 1
            if outcome in ("unexpected", "silent"):
                self.counts[outcome] += 1
                self.findings.setdefault(f"{what}: {text}", []).append(name)
        for text in answer["warnings"]:
            self.counts["warnings"] += 1
            self.warnings.setdefault(text, []).append(name)

    def __str__(self) -> str:
        kinds = ["mutations"]
        every = (*USES, *studies.USES)
        kinds += [k for w in every for o in ("loaded", "refused") if self.counts[k := f"{w} {o}"]]
        kinds += ["unexpected", "silent", "crash", "hang", "memory", "warnings"]
        lines = [f"{kind:20} {self.counts[kind]:8}" for kind in kinds]
        for title, found in (("finding", self.findings), ("warning", self.warnings)):
            for text, names in found.items():
                lines.append(f"{title}, {len(names)} times: {text}")
                lines += [f"    {name}" for name in names[:3]]
        return "\n".join(lines)


def study_mutations(
    base: Path, folder: Path, skipped: list[str], some: slice = slice(None)
) -> Iterator[tuple[str, Path]]:
    """Yield names and paths of studies with mutated structure, or of some of them."""
    if base.stem.startswith("killed"):
        return  # libhdf5 does not write to it
    with h5py.File(base) as file:
        made = studies.structure(file, _REPLACEMENTS, _set_attribute, _WRONG_ATTRIBUTES)
    yield from studies.mutations(base, folder, dict(list(made.items())[some]), skipped)


def fuzz_studies(worker: Worker, folder: Path, arguments: argparse.Namespace) -> None:
    """Mutate files of sweeps."""
    for base in studies.make_bases(folder):
        print(f"\nmutations of bytes of {base.stem}", flush=True)
        made = byte_mutations([base], folder, arguments.count, arguments.seed)
        print(run_all(worker, made, base), flush=True)
        if arguments.structural:
            skipped: list[str] = []
            print(f"\nmutations of the structure of {base.stem}", flush=True)
            some = slice(arguments.seed % arguments.every, None, arguments.every)
            print(run_all(worker, study_mutations(base, folder, skipped, some), base))
            print(f"not writable: {len(skipped)}", flush=True)


def main() -> None:
    """Run the fuzzer from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="mutations of bytes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--structural", action="store_true", help="also mutate the structure")
    parser.add_argument("--studies", action="store_true", help="files of sweeps, not of runs")
    parser.add_argument("--every", type=int, default=1, help="one of so many structures")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        with contextlib.suppress(KeyboardInterrupt):
            work()
        return
    with tempfile.TemporaryDirectory() as name, Worker() as worker:
        folder = Path(name)
        if arguments.studies:
            fuzz_studies(worker, folder, arguments)
            return
        bases = make_bases(folder)
        print("mutations of bytes")
        print(run_all(worker, byte_mutations(bases, folder, arguments.count, arguments.seed)))
        if arguments.structural:
            skipped: list[str] = []
            for base in bases:
                print(f"\nmutations of the structure of {base.stem}")
                print(run_all(worker, structural_mutations(base, folder, skipped)))
            print(f"\nnot writable: {len(skipped)}", *skipped, sep="\n    ")


if __name__ == "__main__":
    main()
