"""What users pass: masks, times and other things that NumPy turns into numbers."""

import datetime
from fractions import Fraction

import numpy as np
import pytest

import suspalign_fast as sa

SPECTRUM = sa.Spectrum([2.0, 1.0], 1)
PROBLEM = sa.Quadratic(SPECTRUM)


def masked(values):
    return np.ma.masked_array(values, mask=[True] + [False] * (len(values) - 1))


TAKES_ARRAYS = {
    "eigenvalues": lambda mask: sa.Spectrum(mask([2.0, 1.0]), 1),
    "multiplicities": lambda mask: sa.Spectrum([2.0, 1.0], 2, mask([2, 3])),
    "stds": lambda mask: sa.DiagonalNoise(mask([2.0, 1.0])),
    "initial": lambda mask: sa.Quadratic(SPECTRUM, initial=mask([2.0, 1.0])),
    "step_size": lambda mask: sa.Schedule(mask([2.0, 1.0])),
    "step_size ": lambda mask: sa.simulate(PROBLEM, mask([2e-3, 1e-3]), 2),
    "record_at": lambda mask: sa.simulate(PROBLEM, 1e-3, 5, record_at=mask([1, 3])),
    "update": lambda mask: sa.simulate(PROBLEM, 1e-3, 5, update=mask([1.0, 1.0])),
    "seed": lambda mask: sa.simulate_ensemble(PROBLEM, 1e-3, 2, seeds=mask([1, 2])),
    "steps": lambda mask: sa.theory.expected(PROBLEM, 1e-3, mask([1, 2])),
    "coefficients": lambda mask: sa.theory.expected_next_alignment(PROBLEM, mask([1.0, 2.0]), 0.1),
    "coefficients ": lambda mask: sa.theory.exact_critical_step_size(PROBLEM, mask([1.0, 2.0])),
    "alignments of trajectory": lambda mask: sa.phases.find(([0, 1], mask([0.5, 0.2]))),
    "steps of trajectory": lambda mask: sa.phases.find((mask([0, 1]), [0.5, 0.2])),
}


@pytest.mark.parametrize("name", TAKES_ARRAYS)
def test_masks_are_never_dropped(name):
    call = TAKES_ARRAYS[name]
    with pytest.raises(ValueError, match=f"{name.strip()}|trajectory"):
        call(masked)
    with pytest.raises(ValueError, match=f"{name.strip()}|trajectory"):
        call(lambda values: list(masked(values)))
    call(lambda values: np.ma.masked_array(values, mask=False))  # which hides nothing
    call(np.array)


TIMES = [
    np.timedelta64(1, "s"),
    np.timedelta64(1, "ns"),
    np.timedelta64(1),
    np.datetime64(1, "s"),
    np.datetime64(1, "ns"),
    np.array(1, "m8[s]"),
    np.array(1, "M8[s]"),
    datetime.timedelta(seconds=1),
    datetime.datetime(2026, 1, 1),
    np.ma.masked,
    np.ma.masked_array(1.0, mask=True),
]
TAKES_NUMBERS = {
    "step_size": lambda value: sa.ConstantStep(value),
    "step_size ": lambda value: sa.simulate(PROBLEM, value, 1),
    "std": lambda value: sa.IsotropicNoise(value),
    "initial": lambda value: sa.Quadratic(SPECTRUM, initial=value),
    "update": lambda value: sa.simulate(PROBLEM, 1e-3, 1, update=(value, 1.0)),
    "exponent": lambda value: sa.Spectrum.power_law(10, 2, value),
    "plateau": lambda value: sa.phases.find(([1], [0.5]), plateau=value),
}
TAKES_INTEGERS = {
    "num_steps": lambda value: sa.simulate(PROBLEM, 1e-3, value),
    "seed": lambda value: sa.simulate(PROBLEM, 1e-3, 1, seed=value),
    "num_dominant": lambda value: sa.Spectrum([2.0, 1.0], value),
}


@pytest.mark.parametrize("value", TIMES, ids=repr)
@pytest.mark.parametrize("name", [*TAKES_NUMBERS, *TAKES_INTEGERS])
def test_times_and_masked_values_are_no_numbers(name, value):
    with pytest.raises(ValueError, match=name.strip()):
        (TAKES_NUMBERS | TAKES_INTEGERS)[name](value)


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.array(1.0), np.array(1), Fraction(1)])
def test_numbers_of_any_kind_are_numbers(value):
    assert sa.IsotropicNoise(value).std == 1.0


@pytest.mark.parametrize("value", [1, np.int8(1), np.uint64(1), np.array(1)])
def test_integers_of_any_kind_are_integers(value):
    assert sa.simulate(PROBLEM, 1e-3, value).run.num_steps == 1
