"""Kernels of one factory share names and types: no process calls the one for the other."""

import os
import subprocess
import sys

import numpy as np
import pytest

from suspalign_fast.kernels import jit

#: Runs named forms of the loop of a rule in threads, and prints what they leave.
PROGRAM = """
import hashlib, sys, warnings
import suspalign_fast as sa

warnings.simplefilter("ignore")
spectrum = sa.Spectrum.power_law(60_000, 300, 0.7, 50.0)
noises = {"additive": sa.IsotropicNoise(0.5), "batches": sa.DataNoise(3, label_std=0.5)}
optimizers = {"plain": sa.SGD(), "velocity": sa.Momentum(0.9)}
for form in sys.argv[1:]:
    optimizer, noise = form.split("-")
    problem = sa.Quadratic(spectrum, noises[noise], initial=3.0)
    trace = sa.simulate(
        problem, sa.CriticalStep(0.5), 4, seed=1, engine="step", num_threads=2,
        optimizer=optimizers[optimizer],
    )
    print(form, hashlib.sha256(trace.power_sums.tobytes()).hexdigest())
"""


def said_by(forms, cache):
    """What a process says of forms; it shares a cache with those before it."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *forms], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split() for line in done.stdout.splitlines())


@pytest.mark.long
@pytest.mark.parametrize(
    "forms",
    [("plain-additive", "velocity-additive"), ("velocity-batches", "plain-batches")],
    ids=" ".join,
)
def test_processes_that_load_each_others_kernels_have_the_bits_of_those_that_do_not(
    forms, tmp_path
):
    """One compiles A; one loads A and compiles B; one loads both."""
    first, second = forms
    alone = {form: said_by([form], tmp_path / form)[form] for form in forms}
    assert alone[first] != alone[second]
    shared = tmp_path / "shared"
    assert said_by([first], shared) == {first: alone[first]}
    assert said_by([first, second], shared) == alone
    assert said_by([second, first], shared) == alone


def next_number():
    return next(jit.FunctionIdentity._unique_ids)


def test_symbols_carry_numbers_that_no_other_process_has():
    assert next_number() > 2**32  # one of a million starts below
    here = next_number()
    program = (
        "from suspalign_fast.kernels import jit; print(next(jit.FunctionIdentity._unique_ids))"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert abs(int(there.stdout) - here) > 10**6


def test_a_function_takes_its_symbol_from_these_numbers():
    before = next_number()

    @jit.inlined
    def twice(x):
        return x + x

    @jit.kernel()
    def use(x):
        return twice(x)

    assert use(np.float64(2.0)) == 4.0
    numbers = [cres.fndesc.uid for cres in use.overloads.values()]
    assert all(before < number < before + 10_000 for number in numbers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_numbers_anew():
    here = next_number()
    program = (
        "import os; from suspalign_fast.kernels import jit\n"
        "reading, writing = os.pipe()\n"
        "numbers = jit.FunctionIdentity\n"
        "if os.fork() == 0:\n"
        "    os.write(writing, str(next(numbers._unique_ids)).encode()); os._exit(0)\n"
        "os.wait(); print(os.read(reading, 100).decode(), next(numbers._unique_ids))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    child, parent = map(int, done.stdout.split())
    assert abs(child - parent) > 10**6
    assert here > 2**32
