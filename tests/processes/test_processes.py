"""Signals, forks, threads, and what processes do to each other's runs."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.storage import lock
from suspalign_fast.traces import writers
from suspalign_fast.traces.checkpoint import checkpoint_path

from ..conftest import assert_same_bits
from ..helpers import kills

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks of POSIX")
PROBLEM = sa.Quadratic(sa.Spectrum.linear_bands(3000, 50), sa.IsotropicNoise(0.5), initial=1.0)
STEPS = 3000


def run_script(script, *arguments, timeout=120, **options):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", SETUP + script, *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout, **options,
    )  # fmt: skip


#: A run of many short stretches; `at(step, action)` does something on the way.
SETUP = """
import os, signal, sys, threading, time
import suspalign_fast as sa
from suspalign_fast.running import driver
from suspalign_fast.traces import writers as store
problem = sa.Quadratic(sa.Spectrum.linear_bands(3000, 50), sa.IsotropicNoise(0.5), initial=1.0)
_bounded, _done = driver._bounded, []
def at(step, action, stretch=50):
    def bounded(n, engine):
        if engine.step >= step and not _done:
            _done.append(1)
            action()
        return min(stretch, _bounded(n, engine))
    driver._bounded = bounded
"""


@pytest.fixture(scope="module")
def expected():
    return sa.simulate(PROBLEM, 3e-3, STEPS)


# --- forks -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("end", "interval", "num_threads"),
    [
        ("sys.exit(0)", 0.0, 1),
        ("sys.exit(0)", 0.05, 2),
        ("sys.exit(0)", 1e9, 1),
        ("os._exit(0)", 0.05, 1),
        ("raise ValueError", 1e9, 1),
        ("return", 0.05, 1),
        ("return", 1e9, 1),
        ("return", 0.05, 2),
    ],
)
def test_a_forked_child_leaves_the_parents_trace_alone(tmp_path, end, num_threads, interval):
    """It ends, or goes on with the run, while the parent has rows in wait and writes more."""
    steps = 20_000
    script = f"""
store.COMMIT_INTERVAL = {interval}
def fork():
    if os.fork() == 0:
        time.sleep(0.3)
        {end}
at(2000, fork, stretch=400)
often = driver._bounded
driver._bounded = lambda n, engine: time.sleep(0.02) or often(n, engine)
try:
    trace = sa.simulate(problem, 3e-3, {steps}, path=sys.argv[1], num_threads={num_threads})
    os.wait()
    print(trace.status)
except sa.ForkError as error:
    sys.exit(str(error))
"""
    process = run_script(script, tmp_path / "trace.h5", timeout=60)
    assert process.stdout.strip() == "complete", process.stderr
    assert ("forked" in process.stderr) == (end == "return")
    expected = sa.simulate(PROBLEM, 3e-3, steps)
    assert_same_bits(sa.load_trace(tmp_path / "trace.h5"), expected)


@pytest.mark.long
def test_a_forked_child_holds_no_lock(tmp_path):
    script = """
def fork():
    if os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(30)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
at(50, fork)
sa.simulate(problem, 3e-3, 200, path=sys.argv[1])
"""
    path = tmp_path / "trace.h5"
    assert run_script(script, path, timeout=60).returncode == -9
    assert sa.load_trace(path).status == "killed"
    assert len(sa.resume(path)) == 201


FORK = """
import multiprocessing
large = sa.Quadratic(sa.Spectrum.linear_bands(100_000, 50))
rule = sa.CriticalStep(0.5)
def run(step_size, num_threads):
    try:
        return len(sa.simulate(large, step_size, 20, num_threads=num_threads))
    except sa.ForkError as error:
        return str(error)
def run_many():
    return len(sa.simulate_ensemble(large, 3e-3, 5, seeds=range(3)))
if __name__ == "__main__":
    run(3e-3, 2), run(rule, 2)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.apply(run, (rule, 2)))
        print(pool.apply(run, (rule, 1)))
        print(pool.apply(run, (3e-3, 2)))
        print(pool.apply(run_many))
"""


@pytest.mark.long
def test_threads_are_not_waited_for_in_a_forked_process():
    lines = run_script(FORK, timeout=120).stdout.splitlines()
    assert "was forked from one whose kernels had started threads" in lines[0]
    assert "'spawn'" in lines[0]
    assert lines[1:] == ["21", "21", "3"]


# --- signals ---------------------------------------------------------------------------------

INTERRUPTED = """
at(500, lambda: os.kill(os.getpid(), getattr(signal, sys.argv[2])))
try:
    trace = sa.simulate(problem, 3e-3, 3000, path=sys.argv[1])
    print(trace.status)
except sa.Interrupted as stop:
    print(stop.signal_number, stop)
"""


@pytest.mark.long
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_a_run_after_a_checkpoint(tmp_path, expected, name):
    path = tmp_path / "trace.h5"
    process = run_script(INTERRUPTED, path, name)
    number = int(getattr(signal, name))
    assert process.stdout.startswith(f"{number} stopped at step"), process.stderr
    assert checkpoint_path(path).exists()
    assert sa.load_trace(path).status == "interrupted"
    assert_same_bits(sa.resume(path), expected)


@pytest.mark.long
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_signals_that_were_ignored_stay_ignored(tmp_path, name):
    """As after nohup, or for a job that a shell runs in the background."""

    def ignore():
        signal.signal(getattr(signal, name), signal.SIG_IGN)

    process = run_script(INTERRUPTED, tmp_path / "trace.h5", name, preexec_fn=ignore)
    assert process.stdout.strip() == "complete", process.stderr


def test_a_signal_that_comes_too_late_is_not_lost(tmp_path, monkeypatch, expected):
    path = tmp_path / "trace.h5"
    finish = writers.TraceWriter.finish

    def interrupted(self, status):
        os.kill(os.getpid(), signal.SIGINT)
        finish(self, status)

    monkeypatch.setattr(writers.TraceWriter, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        sa.simulate(PROBLEM, 3e-3, STEPS, path=path)
    assert not isinstance(caught.value, sa.Interrupted)
    assert sa.load_trace(path).status == "complete"
    assert_same_bits(sa.load_trace(path), expected)
    assert [p.name for p in tmp_path.iterdir()] == ["trace.h5"]


class Alarm(BaseException):
    """What the handler of a signal raises."""


# Raised in a destructor, the exception gets lost, as Python has it: the run then goes on.
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_in_the_middle_of_a_commit_spoils_no_row(tmp_path, monkeypatch, expected):
    def ring(number, frame):
        raise Alarm

    monkeypatch.setattr(writers, "COMMIT_INTERVAL", 0.0)
    took = []
    for i in range(5):
        started = time.perf_counter()
        sa.simulate(PROBLEM, 3e-3, STEPS, path=tmp_path / f"whole{i}.h5")
        took.append(time.perf_counter() - started)
    before = signal.signal(signal.SIGALRM, ring)
    rng = np.random.default_rng(0)
    rung = 0
    try:
        for i in range(20):
            path = tmp_path / f"{i}.h5"
            signal.setitimer(signal.ITIMER_REAL, np.median(took) * rng.uniform(0.2, 1.0))
            try:
                sa.simulate(PROBLEM, 3e-3, STEPS, path=path)
                signal.setitimer(signal.ITIMER_REAL, 0.0)
            except Alarm:
                rung += 1
            if path.exists():
                trace = sa.load_trace(path)
                assert trace.status in ("killed", "complete")
                assert kills.differing(trace, expected) == 0
                assert_same_bits(sa.resume(path), expected)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert rung > 3


def raise_after(opcodes, source):
    """Trace function that raises after a number of instructions in one source file."""
    left = opcodes

    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.endswith(source):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise Alarm
        return trace

    return trace


def hold(path, other):
    with lock.exclusive(path) as held:
        held.add(other)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("independent", [True, False])
def test_an_exception_between_any_two_instructions_leaks_no_lock(
    tmp_path, monkeypatch, independent
):
    monkeypatch.setattr(lock, "can_lock_inodes", lambda folder: independent)
    path = tmp_path / "trace.h5"
    other = tmp_path / "other.h5"
    path.touch()
    other.touch()
    before = sys.gettrace()
    for opcodes in range(1, 2000):
        sys.settrace(raise_after(opcodes, "storage/lock.py"))
        try:
            hold(path, other)
        except Alarm:
            pass
        else:
            break
        finally:
            sys.settrace(before)
        assert [lock.is_held(name) for name in (path, other)] == [False, False], opcodes
    assert 100 < opcodes < 2000


ENSEMBLE = """
print("ready", flush=True)
try:
    sa.simulate_ensemble(problem, 3e-3, 10**8, seeds=range(8), record_every=10**7)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.long
def test_an_ensemble_stops_when_told():
    process = subprocess.Popen(
        [sys.executable, "-c", SETUP + ENSEMBLE], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(5.0)
    process.send_signal(signal.SIGINT)
    try:
        out, _ = process.communicate(timeout=20.0)  # left alone, it would run for an hour
    finally:
        process.kill()
    assert out == "stopped\n"


# --- threads ---------------------------------------------------------------------------------


@pytest.mark.long
def test_a_run_outlives_the_main_thread_and_its_checkpoints_too(tmp_path, expected):
    script = f"""
at(10**9, None, stretch=100)
def work():
    sa.simulate(problem, 3e-3, {STEPS}, path=sys.argv[1], checkpoint_every=0.001)
sa.simulate(problem, 3e-3, 10)
threading.Thread(target=work).start()
"""
    process = run_script(script, tmp_path / "trace.h5")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert_same_bits(sa.load_trace(tmp_path / "trace.h5"), expected)


@pytest.mark.long
def test_runs_in_two_threads_under_numbas_own_pool(tmp_path):
    """It aborts the process when two threads call it at once."""
    script = """
import numba
large = sa.Quadratic(sa.Spectrum.linear_bands(200_000, 50))
rule = sa.CriticalStep(0.5)
sa.simulate(large, rule, 10)
assert numba.threading_layer() == "workqueue"
results = []
def work():
    results.append(sa.simulate(large, rule, 400).loss[-1])
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(set(results)), len(results))
"""
    environment = os.environ | {"NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"}
    process = run_script(script, env=environment)
    assert process.stdout.strip() == "1 3", process.stderr


# --- disks and streams -----------------------------------------------------------------------

LIMIT = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
"""


@pytest.mark.long
@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize("size", [100, 3000, 30_000, 200_000])
def test_a_disk_that_is_full_from_the_start(tmp_path, compression, size):
    script = f"""
large = sa.Quadratic(sa.Spectrum.power_law(40_000, 50, 1.0))
limit({size})
try:
    sa.simulate(large, 3e-3, 500, path=sys.argv[1], compression={compression!r})
except OSError as error:
    print(error)
"""
    process = run_script(LIMIT + script, tmp_path / "trace.h5")
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert "trace.h5" in process.stdout
    assert len(process.stdout.splitlines()) == 1
    assert all(p.name == "trace.h5" for p in tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_disk_that_is_full_when_a_run_goes_on(tmp_path, compression, expected):
    path = tmp_path / "trace.h5"
    sa.simulate(PROBLEM, 3e-3, STEPS - 10, path=path, compression=compression)
    whole = path.read_bytes()
    script = f"""
limit({len(whole) // 2})
import warnings
warnings.filterwarnings("ignore", ".*steps are computed again")
try:
    sa.resume(sys.argv[1], num_steps={STEPS})
except OSError as error:
    print(error)
"""
    process = run_script(LIMIT + script, path)
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    assert "trace.h5" in process.stdout
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["trace.h5"]
    assert_same_bits(sa.resume(path, num_steps=STEPS), expected)


@pytest.mark.long
def test_a_checkpoint_that_does_not_fit_does_not_end_the_run(tmp_path):
    script = """
import warnings
warnings.simplefilter("always")
large = sa.Quadratic(sa.Spectrum.two_level(500_000, 50, 10.0, 1.0))
limit(2_000_000)
trace = sa.simulate(large, 3e-3, 60, path=sys.argv[1], checkpoint_every=0.01)
print(trace.status, len(trace))
"""
    process = run_script(LIMIT + script, tmp_path / "trace.h5")
    assert process.stdout.strip() == "complete 61", process.stderr
    assert "trace.h5.ckpt cannot be written: File too large; the run goes on" in process.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["trace.h5"]


@pytest.mark.long
def test_a_stopped_run_says_that_its_checkpoint_does_not_fit(tmp_path):
    script = """
large = sa.Quadratic(sa.Spectrum.two_level(500_000, 50, 10.0, 1.0))
limit(2_000_000)
at(5, lambda: os.kill(os.getpid(), signal.SIGTERM), stretch=3)
try:
    sa.simulate(large, 3e-3, 60, path=sys.argv[1])
except sa.Interrupted as stop:
    print(stop)
"""
    process = run_script(LIMIT + script, tmp_path / "trace.h5")
    assert "File too large; without one a resumed run starts over" in process.stdout


@pytest.mark.long
@pytest.mark.parametrize("stream", ["closed", "full", "none"])
def test_a_broken_standard_error_does_not_end_a_run(tmp_path, stream):
    if stream == "full" and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    script = f"""
broken = {{"closed": lambda: open(os.devnull, "w"), "full": lambda: open("/dev/full", "w"),
          "none": lambda: None}}[{stream!r}]()
if {stream!r} == "closed":
    broken.close()
before, sys.stderr = sys.stderr, broken
trace = sa.simulate(problem, 3e-3, 200, path=sys.argv[1], progress=True)
traces = sa.simulate_ensemble(problem, 3e-3, 20, seeds=range(3), progress=True)
sys.stderr = before
print(trace.status, len(traces))
os._exit(0) if sys.stdout.flush() is None else None
"""
    process = run_script(script, tmp_path / "trace.h5")
    assert process.stdout.strip() == "complete 3", process.stderr


@pytest.mark.long
def test_a_progress_bar_in_a_file_has_few_lines(tmp_path):
    script = """
at(10**9, None, stretch=1)
fast = driver._bounded
driver._bounded = lambda n, engine: time.sleep(0.03) or fast(n, engine)
sa.simulate(problem, 3e-3, 100, progress=True)
"""
    lines = run_script(script).stderr.replace("\r", "\n").split("\n")
    assert 1 <= len([line for line in lines if line.strip()]) <= 3
