"""As many seeds as it takes: means are those of any runs, and as well known as was asked for."""

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.studies.grid import seed_at
from suspalign_fast.studies.sweep import Until

pytest.importorskip("xarray")


def runs_needed(until, draw, most=10**6):
    """Runs and pilots of a point whose values `draw` makes."""
    values, start = [], 0
    while True:
        count = len(until.pilots(start))
        values += list(draw(count)[:, None])
        start += count
        needed, is_known = until.needed(values, most)
        if is_known or start >= most:
            return needed, start


@pytest.mark.parametrize("kind", ["normal", "exponential", "constant"])
def test_the_mean_is_as_well_known_as_was_asked_for(kind):
    """The runs' error is that of the mean of 1 / count, as pilots know nothing of them."""
    rng = np.random.default_rng(0)
    draw = {
        "normal": lambda n: rng.normal(size=n),
        "exponential": lambda n: rng.exponential(size=n),
        "constant": np.ones,
    }[kind]
    found = np.array([runs_needed(Until(0.1, "loss"), draw) for _ in range(300)])
    counts, pilots = found.T
    if kind == "constant":
        assert set(counts) == set(pilots) == {8}
        return
    true_error = np.sqrt(np.mean(1.0 / counts))
    assert 0.9 < true_error / 0.1 < (1.3 if kind == "normal" else 1.5)
    assert pilots.mean() < counts.mean()


def test_pilots_that_fail_ask_for_all_runs():
    until = Until(0.1, "loss")
    assert until.needed([], 50) == (50, True)
    assert until.needed([np.array([1.0])], 50) == (50, True)
    assert until.needed([np.array([np.nan]), np.array([1.0])], 50) == (50, True)
    assert until.needed([np.array([np.inf]), np.array([1.0])], 50) == (50, True)
    assert Until(0.0, "loss").needed([np.array([2.0]), np.array([1.0])], 50) == (50, True)
    assert len({seed for start in (0, 8, 16) for seed in until.pilots(start)}) == 32


def noisy(_):
    """A loss of two directions and large noise: its tail is long."""
    spectrum = sa.Spectrum([1.0, 0.5], 1)
    return sa.Quadratic(spectrum, sa.IsotropicNoise(1.0), initial=0.0), {
        "step_size": 0.1,
        "engine": "levels",
    }


@pytest.mark.long
def test_means_of_a_sweep_have_no_bias():
    """100 points of one problem, each with a noise of its own, against the exact mean."""
    how = {"record_at": [200], "variables": ["loss"], "independent": True}
    exact = float(sa.theory.expected(noisy(0)[0], 0.1, [200]).loss_mean[0])
    study = sa.sweep(
        noisy, {"_": range(100)}, 200, seeds=range(400), until={"stderr": 0.25 * exact}, **how
    )
    counts = (study.status == "complete").sum("seed").values
    means = study.loss.isel(step=-1).mean("seed").values
    assert 8 <= counts.min() < counts.mean() < 40
    bias = (means.mean() - exact) / (means.std(ddof=1) / np.sqrt(means.size))
    assert abs(bias) < 4.0


def test_points_with_all_their_runs_have_no_pilots(monkeypatch):
    calls = []
    how = {"record_at": [10], "independent": True}

    def case(_):
        calls.append(1)
        return noisy(_)

    sa.sweep(case, {"_": [1]}, 10, seeds=range(5), until={"stderr": 1e-9}, **how)
    assert len(calls) <= 6


# --- noise of every point --------------------------------------------------------------------


def test_points_have_noise_of_their_own_where_that_is_asked_for():
    axes = {"step_size": [1e-3, 1.1e-3], "scale": [1.0, 2.0]}

    def case(scale):
        return sa.Quadratic(sa.Spectrum([1.0, 0.5], 1), sa.IsotropicNoise(1.0), initial=0.0)

    shared, own = (
        sa.sweep(case, axes, 5, seeds=range(40), independent=independent).loss.isel(step=-1)
        for independent in (False, True)
    )
    between = [np.corrcoef(loss.values[0, 0], loss.values[1, 0])[0, 1] for loss in (shared, own)]
    assert between[0] > 0.99
    assert abs(between[1]) < 0.6
    for seed in (0, 7):
        alone = sa.simulate(case(2.0), 1e-3, 5, seed=seed_at(seed, {"scale": 2, "step_size": 1e-3}))
        assert own.values[0, 1, seed] == alone.loss[-1]


def test_shared_and_own_noise_are_not_mixed_in_a_file(tmp_path):
    pytest.importorskip("h5netcdf")
    path, axes = tmp_path / "study.nc", {"_": [1, 2]}
    sa.sweep(noisy, axes, 5, independent=True, path=path).close()
    more = {"_": [2, 1, 3.5]}  # another order and type
    study = sa.sweep(noisy, more, 5, independent=True, path=path)
    expected = sa.sweep(noisy, more, 5, independent=True)
    np.testing.assert_array_equal(study.loss.values, expected.loss.values)
    with pytest.raises(ValueError, match="its problem was another"):
        sa.sweep(noisy, axes, 5, path=path)
