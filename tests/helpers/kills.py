"""Harness: runs in child processes that are killed with SIGKILL, then resumed, then compared.

Twists make it harder: the file is reached through a link, children are forked on the way, a
handler of a signal raises an exception anywhere, or the file is an old copy beside a newer
checkpoint.
"""

import itertools
import multiprocessing
import os
import signal
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import suspalign_fast as sa
from suspalign_fast.storage import paths
from suspalign_fast.traces import checkpoint, writers

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
        writers.TraceWriter._lay_out = _die
    elif place == "after creation":
        writers.TraceWriter.append = _die
    elif place == "before the checkpoint is in place":
        checkpoint.os.replace = _die
    elif place == "after the checkpoint is in place":
        paths.sync_folder = _die
    elif place == "finish":
        writers.TraceWriter.finish = _die
    elif place == "after the end":
        sys.modules["suspalign_fast.running.driver"].tidy = _die
    elif place == "between copy and replacement":
        paths.Replacement.put = _die


class Alarm(BaseException):
    """What the handler of a signal raises."""


def raise_at_random(seed):
    """Have a handler raise an exception at a random moment."""

    def ring(number, frame):
        raise Alarm

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, np.random.default_rng(seed).uniform(0.02, 0.4))


def fork_on_the_way():
    """Fork a child that ends at once, now and then."""
    driver = sys.modules["suspalign_fast.running.driver"]
    bounded, count = driver._bounded, itertools.count()

    def forking(stretch, engine):
        if next(count) % 7 == 3:
            if os.fork() == 0:
                sys.exit(0)
            os.wait()
        return bounded(stretch, engine)

    driver._bounded = forking


def child(path, kind, seed, place, twist=""):
    """Start or resume a run; it checkpoints all the time."""
    warnings.simplefilter("ignore")  # of a trace that is older than its checkpoint
    die_in(place)
    if twist == "fork":
        fork_on_the_way()
    if twist == "handler":
        raise_at_random([seed, time.time_ns()])
    writers.COMMIT_INTERVAL = 0.01
    driver = sys.modules["suspalign_fast.running.driver"]
    bounded = driver._bounded
    driver._bounded = lambda stretch, engine: min(400, bounded(stretch, engine))
    if Path(path).exists():
        sa.resume(path, checkpoint_every=0.01)
    else:
        simulate(kind, seed, path=path, checkpoint_every=0.01)


def start(path, kind, seed, place=None, twist=""):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers.kills", "suspalign_fast"])
    process = context.Process(target=child, args=(str(path), kind, seed, place, twist))
    process.start()
    return process


@dataclass
class Tally:
    """What happened over many kills."""

    kills: int = 0
    finished: int = 0
    unreadable: int = 0
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
    if not path.exists():  # killed before the file had its name
        tally.rows_lost += rows
        return 0
    try:
        trace = sa.load_trace(path)
    except OSError:
        tally.rows_lost += rows
        tally.unreadable += 1
        path.resolve().unlink(missing_ok=True)
        return 0
    tally.rows_lost += max(0, rows - len(trace))
    tally.bits_differing += differing(trace, expected)
    return len(trace)


TWISTS = ("", "link", "fork", "handler", "old copy")


def kill_at_random(folder, kind, seed, kills, tally, rng, twist=""):
    """Kill runs of one kind so many times, resuming each time; compare every one at its end."""
    expected = simulate(kind, seed)
    path = folder / f"{kind}-{seed}.h5"
    if twist == "link":
        (folder / "elsewhere").mkdir(exist_ok=True)
        path.symlink_to(folder / "elsewhere" / path.name)
    rows, goal, copy = 0, tally.kills + kills, b""
    while tally.kills < goal:
        process = start(path, kind, seed, twist=twist)
        process.join(rng.uniform(0.02, 0.5))
        ended = process.exitcode is not None
        if not ended:
            process.kill()
            process.join()
        raised = twist == "handler" and process.exitcode == 1
        if not ended or raised:
            tally.kills += 1
            rows = check(path, rows, expected, tally)
            if twist == "old copy" and path.exists():
                if copy and rng.random() < 0.5:
                    path.write_bytes(copy)
                    rows = len(sa.load_trace(path))
                copy = path.read_bytes()
            continue
        _finish(path, kind, seed, expected, tally)
        rows, copy = 0, b""
    _finish(path, kind, seed, expected, tally)
    if path.is_symlink():
        path.unlink()


def _finish(path, kind, seed, expected, tally):
    """Let a run come to its end and compare all of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        final = sa.resume(path) if path.exists() else simulate(kind, seed, path=path)
    tally.finished += 1
    tally.bits_differing += differing(final, expected) + (len(final) != len(expected))
    real = path.resolve()
    left = {p.name for p in real.parent.iterdir() if p.name.startswith(real.name)}
    assert left == {real.name}, left
    real.unlink()
