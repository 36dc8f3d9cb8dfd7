"""Sweeps from notebooks, `python -c`, standard input, scripts: processes find the case, or say."""

import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.base import values

pytest.importorskip("xarray")

PROGRAM = """
import multiprocessing, pickle, sys
from concurrent.futures import ProcessPoolExecutor
import numba
import suspalign_fast as sa

SIZE = 2e-3

@numba.njit
def rule(row):
    return SIZE if row.step < 3 else 1e-3

def case(gap_ratio):
    spectrum = sa.Spectrum.two_level(200, 5, gap_ratio, 1.0)
    return sa.Quadratic(spectrum, initial=3.0), {"step_size": rule}

def main(method="spawn"):
    axes = {"gap_ratio": [5.0, 50.0]}
    expected = sa.sweep(case, axes, 5)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = sa.sweep(case, axes, 5, executor=pool)
        there = pool.submit(repr, sa.RowStep(rule)).result()
    print(found.equals(expected), there[:7], (found.status == "complete").values.all())

"""
CALL = 'if __name__ == "__main__":\n    main()\n'
NOTEBOOK = """
import sys, types
shell = types.ModuleType("__main__")  # as IPython makes it
sys.modules["__main__"] = shell
exec(sys.argv[1], vars(shell))
"""


def run(arguments, folder, text=None):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, input=text, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("how", ["-c", "notebook", "script"])
def test_processes_are_told_of_a_case_and_a_rule(how, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM + CALL)
    arguments = {
        "-c": ["-c", PROGRAM + CALL],
        "notebook": ["-c", NOTEBOOK, PROGRAM + CALL],
        "script": ["program.py"],
    }[how]
    done = run(arguments, tmp_path)
    assert done.stdout == "True RowStep True\n", done.stderr
    assert done.stderr == ""


@pytest.mark.long
def test_programs_of_standard_input_are_refused_before_work_starts(tmp_path):
    done = run(["-"], tmp_path, PROGRAM + CALL)
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ValueError: case must be a function that workers can import, got <")
    assert last.endswith(
        "the program is no file that they can import, like one read from standard input"
    )
    shared = PROGRAM + (
        'context = multiprocessing.get_context("spawn")\n'
        "with ProcessPoolExecutor(1, mp_context=context) as pool:\n"
        "    sa.simulate(case(5.0)[0], 1e-3, 5, executor=pool)\n"
    )
    last = run(["-"], tmp_path, shared).stderr.splitlines()[-1]
    assert last.startswith(
        "ValueError: executor must be of workers that can start, got <concurrent"
    )


@pytest.mark.long
def test_a_script_without_a_guard_has_the_explanation_of_python(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM + "main()\n")
    done = run(["program.py"], tmp_path)
    assert "you have forgotten to use the proper idiom" in done.stderr
    assert "workers can import" not in done.stderr


def two_levels(gap_ratio):
    return sa.Quadratic(sa.Spectrum.two_level(200, 5, gap_ratio, 1.0), initial=3.0)


AXES = {"gap_ratio": [5.0, 50.0], "step_size": [1e-3]}


def spawned():
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.long
def test_functions_without_a_place_travel_as_a_whole():
    initial = 2.0

    def inside(gap_ratio):
        return sa.Quadratic(two_levels(gap_ratio).spectrum, initial=initial)

    with spawned() as pool:
        for case in (inside, lambda gap_ratio: two_levels(gap_ratio)):
            found = sa.sweep(case, AXES, 5, executor=pool)
            assert found.equals(sa.sweep(case, AXES, 5))


def test_a_case_that_cannot_travel_is_refused_before_work_starts(tmp_path):
    pytest.importorskip("h5netcdf")
    lock = threading.Lock()
    calls = []

    def case(gap_ratio):
        calls.append(gap_ratio)
        with lock:
            return two_levels(gap_ratio)

    with spawned() as pool:
        said = "case must be a function that workers can import, got <function .*: cannot pickle"
        with pytest.raises(ValueError, match=said):
            sa.sweep(case, AXES, 5, executor=pool, path=tmp_path / "study.nc")
    assert not calls
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_case_that_workers_do_not_find_is_said(monkeypatch):
    """A module that is here, and nowhere else."""
    import types

    module = types.ModuleType("nowhere_else")
    exec("def case(gap_ratio): ...", vars(module))
    monkeypatch.setitem(sys.modules, "nowhere_else", module)
    said = "all 2 runs failed.*workers can import: No module named 'nowhere_else'"
    with spawned() as pool, pytest.warns(RuntimeWarning, match=said):
        study = sa.sweep(module.case, AXES, 5, executor=pool)
    assert (study.status == "error").all()


def test_it_is_known_which_programs_others_can_import(monkeypatch, tmp_path):
    import types

    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)

    def known():
        return values.main_travels(), values.main_is_lost()

    assert known() == (False, False)
    main.__file__ = "<stdin>"
    assert known() == (False, True)
    main.__file__ = str(tmp_path / "program.py")
    assert known() == (False, True)
    (tmp_path / "program.py").write_text("")
    assert known() == (True, False)
    main.__file__ = "/usr/bin/ipython"
    assert known() == (False, False)
    main.__spec__ = types.SimpleNamespace(name="package.__main__")
    assert known() == (True, False)


# --- where nothing could be done -------------------------------------------------------------


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("case", "axes", "message"),
    [
        (lambda gap: two_levels(gap), AXES, "ValueError: case must take gap_ratio, which over has"),
        (two_levels, {"gap_ratio": [5.0]}, "case must say a step_size where over has no axis"),
        (two_levels, AXES | {"gap_ratio": [0.5]}, "bulk must be below dominant = 0.5"),
    ],
)
@pytest.mark.parametrize("kind", ["memory", "file", "theory", "theory in a file"])
def test_a_sweep_without_any_result_warns_with_the_first_error(case, axes, message, kind, tmp_path):
    pytest.importorskip("h5netcdf")
    how = {"path": tmp_path / "study.nc"} if "file" in kind else {}
    how |= {"seeds": (), "theory": True} if "theory" in kind else {}
    what = "points" if "theory" in kind else "runs"
    for _ in range(2):  # the same call again tries again
        with pytest.warns(RuntimeWarning, match=rf"{what} failed, .*{message}") as said:
            sa.sweep(case, axes, 5, **how).close()
        assert len(said) == 1
        assert said[0].filename == __file__


def test_a_sweep_with_some_results_does_not_warn():
    axes = AXES | {"gap_ratio": [0.5, 5.0]}
    study = sa.sweep(two_levels, axes, 5)
    assert np.unique(study.status).tolist() == ["complete", "error"]
    with pytest.warns(RuntimeWarning, match=r"1 of 2 points failed, the first at gap_ratio = 0.5"):
        sa.sweep(two_levels, axes, 5, seeds=(), theory=True)
