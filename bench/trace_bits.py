"""Hash the recorded columns of several hundred runs: what a change must leave as it is.

``python bench/trace_bits.py before.json`` writes a hash a run. After the change,
``python bench/trace_bits.py after.json --compare before.json`` names the runs whose bits differ and
exits with status 1 if there are any. Bits are the same on one machine, not from one to another.
"""

import argparse
import hashlib
import itertools
import json
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")

import numba
import numpy as np

import suspalign_fast as sa
from suspalign_fast.engines.levels import LevelsEngine
from suspalign_fast.engines.step import StepEngine

STEPS = 40
SPECTRA = {
    "close": lambda: sa.Spectrum.linear_bands(3000, 37),
    "wide": lambda: sa.Spectrum.power_law(2500, 10, 1.0, 30.0),
    "levels": lambda: sa.Spectrum([100.0, 90.0, 2.0, 0.5, 0.0], 30, [10, 20, 300, 1400, 50]),
    "tiny": lambda: sa.Spectrum([5.0, 4.0, 1.0, 0.3, 0.1], 2),
}
NOISES = {
    "isotropic": lambda s: sa.IsotropicNoise(0.5),
    "hessian": lambda s: sa.HessianNoise(0.3),
    "diagonal": lambda s: sa.DiagonalNoise(np.linspace(0.2, 1.4, s.num_levels)),
    "data": lambda s: sa.DataNoise(3, label_std=0.5),
}


@numba.njit
def own_rule(row):
    """Return a size that depends on every kind of sum."""
    return 1e-3 if row.power_sums[0, 1] > row.power_sums[1, 1] else 4e-3 + 0.0 * row.constants[0, 0]


RULES = {
    "constant": lambda: 4e-3,
    "schedule": lambda: np.linspace(1e-3, 6e-3, STEPS),
    "critical": lambda: sa.CriticalStep(0.9),
    "interval": lambda: sa.LossIntervalStep(0.5),
    "online": lambda: sa.OnlineCriticalStep(0.8),
    "own": lambda: own_rule,
}
KNOWN = ("constant", "schedule")
UPDATES = ("full", "dominant", "bulk", (0.5, 1.5))
OPTIMIZERS = {
    "sgd": sa.SGD(),
    "ball": sa.Momentum(0.9),
    "nesterov": sa.Momentum(0.8, nesterov=True),
}


ENGINES = ("step", "jump", "levels", "reference")
#: Engines at whose states single steps can be tried.
ENGINE_CLASSES = {"step": StepEngine, "levels": LevelsEngine}


def runs():
    """Yield the name and the arguments of every run."""
    for engine, spectrum, noise, rule in itertools.product(ENGINES, SPECTRA, NOISES, RULES):
        if not is_possible(engine, noise, rule):
            continue
        for number, update in enumerate(UPDATES):
            # The rules of the package depend on the update; only their full one is held fast.
            if update != "full" and rule not in (*KNOWN, "own"):
                continue
            dtype = "float32" if number == 1 and engine != "levels" else "float64"
            every = 1 + 3 * (number == 3)
            yield engine, "cpu", spectrum, noise, rule, update, dtype, every
    for engine, rule in (("step", "constant"), ("step", "critical"), ("jump", "constant")):
        yield engine, "cuda", "tiny", "isotropic", rule, "full", "float64", 1
    for engine, spectrum, noise, rule, optimizer in itertools.product(
        ENGINES, ("close", "levels"), ("diagonal", "data"), RULES, ("ball", "nesterov")
    ):
        if is_possible(engine, noise, rule):
            yield engine, "cpu", spectrum, noise, rule, (0.5, 1.5), "float64", 3, optimizer


def is_possible(engine, noise, rule):
    """Whether an engine takes a noise and a rule: jumps are over steps whose law is known."""
    return engine != "jump" or (rule in KNOWN and noise != "data")


def digest(engine, device, spectrum, noise, rule, update, dtype, every, optimizer="sgd"):
    """Hash the recorded columns of one run."""
    lam = SPECTRA[spectrum]()
    problem = sa.Quadratic(lam, NOISES[noise](lam), initial=3.0)
    trace = sa.simulate(
        problem, RULES[rule](), STEPS, seed=11, engine=engine, device=device, update=update,
        dtype=dtype, record_every=every, optimizer=OPTIMIZERS[optimizer],
    )  # fmt: skip
    return hash_of(trace)


def hashed(*arrays):
    """Hash arrays."""
    whole = hashlib.sha256()
    for values in arrays:
        whole.update(np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()[:24]


def hash_of(trace):
    """Hash the recorded columns of a trace."""
    names = ["step", "step_size", "power_sums", "noise_sums"]
    if trace.run.optimizer.has_velocity:
        names.append("cross_sums")
    return hashed(*(trace[name] for name in names))


def threads_that_meet(rule, noise, optimizer):
    """Hash a run of many blocks: two threads share every step, or meet after each."""
    spectrum = sa.Spectrum.power_law(60_000, 300, 0.7, 50.0)
    problem = sa.Quadratic(spectrum, NOISES[noise](spectrum), initial=3.0)
    return hash_of(
        sa.simulate(
            problem, RULES[rule](), 6, seed=5, engine="step", num_threads=2,
            optimizer=OPTIMIZERS[optimizer],
        )
    )  # fmt: skip


def simulated_gpu(rule, noise, optimizer):
    """Hash a short run on the simulated GPU."""
    spectrum = SPECTRA["tiny"]()
    problem = sa.Quadratic(spectrum, NOISES[noise](spectrum), initial=3.0)
    optimizer = OPTIMIZERS[optimizer]
    return hash_of(
        sa.simulate(problem, RULES[rule](), 6, seed=7, device="cuda", optimizer=optimizer)
    )


def tried_steps(engine, noise, optimizer):
    """Hash the sums after steps that are tried at a state of a run, and the run that goes on."""
    spectrum = SPECTRA["levels"]()
    problem = sa.Quadratic(spectrum, NOISES[noise](spectrum), initial=3.0)
    run = sa.simulate(problem, 3e-3, 8, seed=9, engine=engine, optimizer=OPTIMIZERS[optimizer]).run
    made = ENGINE_CLASSES[engine](run)
    made.initial_row()
    made.advance(4)
    planes = {name: values.copy() for name, values in made.planes.items()}
    tried = [made.sums_after(planes, 1_000 + i, 2e-3 * i, (1.0, 0.5)) for i in range(1, 4)]
    return hashed(*tried, made.advance(4).power_sums)


def ensemble(engine, optimizer):
    """Hash runs of an ensemble."""
    spectrum = SPECTRA["levels"]()
    problem = sa.Quadratic(spectrum, sa.HessianNoise(0.3), initial=3.0)
    traces = sa.simulate_ensemble(
        problem, 3e-3, 20, seeds=range(3), engine=engine, optimizer=OPTIMIZERS[optimizer]
    )
    return hashed(*(trace.power_sums for trace in traces))


def sharded(engine, rule):
    """Hash a run over the workers of an executor."""
    spectrum = sa.Spectrum.power_law(300_000, 300, 0.7, 50.0)
    problem = sa.Quadratic(spectrum, sa.HessianNoise(0.3), initial=3.0)
    with ThreadPoolExecutor(2) as pool:
        return hash_of(sa.simulate(problem, RULES[rule](), 4, seed=3, engine=engine, executor=pool))


def another_k(engine, num_dominant):
    """Hash a run with few or many dominant directions."""
    spectrum = sa.Spectrum.power_law(3_000, num_dominant, 0.7, 50.0)
    problem = sa.Quadratic(spectrum, sa.HessianNoise(0.3), initial=3.0)
    return hash_of(sa.simulate(problem, 3e-3, 12, seed=4, engine=engine))


def others():
    """Yield the function and the arguments of what plain runs do not reach."""
    both = ("isotropic", "data")
    for rule, noise, optimizer in itertools.product(RULES, both, OPTIMIZERS):
        if rule != "schedule":
            yield threads_that_meet, rule, noise, optimizer
    yield threads_that_meet, "constant", "diagonal", "ball"
    for rule, noise, optimizer in itertools.product(("constant", "online"), both, OPTIMIZERS):
        yield simulated_gpu, rule, noise, optimizer
    for engine, noise, optimizer in itertools.product(ENGINE_CLASSES, both, OPTIMIZERS):
        yield tried_steps, engine, noise, optimizer
    for engine, optimizer in itertools.product(("step", "jump", "levels"), OPTIMIZERS):
        yield ensemble, engine, optimizer
    yield from ((sharded, "step", "constant"), (sharded, "jump", "constant"))
    for engine, num_dominant in itertools.product(ENGINES[:3], (1, 64, 1024, 2999)):
        yield another_k, engine, num_dominant


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--compare", help="hashes of before")
    options = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # what diverges has bits, too
    hashes = {" ".join(map(str, run)): digest(*run) for run in runs()}
    for function, *arguments in others():
        hashes[" ".join([function.__name__, *map(str, arguments)])] = function(*arguments)
    with open(options.output, "w") as file:
        json.dump(hashes, file, indent=0)
    print(f"{len(hashes)} runs hashed")
    if options.compare:
        with open(options.compare) as file:
            before = json.load(file)
        differing = [name for name, value in hashes.items() if before.get(name) != value]
        print(f"{len(differing)} differ from {options.compare}", *differing[:20], sep="\n    ")
        sys.exit(bool(differing))


if __name__ == "__main__":
    main()
