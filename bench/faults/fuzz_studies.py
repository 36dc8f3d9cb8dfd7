"""Study files for ``fuzz_files.py``: what is made of them, and how they are mutated.

A study must load with the values that it had, or be refused with one error that names it. What
loads as other values is counted as a silent difference; files of older versions, which have no
checksums, have some.
"""

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from click.testing import CliRunner

import suspalign_fast as sa
from suspalign_fast.cli.commands import main as command
from suspalign_fast.studies.reading import read_study

USES = ("study", "info", "sweep")
AXES = {"gap_ratio": [5.0, 50.0], "engine": ["step", "levels"]}
HOW: dict[str, Any] = {"num_steps": 40, "record_every": 10, "theory": True}
#: What a file without checksums is called.
OLDER = "older"


def case(gap_ratio: float) -> Any:
    """Return a small problem."""
    spectrum = sa.Spectrum.two_level(50, 5, gap_ratio, 1.0)
    return sa.Quadratic(spectrum, initial=10.0), {"step_size": 1e-3}


class SilentDifferenceError(Exception):
    """A file loaded with other values."""


@functools.cache
def _whole(base: str) -> Any:
    return sa.open_study(base).load()


def uses(base: str) -> dict[str, Callable[[str], object]]:
    """Return what is done with a mutated file of a base."""

    def study(path: str) -> None:
        with sa.open_study(path) as opened:
            found = opened.load()
        _compare(found, _whole(base))
        with read_study(Path(path)) as opened:
            opened.load()

    def info(path: str) -> None:
        result = CliRunner().invoke(command, ["info", path])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if result.exit_code:
            raise OSError(result.stderr)

    def sweep(path: str) -> None:
        with sa.sweep(case, AXES, seeds=[0, 1, 2], path=path, **HOW) as found:
            _compare(found.load().sel(seed=[0, 1]), _whole(base))

    return {"study": study, "info": info, "sweep": sweep}


def _compare(found: Any, expected: Any) -> None:
    """Raise SilentDifferenceError unless all of a study's own is what it was."""
    for name, wanted in expected.variables.items():
        if name not in found.variables:
            raise SilentDifferenceError(f"{name} is gone")
        values = found[name].values
        same = values.dtype.kind == wanted.dtype.kind and np.array_equal(
            values, wanted.values, equal_nan=wanted.dtype.kind == "f"
        )
        if not same:
            raise SilentDifferenceError(f"{name} differs")


def make_bases(folder: Path) -> list[Path]:
    """Write small valid studies: with and without checksums, complete and killed."""
    paths = [folder / f"{name}.nc" for name in ("study", "killed_study", OLDER)]
    sa.sweep(case, AXES, seeds=[0, 1], path=paths[0], **HOW).close()
    shutil.copyfile(paths[0], paths[1])
    _mark_as_killed(paths[1])
    shutil.copyfile(paths[0], paths[2])
    with h5py.File(paths[2], "r+") as file:
        for name in ("crc32", "exact_crc32"):
            del file[name]
        study = json.loads(file.attrs["study"])
        del study["crc32"]
        file.attrs["study"] = np.bytes_(json.dumps(study))
    return paths


def _mark_as_killed(path: Path) -> None:
    from suspalign_fast.storage.untrusted import lookup3

    data = bytearray(path.read_bytes())
    data[11] = 5
    data[44:48] = lookup3(bytes(data[:44])).to_bytes(4, "little")
    path.write_bytes(data)


def _external(file: h5py.File, name: str) -> None:
    kind, shape = file[name].dtype, file[name].shape
    pipe = Path(file.filename).with_suffix(".pipe")
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    del file[name]
    size = int(np.prod(shape)) * kind.itemsize
    file.create_dataset(name, shape, kind, external=[(str(pipe), 0, size)])


def _many_steps(file: h5py.File, name: str) -> None:
    kind, shape = file[name].dtype, file[name].shape
    del file[name]
    file.create_dataset(name, (*shape[:-1], 10**7), kind, chunks=(*shape[:-1], 8192))


def _attribute(name: str, value: Any) -> Callable[[h5py.File, str], None]:
    def change(file: h5py.File, dataset: str) -> None:
        if name in file[dataset].attrs:
            del file[dataset].attrs[name]
        file[dataset].attrs[name] = value

    return change


def _object(file: h5py.File, name: str) -> None:
    """Tag an attribute as an address of a Python object."""
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 8)
    kind.set_tag(b"NUMPY:|O")
    node = file[name].id
    made = h5py.h5a.create(node, b"x", kind, h5py.h5s.create(h5py.h5s.SCALAR))
    made.write(np.array(b"AAAAAAAA", "V8"), kind)


def _list_of_objects(file: h5py.File, name: str) -> None:
    if "DIMENSION_LIST" in file[name].attrs:
        del file[name].attrs["DIMENSION_LIST"]
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 8)
    kind.set_tag(b"NUMPY:|O")
    space = h5py.h5s.create_simple((2,))
    made = h5py.h5a.create(file[name].id, b"DIMENSION_LIST", kind, space)
    made.write(np.full(2, b"AAAAAAAA", "V8"), kind)


def _moved(file: h5py.File, name: str) -> None:
    values = file[name][()]
    file[name][...] = values[::-1] if values.dtype.kind in "OS" else values + 1


_CHANGES: dict[str, Callable[[h5py.File, str], Any]] = {
    "external pipe": _external,
    "1e7 steps": _many_steps,
    "a list of numbers": _attribute("DIMENSION_LIST", np.arange(3.0)),
    "no list": _attribute("DIMENSION_LIST", 3),
    "a list of objects": _list_of_objects,
    "an object": _object,
    "other values": _moved,
    "wrong numbers": _attribute("_Netcdf4Coordinates", np.array([7, -1], np.int32)),
    "wrong number": _attribute("_Netcdf4Dimid", np.int32(0)),
}


def structure(file: h5py.File, replacements: Any, set_attribute: Any, wrong: Any) -> dict[str, Any]:
    """Return all mutations of the structure of a study by name."""
    made: dict[str, Any] = {}
    for name in file:
        for kind, change in _CHANGES.items():
            made[f"{name}: {kind}"] = lambda f, name=name, change=change: change(f, name)
        for kind, put in replacements.items():
            made[f"{name}: {kind}"] = functools.partial(_replace, name=name, put=put)
    for name in file.attrs:
        for kind, value in wrong.items():
            made[f"attribute {name}: {kind}"] = set_attribute("/", name, value)
    made["root: an object"] = lambda f: _object(f, "/")
    made["axes: another value"] = functools.partial(_axes, value=7.0)
    made["axes: many values"] = functools.partial(_axes, value=list(range(100_000)))
    return made


def _replace(file: h5py.File, name: str, put: Any) -> None:
    old = file[name][()]
    del file[name]
    put(file, name, old)


def _axes(file: h5py.File, value: Any) -> None:
    study = json.loads(file.attrs["study"])
    study["axes"]["gap_ratio"] = value if isinstance(value, list) else [5.0, value]
    del file.attrs["study"]
    file.attrs["study"] = np.bytes_(json.dumps(study))


def mutations(
    base: Path, folder: Path, made: dict[str, Any], skipped: list[str]
) -> Iterator[tuple[str, Path]]:
    """Yield names and paths of studies with mutated structure."""
    path = folder / "mutated.nc"
    for name, change in made.items():
        shutil.copyfile(base, path)
        try:
            with h5py.File(path, "r+") as file:
                change(file)
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
            skipped.append(f"{base.stem} {name}: {error}")
            continue
        yield f"{base.stem} {name}", path
