import numpy as np
import pytest

import suspalign_fast as sa


def test_noise_models_give_standard_deviations_per_level():
    spectrum = sa.Spectrum([4.0, 1.0, 0.0], 2, [2, 3, 4])
    assert sa.IsotropicNoise(0.5).stds(spectrum).tolist() == [0.5] * 3
    assert sa.HessianNoise(0.5).stds(spectrum).tolist() == [1.0, 0.5, 0.0]
    assert sa.DiagonalNoise([3, 2, 1]).stds(spectrum).tolist() == [3.0, 2.0, 1.0]


def test_noise_constants_are_the_sums_of_their_definition(noise):
    lam = np.array([5.0, 4.0, 1.0, 0.5, 0.1])
    problem = sa.Quadratic(sa.Spectrum(lam, 2), noise(5))
    s = problem.stds
    for band, rows in enumerate((slice(0, 2), slice(2, 5))):
        expected = [
            np.sum(lam[rows] * s[rows] ** 2),
            np.sum(lam[rows] ** 2 * s[rows] ** 2),
            np.sum(lam[rows] ** 4 * s[rows] ** 4),
        ]
        np.testing.assert_allclose(problem.noise_constants[band], expected, rtol=1e-14)


def test_arrays_follow_their_eigenvalue_when_the_spectrum_is_sorted():
    spectrum = sa.Spectrum([1.0, 5.0, 3.0], 1)
    problem = sa.Quadratic(spectrum, sa.DiagonalNoise([10.0, 50.0, 30.0]), initial=[-1, -5, -3])
    assert problem.stds.tolist() == [50.0, 30.0, 10.0]
    assert problem.initial.tolist() == [-5.0, -3.0, -1.0]
    assert problem.spectrum.eigenvalues.tolist() == [5.0, 3.0, 1.0]
    rebuilt = sa.Quadratic(problem.spectrum, problem.noise, problem.initial)
    assert rebuilt.stds.tolist() == problem.stds.tolist()


def test_noise_per_direction_splits_levels():
    spectrum = sa.Spectrum([2.0, 1.0], 1, [1, 3])
    problem = sa.Quadratic(spectrum, sa.DiagonalNoise([1.0, 2.0, 3.0, 4.0]), initial=[7.0, 8.0])
    assert problem.spectrum.eigenvalues.tolist() == [2.0, 1.0, 1.0, 1.0]
    assert problem.stds.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert problem.initial.tolist() == [7.0, 8.0, 8.0, 8.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spectrum": [2.0, 1.0]}, "spectrum must be a Spectrum"),
        ({"noise": 0.5}, "noise must be a noise model"),
        ({"noise": sa.DiagonalNoise([1.0])}, r"stds must be an array of shape \(2,\)"),
        ({"initial": -1.0}, "initial must be a finite number of at least zero"),
        ({"initial": np.nan}, "initial must be a finite number"),
        ({"initial": [1.0, 2.0, 3.0]}, r"initial must be an array of shape \(2,\)"),
        ({"initial": [1.0, np.inf]}, "initial must be .* got inf at index 1"),
        ({"initial": [[1.0, 2.0]]}, "initial must be a one-dimensional"),
        ({"initial": "large"}, "initial must be"),
    ],
)
def test_bad_problems_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sa.Quadratic(**{"spectrum": sa.Spectrum([2.0, 1.0], 1)} | arguments)


@pytest.mark.parametrize("model", [sa.IsotropicNoise, sa.HessianNoise])
@pytest.mark.parametrize("std", [-1.0, np.nan, np.inf, "1", None, True])
def test_bad_noise_is_named(model, std):
    with pytest.raises(ValueError, match="std must be a finite number of at least zero"):
        model(std)


def test_bad_diagonal_noise_is_named():
    with pytest.raises(ValueError, match=r"stds must not be negative, got -2\.0 at index 1"):
        sa.DiagonalNoise([1.0, -2.0])
