"""The sample path has the law of docs/model.md, section 3."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run

COPIES = 40_000


@pytest.mark.parametrize("eta_lam", [0.0, 0.003, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("initial", [0.0, 3.0, "given"])
def test_mean_and_variance_of_coefficients(eta_lam, initial):
    eta, std, steps = 0.1, 0.7, 40
    lam = eta_lam / eta
    spectrum = sa.Spectrum([lam + 1.0, lam], 1, [1, COPIES])
    start = [0.0, 2.0] if initial == "given" else initial
    problem = sa.Quadratic(spectrum, sa.IsotropicNoise(std), initial=start)
    engine = make_engine(Run(problem, eta, steps, seed=17))
    engine.advance(steps)
    c = engine.state[1:]

    a = 1.0 - eta_lam
    mean = a**steps * (2.0 if initial == "given" else 0.0)
    growth = steps if a * a == 1.0 else (1.0 - a ** (2 * steps)) / (1.0 - a * a)
    variance = eta**2 * std**2 * growth
    if initial != "given":
        variance += a ** (2 * steps) * initial**2
    assert abs(c.mean() - mean) < 5 * np.sqrt(variance / COPIES)
    assert abs(c.var() / variance - 1) < 5 * np.sqrt(2 / COPIES)


def test_hessian_and_diagonal_noise_have_their_variances():
    eta, steps, lam = 0.05, 30, 4.0
    spectrum = sa.Spectrum([lam + 1.0, lam], 1, [1, COPIES])
    for noise, std in ((sa.HessianNoise(0.3), 0.6), (sa.DiagonalNoise([0.1, 1.9]), 1.9)):
        engine = make_engine(Run(sa.Quadratic(spectrum, noise, initial=0.0), eta, steps, seed=3))
        engine.advance(steps)
        a = 1 - eta * lam
        variance = eta**2 * std**2 * (1 - a ** (2 * steps)) / (1 - a * a)
        assert abs(engine.state[1:].var() / variance - 1) < 5 * np.sqrt(2 / COPIES)
