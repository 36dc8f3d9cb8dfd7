"""A step that `verify` tries changes nothing of the run, whatever the run is made of."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.claims import ENGINES
from suspalign_fast.claims.laws import make_probed
from suspalign_fast.model.run import Run

SPECTRUM = sa.Spectrum([5.0, 4.0, 1.0, 0.2], 5, [2, 3, 20, 9])
#: Enough directions for threads that share a step.
LARGE = sa.Spectrum.linear_bands(30_000, 9_000, (9.0, 3.0), (1.0, 0.1))
NOISES = {
    "isotropic": sa.IsotropicNoise(0.3),
    "hessian": sa.HessianNoise(0.3),
    "diagonal": sa.DiagonalNoise([0.3, 0.0, 0.2, 0.1]),
    "data": sa.DataNoise(8, 0.4),
}
OPTIMIZERS = {
    "plain": sa.SGD(),
    "heavy ball": sa.Momentum(0.9),
    "Nesterov": sa.Momentum(0.9, nesterov=True),
}
SIZE, DONE = 0.02, 7


def probed_run(engine, noise, optimizer, spectrum=SPECTRUM):
    """Return an engine in the middle of a run."""
    problem = sa.Quadratic(spectrum, noise, initial=1.0)
    run = Run(problem, SIZE, 20, seed=3, engine=engine, optimizer=optimizer)
    probed = make_probed(run)
    probed.initial_row()
    probed.advance(DONE)
    return probed


def everything(probed):
    return {name: values.copy() for name, values in probed.snapshot().items()}


def assert_unchanged(probed, before):
    after = probed.snapshot()
    assert after.keys() == before.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_tried_step_changes_nothing_of_the_run(engine, noise, optimizer):
    if engine == "jump" and noise == "data":
        pytest.skip("refused")
    probed = probed_run(engine, NOISES[noise], OPTIMIZERS[optimizer])
    made = probed.scaled(probed.planes, (0.5, 2.0), (-3.0, 1.0))
    made_before = {name: values.copy() for name, values in made.items()}
    before = everything(probed)
    first = probed.sums_after(probed.planes, 2**62, 3.0 * SIZE, (1.0, 1.0))
    for planes, update in ((probed.planes, (1.0, 0.0)), (made, (0.0, 1.0)), (made, (1.0, 1.0))):
        probed.sums_after(planes, 2**62 + 1, SIZE, update)
    again = probed.sums_after(probed.planes, 2**62, 3.0 * SIZE, (1.0, 1.0))
    np.testing.assert_array_equal(again, first)
    assert_unchanged(probed, before)
    for name, values in made_before.items():
        np.testing.assert_array_equal(made[name], values, err_msg=name)
    # The run goes on as if no step had been tried.
    untouched = probed_run(engine, NOISES[noise], OPTIMIZERS[optimizer])
    np.testing.assert_array_equal(probed.advance(5).power_sums, untouched.advance(5).power_sums)


@pytest.mark.long
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("noise", ["isotropic", "data"])
def test_a_step_tried_with_threads_changes_nothing(noise, optimizer):
    probed = probed_run("step", NOISES[noise], OPTIMIZERS[optimizer], LARGE)
    before = everything(probed)
    probed.sums_after(probed.planes, 2**62, SIZE, (1.0, 1.0))
    assert_unchanged(probed, before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("engine", ["step", "levels"])
def test_a_tried_step_is_the_next_step_of_the_run(engine, noise, optimizer):
    """With the noise of that step; so is the step of the oracle, engine "reference"."""
    steps_once = noise == "data" or OPTIMIZERS[optimizer].has_velocity
    if engine == "levels" and not steps_once:
        pytest.skip("its noise has the number of the target, not of the step")
    probed = probed_run(engine, NOISES[noise], OPTIMIZERS[optimizer])
    tried = probed.sums_after(probed.planes, DONE, SIZE, (1.0, 1.0))
    row = probed.advance(1)
    np.testing.assert_allclose(tried[:, :4], row.power_sums[0], rtol=1e-12)
    if engine == "step":
        arguments = {"seed": 3, "engine": "reference", "optimizer": OPTIMIZERS[optimizer]}
        oracle = sa.simulate(probed.run.problem, SIZE, 20, **arguments)
        np.testing.assert_allclose(tried[:, :4], oracle.power_sums[DONE + 1], rtol=1e-9)


@pytest.mark.mostly_long
@pytest.mark.parametrize("engine", ["step", "levels"])
def test_mini_batches_with_momentum_are_verified(engine):
    spectrum = sa.Spectrum.linear_bands(90, 20, (5.0, 4.0), (1.0, 0.2))
    problem, ball = sa.Quadratic(spectrum, sa.DataNoise(8, 0.4)), sa.Momentum(0.9)
    eta = 0.5 * sa.theory.stability(problem, 0.0, optimizer=ball).largest
    report = sa.verify(problem, eta, 500, states=6, optimizer=ball, engine=engine)
    assert not report.failed, str(report)
    assert sum(claim.right for claim in report.claims) > 20
