"""Harness: runs in child processes that are killed with SIGKILL, then resumed, then compared."""

import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import suspalign_fast as sa
from suspalign_fast import checkpoint, store

STEPS = 60_000
RUNS = {
    "step": {"engine": "step", "step_size": 3e-3, "record_every": 5},
    "levels": {"engine": "levels", "step_size": 3e-3},
    "critical": {"engine": "step", "step_size": sa.CriticalStep(0.9), "record_every": 2},
    "jump": {"engine": "jump", "step_size": 3e-3, "record_every": 2},
}


def problem_of(seed):
    spectrum = sa.Spectrum([100.0, 90.0, 2.0, 0.5, 0.0], 30, [10, 20, 300, 400, 50])
    return sa.Quadratic(spectrum, sa.HessianNoise(0.5), initial=1.0 + seed)


def simulate(kind, seed, **more):
    arguments = dict(RUNS[kind])
    return sa.simulate(
        problem_of(seed), arguments.pop("step_size"), STEPS, seed=seed, **arguments, **more
    )


def _die(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(place):
    """Arrange that this process kills itself at a delicate moment."""
    if place == "creation":
        store.TraceWriter._lay_out = _die
    elif place == "after creation":
        store.TraceWriter.append = _die
    elif place == "before the checkpoint is in place":
        checkpoint.os.replace = _die
    elif place == "after the checkpoint is in place":
        checkpoint._files.sync_folder = _die
    elif place == "finish":
        store.TraceWriter.finish = _die
    elif place == "after the end":
        sys.modules["suspalign_fast.driver"].tidy = _die
    elif place == "between copy and replacement":
        store._files.Replacement.put = _die


def child(path, kind, seed, place):
    """Start or resume a run; it checkpoints all the time."""
    die_in(place)
    store.COMMIT_INTERVAL = 0.01
    driver = sys.modules["suspalign_fast.driver"]
    bounded = driver._bounded
    driver._bounded = lambda stretch, engine: min(400, bounded(stretch, engine))
    if Path(path).exists():
        sa.resume(path, checkpoint_every=0.01)
    else:
        simulate(kind, seed, path=path, checkpoint_every=0.01)


def start(path, kind, seed, place=None):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.kills", "suspalign_fast"])
    process = context.Process(target=child, args=(str(path), kind, seed, place))
    process.start()
    return process


@dataclass
class Tally:
    """What happened over many kills."""

    kills: int = 0
    finished: int = 0
    unreadable_before_first_commit: int = 0
    rows_lost: int = 0
    bits_differing: int = 0


def differing(trace, expected):
    """Number of values of a trace whose bits differ from those of the first rows expected."""
    count = 0
    for name, values in trace.columns().items():
        wanted = expected[name][: len(values)]
        count += int((values.view(np.int64) != wanted.view(np.int64)).sum())
    return count


def check(path, rows, expected, tally):
    """Compare what a killed run left with what was there before; return its number of rows."""
    try:
        trace = sa.load_trace(path)
    except OSError:
        tally.rows_lost += rows
        tally.unreadable_before_first_commit += rows == 0
        path.unlink(missing_ok=True)
        return 0
    tally.rows_lost += max(0, rows - len(trace))
    tally.bits_differing += differing(trace, expected)
    return len(trace)


def kill_at_random(folder, kind, seed, kills, tally, rng):
    """Kill runs of one kind so many times, resuming each time; compare every one at its end."""
    expected = simulate(kind, seed)
    path = folder / f"{kind}-{seed}.h5"
    rows, goal = 0, tally.kills + kills
    while tally.kills < goal:
        process = start(path, kind, seed)
        time.sleep(rng.uniform(0.02, 0.5))
        if process.is_alive():
            process.kill()
            tally.kills += 1
            process.join()
            rows = check(path, rows, expected, tally)
            continue
        process.join()
        _finish(path, kind, seed, expected, tally)
        rows = 0
    _finish(path, kind, seed, expected, tally)


def _finish(path, kind, seed, expected, tally):
    """Let a run come to its end and compare all of it."""
    final = sa.resume(path) if path.exists() else simulate(kind, seed, path=path)
    tally.finished += 1
    tally.bits_differing += differing(final, expected) + (len(final) != len(expected))
    left = {p.name for p in path.parent.iterdir() if p.name.startswith(path.name)}
    assert left == {path.name}, left
    path.unlink()
