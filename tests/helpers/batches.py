"""Harness for mini-batches of data: do samples of states have the law of literal batches?

`literal` draws every sample vector; `formula` is the law that engines use, in plain NumPy and with
factors by which its parts can be falsified; `engine` asks an engine for the state after some steps,
one seed a sample. `failures` compares two of them.
"""

from dataclasses import fields
from itertools import pairwise

import numpy as np
from scipy import stats

from suspalign_fast.engines import make_engine
from suspalign_fast.engines.base import VELOCITY
from suspalign_fast.kernels.normals import seed_key
from suspalign_fast.model.noise import DataNoise
from suspalign_fast.model.optimizer import PLAIN
from suspalign_fast.model.problem import Quadratic
from suspalign_fast.model.run import Run
from suspalign_fast.model.spectrum.spectrum import Spectrum
from suspalign_fast.traces.trace import Trace

#: Level of a whole comparison, shared out over its checks.
LEVEL = 1e-3
#: Samples drawn at once.
PIECE = 4_000


def literal(
    problem, eta, steps, count, rng, update=(1.0, 1.0), optimizer=PLAIN, velocity=0.0
):  # fmt: skip
    """States after steps on drawn samples, shape (count, d); the velocity is that at first."""
    lam, etas, batch, std = parameters(problem, eta, update)
    pull, carry, decay = optimizer.factors
    out = []
    for first in range(0, count, PIECE):
        c = np.tile(problem.initial, (min(PIECE, count - first), 1))
        v = np.zeros_like(c) + velocity
        for _ in range(steps):
            x = rng.standard_normal((len(c), batch, lam.size)) * np.sqrt(lam)
            rest = np.einsum("nbd,nd->nb", x, c) - std * rng.standard_normal((len(c), batch))
            h = np.einsum("nbd,nb->nd", x, rest) / batch
            c, v = c - etas * (pull * h + carry * v), decay * v + h
        out.append(c)
    return np.concatenate(out)


def random_case(rng, batch, least=4, most=20):
    """A problem, its initial state anywhere, with a velocity and a step size."""
    k, bulk = int(rng.integers(least, most + 1)), int(rng.integers(4, 40))
    lam = np.r_[rng.uniform(2.0, 3.0, k), rng.uniform(10.0 ** rng.uniform(-3.0, -0.3), 1.0, bulk)]
    lam = np.r_[np.sort(lam[:k])[::-1], np.sort(lam[k:])[::-1]]
    c = rng.normal(size=lam.size) * lam ** -rng.uniform(0.0, 1.5)
    c[:k] *= 10.0 ** rng.uniform(-1.5, 0.5)
    v = rng.normal(size=lam.size) * lam ** rng.uniform(-0.5, 1.0) * 10.0 ** rng.uniform(-1.0, 0.5)
    v = v * np.sqrt(np.mean((lam * c) ** 2)) + 2.0 * rng.normal() * lam * c
    eta = 10.0 ** rng.uniform(-2.0, -0.5) / 3.0
    problem = Quadratic(Spectrum(lam, k), DataNoise(batch, rng.choice([0.0, 0.5])), c)
    return problem, v, eta


def near_critical(problem, velocity, eta, optimizer, rng):
    """A step size around the critical one of a state; eta where there is none to speak of."""
    critical = row_with(problem, eta, velocity, optimizer).critical_step_size[0]
    return critical * rng.uniform(0.3, 1.5) if 0.0 < critical < 0.3 else eta


def row_with(problem, eta, velocity, optimizer):
    """Trace of one row: the initial state of a problem, with a velocity."""
    run = Run(problem, eta, 0, engine="reference", optimizer=optimizer)
    simulator = make_engine(run)
    simulator.planes[VELOCITY][:] = velocity
    rows = simulator.initial_row()
    columns = {field.name: getattr(rows, field.name) for field in fields(rows)}
    return Trace.from_columns(run, "complete", columns)


def formula(problem, eta, steps, count, rng, update=(1.0, 1.0), rho_factor=1.0, kd_factor=1.0):
    """States after steps by d normals and a chi-square each, shape (count, d)."""
    lam, etas, batch, std = parameters(problem, eta, update)
    c = np.tile(problem.initial, (count, 1))
    for _ in range(steps):
        u, zeta = rng.chisquare(batch, count), rng.standard_normal(c.shape)
        p = (lam * c**2).sum(1) + std**2
        w = (np.sqrt(lam) * c * zeta).sum(1)
        rho = np.sqrt(u * p) / batch
        kd = kd_factor * (u / batch - rho * w / (np.sqrt(p) * (np.sqrt(p) + std)))
        rho *= rho_factor
        c = c - etas * (lam * c * kd[:, None] + rho[:, None] * np.sqrt(lam) * zeta)
    return c


def engine(
    problem, eta, steps, count, name="step", update=(1.0, 1.0), first_seed=0, optimizer=PLAIN
):  # fmt: skip
    """States of an engine after steps, one seed a sample: coefficients, or squares of levels."""
    run = Run(problem, eta, steps, engine=name, update=update, optimizer=optimizer)
    simulator = make_engine(run, serial=True)
    start = {plane: values.copy() for plane, values in simulator.planes.items()}
    out = np.empty((count, simulator.state.size))
    for sample in range(count):
        simulator.key = seed_key(first_seed + sample)
        simulator.step = 0
        for plane, values in start.items():
            simulator.planes[plane][:] = values
        simulator.initial_row()
        simulator.advance(steps)
        out[sample] = simulator.state
    return out


def parameters(problem, eta, update):
    """Eigenvalues and step sizes of all directions, batch size and label noise."""
    spectrum, noise = problem.spectrum, problem.noise
    etas = np.repeat(eta * spectrum.per_level(update), spectrum.multiplicities)
    lam = np.repeat(spectrum.eigenvalues, spectrum.multiplicities)
    return lam, etas, noise.batch_size, noise.label_std


def level_squares(problem, states):
    """Squared norms of levels, of states with all directions."""
    ends = np.cumsum(problem.spectrum.multiplicities)[:-1]
    return np.stack([(part**2).sum(1) for part in np.split(states, ends, axis=1)], axis=1)


def band_sums(problem, squares):
    """S_1 and S_2 of both bands, of squared norms of levels, shape (count, 4)."""
    lam, k = problem.spectrum.eigenvalues, problem.spectrum.num_dominant_levels
    return np.stack(
        [
            (lam[b] ** p * squares[:, b]).sum(1)
            for b in (slice(0, k), slice(k, None))
            for p in (1, 2)
        ],
        axis=1,
    )


def z_scores(first, second):
    """Scores of the difference of moments 1 to 4 of two samples, column by column."""
    scores = []
    center, scale = np.mean(second, 0), np.std(second, 0)
    a, b = ((x - center) / scale for x in (first, second))
    # Powers of the logarithm where a column is positive and heavy-tailed would miss the tail;
    # clipping both alike keeps the variance of fourth powers finite and compares the same thing.
    a, b = (np.clip(x, -8.0, 8.0) for x in (a, b))
    for power in range(1, 5):
        x, y = a**power, b**power
        error = np.sqrt(x.var(0) / len(x) + y.var(0) / len(y))
        scores.append((x.mean(0) - y.mean(0)) / error)
    return np.concatenate(scores)


def failures(first, second, start=None):
    """Checks that two samples fail: KS and moments of every column, squares and shifts of all.

    `start` is the state before, of which samples are a step away.
    """
    p_values = np.array(
        [stats.ks_2samp(a, b).pvalue for a, b in zip(first.T, second.T, strict=True)]
    )
    scores = z_scores(first, second)
    checks = p_values.size + scores.size + 2
    failed = [
        f"KS of column {i}: p = {p:.2g}" for i, p in enumerate(p_values) if p < LEVEL / checks
    ]
    limit = stats.norm.isf(LEVEL / (2 * checks))
    failed += [f"moment {i}: {z:.1f}" for i, z in enumerate(scores) if abs(z) > limit]
    spread = second.var(0)
    x, y = (((s - second.mean(0)) ** 2 / spread).mean(1) for s in (first, second))
    pairs = {"all variances": (x, y)}
    if start is not None:
        along = (second.mean(0) - start) / spread
        pairs["shift along the step"] = (first @ along, second @ along)
    for name, (x, y) in pairs.items():
        z = (x.mean() - y.mean()) / np.sqrt(x.var() / len(x) + y.var() / len(y))
        failed += [f"{name}: {z:.1f}"] if abs(z) > limit else []
    return failed


def blocks_of(dim, num_dominant, block):
    """Pairs of first and last coordinate of the blocks of a state."""
    return pairwise(np.unique([*range(0, dim, block), num_dominant, dim]).tolist())
