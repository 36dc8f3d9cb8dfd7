"""Exact theory takes the cheaper of two ways: closed forms of many steps, or one after another."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast import theory
from suspalign_fast.model.step_size import KnownStepSize
from suspalign_fast.theory import batches, levels, momentum_batches

LAM = np.concatenate([np.linspace(5.0, 4.0, 3), np.geomspace(1.0, 1e-3, 9), [0.0]])
NOISES = {"isotropic": sa.IsotropicNoise(0.3), "data": sa.DataNoise(4, 0.3)}
OPTIMIZERS = {"plain": sa.SGD(), "ball": sa.Momentum(0.8), "nesterov": sa.Momentum(0.5, True)}
SIZES = np.concatenate(
    [
        np.zeros(40),
        np.linspace(0.0, 0.02, 20),
        np.full(300, 0.02),
        [0.01],
        np.full(100, 0.005),
        np.full(5, 1e-3),
    ]
)


class Counted(KnownStepSize):
    """A schedule that counts the steps that are taken one after another."""

    def __init__(self, sizes):
        self.sizes, self.one_by_one = np.asarray(sizes), 0

    def values(self, start, stop):
        """Return the sizes of some steps."""
        self.one_by_one += (stop - start) * (start > 0)
        return self.sizes[start:stop]


@pytest.mark.mostly_long
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("update", ["full", "bulk", (0.5, 1.5)])
def test_pieces_of_one_size_are_what_their_steps_are(noise, optimizer, update, monkeypatch):
    problem = sa.Quadratic(sa.Spectrum(LAM, 3), NOISES[noise], np.linspace(3.0, -2.0, LAM.size))
    times = [0, 465, 30, 59, 60, 61, 200, 200, 360, 361, 400, 461]
    how = {"update": update, "optimizer": OPTIMIZERS[optimizer]}
    monkeypatch.setattr(batches, "by_matrix", lambda *_: True)
    monkeypatch.setattr(momentum_batches, "by_matrices", lambda *_: True)
    rule = Counted(SIZES)
    found = theory.expected(problem, rule, times, **how)
    assert rule.one_by_one < 100
    monkeypatch.setattr(levels, "LONG", 10**9)
    plain = theory.expected(problem, SIZES, times, **how)
    for name in theory.MOMENTS:
        a, b = getattr(found, name), getattr(plain, name)
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-300, err_msg=name)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_schedule_of_one_size_is_that_constant(noise, optimizer):
    problem = sa.Quadratic(sa.Spectrum(LAM, 3), NOISES[noise], 2.0)
    how, times = {"optimizer": OPTIMIZERS[optimizer]}, [0, 7, 900, 5_000]
    constant = theory.expected(problem, 0.03, times, **how)
    schedule = theory.expected(problem, np.full(5_000, 0.03), times, **how)
    for name in theory.MOMENTS:
        a, b = getattr(schedule, name), getattr(constant, name)
        np.testing.assert_allclose(a, b, rtol=1e-10, err_msg=name)


def test_a_long_schedule_of_few_sizes_takes_few_steps(monkeypatch):
    problem = sa.Quadratic(sa.Spectrum(LAM, 3), sa.IsotropicNoise(0.3), 2.0)
    steps = []
    values = sa.Schedule.values
    monkeypatch.setattr(
        sa.Schedule, "values", lambda self, a, b: steps.append((a, b)) or values(self, a, b)
    )
    sizes = np.repeat([0.03, 0.01, 0.003], 10**6)
    found = theory.expected(problem, sizes, [3 * 10**6])
    assert all(a == 0 for a, _ in steps)  # the whole of it, and no part of it step by step
    rest = theory.stationary(problem, 0.003)
    assert found.loss_mean[0] == pytest.approx(rest.loss_mean, rel=1e-2)


def test_mini_batches_of_many_levels_and_few_steps_take_no_matrix(monkeypatch):
    lam = np.concatenate([np.linspace(5.0, 4.0, 9), np.geomspace(1.0, 1e-3, 1_500)])
    problem = sa.Quadratic(sa.Spectrum(lam, 9), sa.DataNoise(64, 0.3), np.ones(lam.size))

    def refused(*_):
        raise AssertionError("a matrix")

    monkeypatch.setattr(np.linalg, "eigh", refused)
    found = theory.expected(problem, 1e-3, [100])
    assert 0.0 < found.loss_mean[0] < problem.initial_squares @ lam / 2.0


def test_the_cheaper_way_is_taken():
    assert not batches.by_matrix(4_000, 1_000)
    assert batches.by_matrix(400, 10**5)
    assert batches.by_matrix(4_000, 10**9)
    assert not batches.by_matrix(4_001, 10**9)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_only_columns_that_are_asked_for_are_computed(noise, optimizer, monkeypatch):
    problem = sa.Quadratic(sa.Spectrum(LAM, 3), NOISES[noise], 2.0)
    how = {"optimizer": OPTIMIZERS[optimizer]}
    every = theory.expected(problem, 0.03, [3, 50], **how)
    monkeypatch.setattr(theory.levels, "ratio_moments", None)
    some = theory.expected(problem, 0.03, [3, 50], columns=("loss", "grad_sq_bulk"), **how)
    for name in theory.MOMENTS:
        found = getattr(some, name)
        if name in ("loss_mean", "loss_std", "grad_sq_bulk_mean"):
            np.testing.assert_array_equal(found, getattr(every, name))
        else:
            assert np.isnan(found).all()
            assert name in some.unknown
    assert set(every.unknown) <= set(some.unknown)


@pytest.mark.parametrize("columns", ["loss", ["speed"], ["loss_mean"], 3, [["loss"]], {"loss"}])
def test_columns_that_are_none_are_named(columns):
    problem = sa.Quadratic(sa.Spectrum(LAM, 3), sa.IsotropicNoise(0.3), 2.0)
    with pytest.raises(ValueError, match="columns must be a sequence of names out of alignment, "):
        theory.expected(problem, 0.03, [3], columns=columns)


def test_a_sweep_takes_no_integrals_that_nobody_asked_for(monkeypatch):
    pytest.importorskip("xarray")

    def case(scale):
        return sa.Quadratic(sa.Spectrum(LAM, 3), sa.IsotropicNoise(scale), 2.0)

    axes, how = {"scale": [0.1, 0.2], "step_size": [0.01]}, {"seeds": (), "theory": True}
    every = sa.sweep(case, axes, 40, **how)
    monkeypatch.setattr(theory.levels, "ratio_moments", None)
    some = sa.sweep(case, axes, 40, variables=["loss"], **how)
    assert set(every) - set(some) == {"exact_alignment_mean", "exact_alignment_std"}
    np.testing.assert_array_equal(some.exact_loss_std, every.exact_loss_std)
