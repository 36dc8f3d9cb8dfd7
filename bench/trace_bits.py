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

os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")

import numba
import numpy as np

import suspalign_fast as sa

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
    whole = hashlib.sha256()
    velocity = ("cross_sums",) if OPTIMIZERS[optimizer].has_velocity else ()
    for name in ("step", "step_size", "power_sums", "noise_sums", *velocity):
        whole.update(np.ascontiguousarray(trace[name]).tobytes())
    return whole.hexdigest()[:24]


def main():
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--compare", help="hashes of before")
    options = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)  # what diverges has bits, too
    hashes = {" ".join(map(str, run)): digest(*run) for run in runs()}
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
