"""Things that describe a run compare by value."""

import pickle

import numba
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.model.run import Run

LAM = [3.0, 1.0, 0.5]
MAKERS = {
    "spectrum": lambda: sa.Spectrum(LAM, 1, [1, 2, 3]),
    "unsorted spectrum": lambda: sa.Spectrum(LAM[::-1], 1),
    "levels": lambda: sa.Spectrum.power_law(1_000, 2, 1.0, num_levels=10),
    "diagonal": lambda: sa.DiagonalNoise([1.0, 2.0, 3.0]),
    "isotropic": lambda: sa.IsotropicNoise(0.5),
    "schedule": lambda: sa.Schedule([1e-3, 0.0]),
    "problem": lambda: sa.Quadratic(sa.Spectrum(LAM, 1), sa.DiagonalNoise([1, 2, 3]), [1, 2, 3]),
    "run": lambda: Run(MAKERS["problem"](), sa.Schedule([1e-3, 0.0]), 2, record_at=[0, 2]),
    "expected": lambda: sa.theory.expected(MAKERS["problem"](), 1e-3, [0, 1]),
    "prediction": lambda: sa.simulate(MAKERS["problem"](), np.array([1e-3] * 3), 3).predicted,
    "row": lambda: sa.Row(
        0,
        *(np.arange(1.0, 9.0).reshape(2, 4) for _ in range(4)),
        np.ones(2),
        np.zeros((2, 8)),
        1.0,
        0.0,
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_equal_where_made_alike(name):
    one, other = MAKERS[name](), MAKERS[name]()
    assert one == other
    assert (one != other) is False
    assert one != 1
    assert (one == 1) is False
    assert pickle.loads(pickle.dumps(one)) == one
    others = [make() for key, make in MAKERS.items() if key != name]
    assert all(one != other for other in others)
    assert one in [*others, other]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (sa.Spectrum(LAM, 1), sa.Spectrum(LAM, 2)),
        (sa.Spectrum(LAM, 1), sa.Spectrum([3.0, 1.0, 0.4], 1)),
        (sa.Spectrum(LAM, 1), sa.Spectrum(LAM, 1, [1, 1, 2])),
        (sa.Spectrum(LAM, 1), sa.Spectrum(LAM[::-1], 1)),
        (sa.Spectrum(LAM, 1), sa.Spectrum(LAM[:2], 1)),
        (sa.DiagonalNoise([1.0, 2.0]), sa.DiagonalNoise([1.0, 3.0])),
        (sa.Schedule([1.0, 2.0]), sa.Schedule([1.0])),
        (sa.Quadratic(sa.Spectrum(LAM, 1)), sa.Quadratic(sa.Spectrum(LAM, 1), initial=2.0)),
        (sa.Quadratic(sa.Spectrum(LAM, 1)), sa.Quadratic(sa.Spectrum(LAM, 1), initial=[1, 1, 1])),
    ],
)
def test_different_where_anything_differs(one, other):
    assert one != other


def test_what_holds_arrays_has_no_hash_like_an_array():
    for name in ("spectrum", "diagonal", "schedule", "problem", "run"):
        with pytest.raises(TypeError, match="unhashable"):
            hash(MAKERS[name]())
    assert hash(sa.IsotropicNoise(0.5)) == hash(sa.IsotropicNoise(0.5))


def test_a_loaded_run_is_the_one_that_was_stored(tmp_path):
    problem, path = MAKERS["problem"](), tmp_path / "trace.h5"
    trace = sa.simulate(problem, [1e-3, 2e-3], 2, path=path)
    assert sa.load_trace(path).run == trace.run == Run(problem, sa.Schedule([1e-3, 2e-3]), 2)


def test_rows_still_compile():
    @numba.njit
    def rule(row):
        return row.power_sums[0, 1] * row.weights[0]

    assert rule(MAKERS["row"]()) == 2.0
