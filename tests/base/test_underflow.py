"""Everything works alike under a caller's ``np.seterr(all="raise")``: underflow is rounding."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory

from ..helpers.pairs import all_pairs

LAM = np.concatenate([[5.0, 4.0], np.geomspace(1.0, 1e-3, 9), [0.0]])
SPECTRA = {
    "few": lambda: sa.Spectrum(LAM, 2),
    "tiny": lambda: sa.Spectrum([1.0, 1e-160], 1),
    "all tiny": lambda: sa.Spectrum([3e-90, 1e-100], 1),
}
NOISES = {
    "isotropic": sa.IsotropicNoise(0.3),
    "tiny": sa.IsotropicNoise(1e-170),
    "hessian": sa.HessianNoise(0.3),
    "data": sa.DataNoise(4, 0.1),
    "no labels' noise": sa.DataNoise(4, 0.0),
}
OPTIMIZERS = {"sgd": sa.SGD(), "nesterov": sa.Momentum(0.5, nesterov=True)}
TIMES = [0, 1, 7, 1_000, 10**5, 10**9]


@pytest.fixture(autouse=True)
def raising():
    with np.errstate(all="raise"):
        yield


@pytest.mark.mostly_long
@all_pairs(spectrum=SPECTRA, noise=NOISES, optimizer=OPTIMIZERS, initial=[3.0, 1e-200])
def test_exact_theory(spectrum, noise, optimizer, initial):
    problem = sa.Quadratic(SPECTRA[spectrum](), NOISES[noise], initial)
    eta = 0.2 / float(problem.spectrum.eigenvalues[0])
    how = {"optimizer": OPTIMIZERS[optimizer]}
    exact = theory.expected(problem, eta, TIMES, **how)
    schedule = np.concatenate([np.full(50, eta), np.linspace(0.0, eta, 9)])
    theory.expected(problem, schedule, [0, 59], **how)
    assert exact.alignment_of_means.size == len(TIMES)
    if theory.stability(problem, eta, **how).is_stable:
        theory.stationary(problem, eta, **how)
    if np.isfinite(exact.alignment_mean).all():
        sa.phases.find(exact)
    if not problem.noise.depends_on_state:
        sa.phases.estimate(problem, eta)
        state = np.linspace(2.0, -1.0, problem.spectrum.num_levels)
        theory.expected_next_alignment(problem, state, eta)
        theory.exact_critical_step_size(problem, state)


@pytest.mark.parametrize("initial", [3.0, 1e-200])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_runs_and_their_columns(spectrum, noise, initial):
    problem = sa.Quadratic(SPECTRA[spectrum](), NOISES[noise], initial)
    eta = 0.1 / float(problem.spectrum.eigenvalues[0])
    for rule in (eta, sa.CriticalStep(0.9)):
        trace = sa.simulate(problem, rule, 200, record_every=50, engine="levels")
        for name in ("regime", "loss_interval", "predicted", "critical_step_size", "alignment"):
            assert getattr(trace, name) is not None
        trace.table()
    state = sa.simulate(problem, eta, 20, optimizer=sa.Momentum(0.5), engine="levels")
    assert len(state.predicted.mean) == 21


def test_spectra():
    many = sa.Spectrum.power_law(3_000, 5, 2.0)
    many.quantize(50)
    few = many.compress(1e-9)
    assert few.num_levels < 500
    sa.Spectrum.linear_bands(3_000, 50).resolved(0.7, 8)
    problem = sa.Quadratic(many, sa.IsotropicNoise(0.3), 2.0)
    theory.expected(problem, 0.1, TIMES)
    theory.expected(problem, 0.1, TIMES, optimizer=sa.Momentum(0.9))
