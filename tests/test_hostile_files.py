"""Mutated trace files load or are refused with an error that names them: no crash, no hang."""

import importlib.util
import itertools
from pathlib import Path

import h5py
import pytest

import suspalign_fast as sa

pytest.importorskip("resource")
SCRIPT = Path(__file__).parents[1] / "bench" / "faults" / "fuzz_files.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_files", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_files_with_mutated_bytes(fuzz, tmp_path):
    bases = fuzz.make_bases(tmp_path)
    with fuzz.Worker() as worker:
        tally = fuzz.run_all(worker, fuzz.byte_mutations(bases, tmp_path, 250, 2))
    assert tally.findings == {}, str(tally)


def test_files_with_mutated_structure(fuzz, tmp_path):
    bases = fuzz.make_bases(tmp_path)
    skipped = []
    with fuzz.Worker() as worker:
        for first, base in enumerate(bases):
            mutations = fuzz.structural_mutations(base, tmp_path, skipped)
            some = itertools.islice(mutations, first, None, 40)
            tally = fuzz.run_all(worker, some)
            assert tally.findings == {}, str(tally)


def test_a_dataset_in_place_of_a_group_is_refused_at_once(fuzz, tmp_path):
    base = fuzz.make_bases(tmp_path)[0]
    with h5py.File(base, "r+") as file:
        del file["run"]
        file.create_dataset("run", shape=(2**50,), chunks=(1024,), dtype="f8")
    with pytest.raises(OSError, match="'run' is not a group"):
        sa.load_trace(base)
