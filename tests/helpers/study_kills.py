"""Harness: sweeps into a file, killed with SIGKILL, called again, and compared at the end."""

import hashlib
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

import suspalign_fast as sa
from suspalign_fast.base import executors
from suspalign_fast.storage import growing, paths
from suspalign_fast.studies.writing import StudyFile

AXES = {"gap_ratio": [2.0, 5.0, 20.0, 50.0], "step_size": [1e-3, 2e-3, 4e-3, 3.0, -1.0]}
HOW = {"seeds": range(6), "record_every": 60, "theory": True, "variables": ("alignment", "loss")}
NUM_STEPS = 1200
PLACES = (
    "before it is in place", "after it is in place", "between values and status",
    "in the middle of the values", "finish",
)  # fmt: skip


def case(gap_ratio, step_size):
    """Return a problem that takes a while; some diverge, and one step size raises."""
    if step_size < 0:
        raise ValueError("a step size below zero")
    spectrum = sa.Spectrum.linear_bands(800, 10, (50.0, 40.0), (40.0 / gap_ratio, 0.1))
    return sa.Quadratic(spectrum, initial=3.0), {"step_size": step_size}


def sweep(path=None, **more):
    return sa.sweep(case, AXES, NUM_STEPS, path=path, **(HOW | more))


def digest(study):
    """Return what tells results apart, wherever they are."""
    found = hashlib.sha256()
    for name in sorted(study.variables):
        values = study[name].values
        found.update(name.encode())
        found.update(repr(values.tolist()).encode() if values.dtype.kind in "UO" else values.data)
    return found.hexdigest()


def _die(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(place):
    """Arrange that this process kills itself at a delicate moment, some batches on."""
    write, put, left = StudyFile.write, StudyFile._put, [4]

    def counted(method, at_zero):
        def wrapped(self, *arguments):
            left[0] -= 1
            if left[0] <= 0:
                at_zero(self, *arguments)
            return method(self, *arguments)

        return wrapped

    if place == "before it is in place":
        paths.Replacement.put = _die
    elif place == "after it is in place":
        growing.paths.sync_folder = _die
    elif place == "between values and status":
        StudyFile.write = counted(write, lambda *_: setattr(StudyFile, "_put_texts", _die))
    elif place == "in the middle of the values":
        left[0] = 30
        StudyFile._put = counted(put, _die)
    elif place == "finish":
        StudyFile.finish = _die


def child(path, place, in_processes):
    os.setsid()
    executors.BATCH_SECONDS = 0.02
    sys.modules["suspalign_fast.studies.sweep"].SHARES = 40
    die_in(place)
    if in_processes:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            sweep(path, executor=pool)
    else:
        sweep(path)


def start(path, place="", *, in_processes=False):
    context = multiprocessing.get_context("spawn" if in_processes else "forkserver")
    if not in_processes:
        context.set_forkserver_preload(["tests.helpers.study_kills", "suspalign_fast", "xarray"])
    process = context.Process(target=child, args=(str(path), place, in_processes))
    process.start()
    return process


@dataclass
class Tally:
    """What happened over many kills."""

    kills: int = 0
    finished: int = 0
    unreadable: int = 0
    runs_lost: int = 0
    wrong: int = 0


def done_in(study):
    return (study.status != "missing") & (study.status != "error")


def check(path, before, expected, tally):
    """Compare what a killed sweep left with what was there; return which runs are done."""
    if not path.exists():  # killed before the file had its name
        tally.runs_lost += 0 if before is None else int(before.sum())
        return before
    try:
        with sa.open_study(path) as study:
            study = study.load().sel({name: expected[name] for name in AXES})  # in their order
    except OSError:
        tally.unreadable += 1
        return before
    now = done_in(study)
    if before is not None:
        tally.runs_lost += int((before & ~now).sum())
    for name in HOW["variables"]:
        same = study[name].values.view(np.int64) == expected[name].values.view(np.int64)
        tally.wrong += int((~same.all(axis=-1) & now.values).sum())
    return now


def kill(process):
    """Kill a sweep and its workers, which would wait for it for ever."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # too young to have a group of its own
        process.kill()
    process.join()


def kill_at_random(folder, kills, tally, rng, expected, *, in_processes=False):
    """Kill a sweep so many times, calling it again each time; compare every one at its end."""
    path, before = folder / "study.nc", None
    while tally.kills < kills:
        process = start(path, in_processes=in_processes)
        process.join(rng.uniform(0.05, 1.2) + rng.uniform(1.0, 4.0) * in_processes)
        if process.exitcode is None:
            kill(process)
            tally.kills += 1
            before = check(path, before, expected, tally)
        else:
            finish(path, expected, tally)
            before = None
    finish(path, expected, tally)


def finish(path, expected, tally):
    """Let a sweep come to its end and compare all of it."""
    with sweep(path) as study:
        tally.wrong += digest(study.load()) != digest(expected)
    tally.finished += 1
    path.unlink()
