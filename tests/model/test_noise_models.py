"""Noise models of a user's own: the right numbers in every engine, or an error before a file."""

import json

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.engines import make_engine
from suspalign_fast.model.run import Run

LAM = np.r_[np.linspace(9.0, 8.0, 40), np.linspace(2.0, 0.5, 1_200)]


class Falling(sa.Noise):
    """Stronger where the curvature is weaker."""

    def stds(self, spectrum):
        return 0.3 + 0.2 / (1.0 + spectrum.eigenvalues)


class TwiceIsotropic(sa.IsotropicNoise):
    """A built-in model, changed."""

    def stds(self, spectrum):
        return 2.0 * super().stds(spectrum)


class BulkOnly(sa.HessianNoise):
    def stds(self, spectrum):
        return np.where(spectrum.eigenvalues < 5.0, super().stds(spectrum), 0.0)


class Reversed(sa.DiagonalNoise):
    def stds(self, spectrum):
        return super().stds(spectrum)[::-1]


MODELS = {
    "own": Falling,
    "of isotropic": lambda: TwiceIsotropic(0.4),
    "of Hessian": lambda: BulkOnly(0.3),
    "of diagonal": lambda: Reversed(np.linspace(0.1, 1.0, LAM.size)),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


def as_diagonal(model, spectrum):
    return sa.DiagonalNoise(model.stds(spectrum))


@pytest.mark.parametrize("engine", ["step", "jump", "levels", "reference"])
def test_a_model_has_the_bits_of_its_standard_deviations(model, engine):
    spectrum = sa.Spectrum(LAM, 40)
    own = sa.Quadratic(spectrum, model, initial=2.0)
    plain = sa.Quadratic(spectrum, as_diagonal(model, spectrum), initial=2.0)
    np.testing.assert_array_equal(own.stds, plain.stds)
    np.testing.assert_array_equal(own.noise_constants, plain.noise_constants)
    actual, expected = (sa.simulate(p, 0.02, 60, engine=engine, seed=3) for p in (own, plain))
    for name, values in expected.columns().items():
        np.testing.assert_array_equal(actual[name], values, err_msg=name)
    np.testing.assert_array_equal(actual.predicted.probability, expected.predicted.probability)


def test_narrow_blocks_of_a_model_agree_with_the_reference(model):
    """Blocks of nearly equal eigenvalues, whose sums the built-in laws take from moments."""
    lam = np.r_[np.full(1_500, 3.0), np.linspace(1.0, 0.9999, 1_240)]
    spectrum = sa.Spectrum(lam, 1_500)
    if isinstance(model, sa.DiagonalNoise):
        model = Reversed(np.linspace(0.1, 1.0, spectrum.num_levels))
    problem = sa.Quadratic(spectrum, model, initial=2.0)
    actual = sa.simulate(problem, 0.02, 20, seed=1)
    expected = sa.simulate(problem, 0.02, 20, seed=1, engine="reference")
    for name in ("power_sums", "noise_sums"):
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-9)


def test_rules_that_observe_see_the_model_s_noise(model):
    problem = sa.Quadratic(sa.Spectrum(LAM, 40), model, initial=2.0)
    rule = sa.OnlineCriticalStep(0.8)
    actual = sa.simulate(problem, rule, 40, seed=5)
    expected = sa.simulate(problem, rule, 40, seed=5, engine="reference")
    np.testing.assert_allclose(actual.step_size, expected.step_size, rtol=1e-9)


def test_levels_and_theory_take_the_model_s_values():
    spectrum = sa.Spectrum([4.0, 1.0, 0.25], 10, [10, 200, 3_000])
    own = sa.Quadratic(spectrum, Falling(), initial=0.0)
    final = sa.theory.stationary(own, 0.1)
    trace = sa.simulate(own, 0.1, 200_000, record_every=100, engine="levels")
    assert trace.loss[1_000:].mean() == pytest.approx(final.loss_mean, rel=0.01)


def test_a_model_s_values_follow_an_unsorted_spectrum():
    problem = sa.Quadratic(sa.Spectrum([1.0, 5.0, 3.0], 1), Falling())
    np.testing.assert_array_equal(problem.stds, Falling().stds(sa.Spectrum([5.0, 3.0, 1.0], 1)))


def test_a_model_is_asked_once():
    class Fickle(sa.Noise):
        calls = 0

        def stds(self, spectrum):
            self.calls += 1
            return np.full(spectrum.num_levels, float(self.calls))

    problem = sa.Quadratic(sa.Spectrum([2.0, 1.0], 1), Fickle())
    assert problem.stds.tolist() == problem.stds.tolist() == [1.0, 1.0]
    assert not problem.stds.flags.writeable


def test_a_stored_run_of_a_model_goes_on_with_its_numbers(model, tmp_path):
    path = tmp_path / "trace.h5"
    problem = sa.Quadratic(sa.Spectrum(LAM, 40), model, initial=2.0)
    sa.simulate(problem, 0.02, 20, seed=3, path=path)
    spec = json.loads(Run(problem, 0.02, 20).to_json()[0])["noise"]
    assert spec["model"] == "diagonal"
    assert spec["class"] == type(model).__qualname__
    loaded = sa.load_trace(path)
    np.testing.assert_array_equal(loaded.run.problem.stds, problem.stds)
    longer = sa.resume(path, num_steps=40)
    np.testing.assert_array_equal(
        longer.power_sums, sa.simulate(problem, 0.02, 40, seed=3).power_sums
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], r"Bad.stds\(spectrum\) must be an array of shape \(2,\), one value a level"),
        ([1.0, -1.0], r"Bad.stds\(spectrum\) must not be negative, got -1.0 at index 1"),
        ([1.0, np.nan], r"Bad.stds\(spectrum\) must be .* got nan at index 1"),
        ([[1.0, 1.0]], r"Bad.stds\(spectrum\) must be a one-dimensional"),
        (0.5, r"Bad.stds\(spectrum\) must be a one-dimensional"),
        (None, r"Bad.stds\(spectrum\) must be a one-dimensional"),
    ],
)
def test_values_that_cannot_be_are_refused(values, message):
    class Bad(sa.Noise):
        def stds(self, spectrum):
            return values

    with pytest.raises(ValueError, match=message):
        sa.Quadratic(sa.Spectrum([2.0, 1.0], 1), Bad())


def test_a_step_size_rule_of_a_derived_class_is_not_stored_as_another():
    class Halved(sa.CriticalStep):
        def memory(self, problem):
            return super().memory(problem) / 2.0

    class Growing(sa.ConstantStep):
        def values(self, start, stop):
            return self.value * np.arange(start + 1.0, stop + 1.0)

    problem = sa.Quadratic(sa.Spectrum([2.0, 1.0], 1))
    for rule in (Halved(0.5), Growing(1e-3)):
        run = Run(problem, rule, 5)
        with pytest.raises(ValueError, match=r"step_size must be .* not of a derived class"):
            run.to_json()
    for engine in ("step", "jump", "levels"):
        sizes = make_engine(Run(problem, Growing(1e-3), 5, engine=engine)).advance(5).step_size
        np.testing.assert_allclose(sizes, 1e-3 * np.arange(2.0, 7.0))
    # The rule's own sizes are the ones that are jumped by.
    quiet = sa.Quadratic(problem.spectrum, sa.IsotropicNoise(0.0), [1.0, 1.0])
    jumped = sa.simulate(quiet, Growing(1e-3), 5, engine="jump", record_every=5)
    stepped = sa.simulate(quiet, Growing(1e-3), 5)
    np.testing.assert_allclose(jumped.loss[-1], stepped.loss[-1], rtol=1e-12)
    exact = sa.theory.expected(quiet, Growing(1e-3), 5)
    np.testing.assert_allclose(exact.loss_mean[0], stepped.loss[-1], rtol=1e-12)
