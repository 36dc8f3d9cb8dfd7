"""Random problems and states of every kind, for tests of calibration."""

import numpy as np

import suspalign_fast as sa


def random_problem(rng):
    """Return a problem and a stable step size: few or many directions, any noise or none."""
    k = int(rng.choice([1, 2, 5, 30]))
    rest = int(rng.choice([1, 2, 3, 10, 60, 400]))
    if rng.random() < 0.2:
        spectrum = sa.Spectrum.two_level(10**9, 10**6, 10.0, float(rng.uniform(0.1, 9.0)))
    else:
        width = rng.choice([0.05, 1.0, 3.0])
        dominant = np.sort(10.0 * rng.uniform(0.5, 1.0, k))[::-1]
        bulk = dominant[-1] / rng.choice([1.1, 3.0, 30.0]) * 10.0 ** rng.uniform(-width, 0, rest)
        counts = rng.choice([1, 1, 1, 7, 1000], k + rest)
        spectrum = sa.Spectrum(np.concatenate([dominant, bulk]), int(counts[:k].sum()), counts)
        if spectrum.dim > 3_000:
            spectrum = sa.Spectrum(np.concatenate([dominant, bulk]), k)
    std = 10.0 ** rng.uniform(-3, 1)
    noise = [
        lambda: sa.IsotropicNoise(0.0),
        lambda: sa.IsotropicNoise(std),
        lambda: sa.HessianNoise(std),
        lambda: sa.DiagonalNoise(std * rng.choice([0.0, 1.0, 3.0], spectrum.num_levels)),
    ][rng.integers(4)]()
    initial = 10.0 ** rng.uniform(-2, 2)
    if rng.random() < 0.5:
        initial = initial * rng.normal(size=spectrum.num_levels)
    eta = float(rng.choice([0.1, 0.5, 1.0, 1.5, 1.9])) / float(spectrum.eigenvalues[0])
    return sa.Quadratic(spectrum, noise, initial), eta


def verified(number, make=random_problem):
    """Verify a random problem; return how it was and the report."""
    rng = np.random.default_rng(number)
    problem, eta, *more = make(rng)
    how = {"optimizer": more[0]} if more else {}
    engines = ["levels"] if problem.spectrum.dim > 10_000 else ["levels", "step"]
    steps = int(rng.choice([20, 300, 3000]))
    engine = str(rng.choice(engines))
    how |= {"states": 12, "repeats": 3, "seed": number, "engine": engine}
    report = sa.verify(problem, eta, steps, **how)
    return f"{problem}, step size {eta:.4g}, {steps} steps, {how}", report


def random_momentum(rng):
    """Return a problem, a stable step size and an optimizer with momentum."""
    problem, eta = random_problem(rng)
    beta = float(rng.choice([0.1, 0.5, 0.9, 0.99]))
    optimizer = sa.Momentum(beta, nesterov=bool(rng.random() < 0.5))
    return problem, 0.5 * eta * optimizer.largest, optimizer


def random_batches(rng):
    """Return a problem under mini-batches of data and a stable step size."""
    problem, _ = random_problem(rng)
    batch = int(rng.choice([1, 2, 7, 32, 1000]))
    label = float(rng.choice([0.0, 0.3, 3.0]))
    problem = sa.Quadratic(problem.spectrum, sa.DataNoise(batch, label), problem.initial)
    share = float(rng.choice([0.05, 0.3, 0.7, 0.95]))
    return problem, share * sa.theory.stability(problem, 0.0).largest


def random_batches_momentum(rng):
    """Return a problem under mini-batches of data, a stable step size and a momentum."""
    problem, _ = random_batches(rng)
    beta = float(rng.choice([0.1, 0.5, 0.9, 0.99]))
    optimizer = sa.Momentum(beta, nesterov=bool(rng.random() < 0.5))
    share = float(rng.choice([0.05, 0.3, 0.7, 0.95]))
    return (
        problem,
        share * sa.theory.stability(problem, 0.0, optimizer=optimizer).largest,
        optimizer,
    )


def random_wide(rng, noise=None):
    """Return a problem of bands up to four decades wide, a stable step size, an optimizer.

    Half of the initial states are random, three quarters of the optimizers have momentum.
    """
    k, rest = int(rng.choice([1, 2, 4, 20])), int(rng.choice([2, 4, 10, 60]))
    widths = rng.choice([0.05, 1.0, 3.0, 4.0], 2)
    dominant = 50.0 * 10.0 ** -np.r_[0.0, np.sort(rng.uniform(0.0, widths[0], k - 1))]
    top = dominant[-1] / rng.choice([1.1, 3.0, 30.0])
    lam = np.r_[dominant, top * 10.0 ** -np.r_[0.0, np.sort(rng.uniform(0.0, widths[1], rest - 1))]]
    std = 10.0 ** rng.uniform(-2.0, 1.0)
    stds = [np.exp(rng.normal(size=lam.size)), rng.choice([0.0, 1.0, 3.0], lam.size)]
    models = {
        "isotropic": sa.IsotropicNoise(std),
        "hessian": sa.HessianNoise(std),
        "diagonal": sa.DiagonalNoise(std * stds[rng.integers(2)]),
    }
    initial = 10.0 ** rng.uniform(-2.0, 2.0)
    if rng.random() < 0.5:
        initial = initial * rng.normal(size=lam.size)
    beta, nesterov = float(rng.choice([0.0, 0.5, 0.9, 0.99])), bool(rng.random() < 0.5)
    optimizer = sa.Momentum(beta, nesterov=nesterov) if beta else sa.SGD()
    eta = float(rng.choice([0.02, 0.1, 0.5, 0.9])) * optimizer.largest / lam[0]
    model = models[noise or str(rng.choice(NOISES))]
    return sa.Quadratic(sa.Spectrum(lam, k), model, initial), eta, optimizer


#: Makers of random problems of every kind.
KINDS = {
    "plain": random_problem,
    "momentum": random_momentum,
    "batches": random_batches,
    "batches under momentum": random_batches_momentum,
    "wide": random_wide,
}


NOISES = ("isotropic", "hessian", "diagonal")


def random_state(rng, noise, num_dominant=None):
    """Return a problem whose initial coefficients are a random state of one direction a level.

    States are like random initial ones, like stationary ones, or of low alignment; bands are
    narrow or wide, and noise given per direction varies by a third or by e.
    """
    k = int(rng.choice([1, 2, 20, 200])) if num_dominant is None else num_dominant
    rest = int(rng.choice([2, 3, 10, 18, 100, 400] if k < 20 else [100, 400, 1000]))
    wide = rng.random() < 0.5
    dominant = np.sort(rng.uniform(2.0 if wide else 9.5, 10.0, k))[::-1]
    top = dominant[-1] / rng.choice([1.2, 3.0, 30.0])
    spread = 10.0 ** rng.uniform(-3.0, 0.0, rest) if wide else rng.uniform(0.95, 1.0, rest)
    lam = np.concatenate([dominant, np.sort(top * spread)[::-1]])
    lam[k] = top
    stds = {
        "isotropic": np.ones(lam.size),
        "hessian": np.sqrt(lam),
        "diagonal": np.exp(rng.normal(size=lam.size) * rng.choice([0.3, 1.0])),
    }[noise]
    c = rng.normal(size=lam.size) * 10.0 ** rng.uniform(-0.5, 1.5)
    kind = rng.integers(3)
    if kind == 1:
        c *= stds / np.sqrt(lam) * 10.0 ** rng.uniform(-1.0, 1.0)
    if kind == 2:
        c[:k] *= 10.0 ** rng.uniform(-2.0, 0.0)
    model = {
        "isotropic": sa.IsotropicNoise(1.0),
        "hessian": sa.HessianNoise(1.0),
        "diagonal": sa.DiagonalNoise(stds),
    }[noise]
    return sa.Quadratic(sa.Spectrum(lam, k), model, c), wide
