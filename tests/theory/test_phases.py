import numpy as np
import pytest

import suspalign_fast as sa

TIMES = np.unique(np.geomspace(1, 30_000, 300).astype(int))


@pytest.fixture(scope="module")
def problem():
    spectrum = sa.Spectrum([100.0, 0.8, 0.3], 500, [500, 2000, 2500])
    return sa.Quadratic(spectrum, sa.IsotropicNoise(0.5), initial=10.0)


@pytest.fixture(scope="module")
def exact(problem):
    return sa.theory.expected(problem, 3e-3, TIMES)


def test_phases_of_a_made_up_curve():
    step = np.arange(7)
    found = sa.phases.find((step, [0.9, 0.5, 0.1, 0.2, 0.7, 0.79, 0.8]), fraction=0.9)
    assert (found.start, found.minimum_step, found.minimum) == (0.9, 2.0, 0.1)
    assert (found.plateau, found.plateau_step, found.two_phase) == (0.8, 5.0, True)
    falling = sa.phases.find((step, np.linspace(0.9, 0.1, 7)))
    assert not falling.two_phase
    assert np.isnan(sa.phases.find((step, [0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), plateau=0.9)[3])


def test_a_trace_shows_the_phases_of_the_exact_mean(problem, exact):
    expected = sa.phases.find(exact)
    seen = sa.phases.find(sa.simulate(problem, 3e-3, 30_000))
    assert expected.two_phase
    assert seen.two_phase
    assert seen.minimum == pytest.approx(expected.minimum, rel=0.15)
    assert seen.minimum_step == pytest.approx(expected.minimum_step, rel=0.3)
    assert seen.plateau == pytest.approx(expected.plateau, rel=0.02)
    assert seen.plateau_step == pytest.approx(expected.plateau_step, rel=0.15)


def test_the_estimate_is_where_the_exact_times_are(problem, exact):
    final = sa.theory.stationary(problem, 3e-3).alignment_mean
    found = sa.phases.find(exact, plateau=final)
    guess = sa.phases.estimate(problem, 3e-3)
    assert guess.minimum_step == pytest.approx(found.minimum_step, rel=0.1)
    low, high = guess.plateau_step
    assert high == low + 1.0
    assert high == pytest.approx(found.plateau_step, rel=0.03)  # times are 3 % apart


def test_two_levels_have_a_closed_form():
    problem = sa.Quadratic(sa.Spectrum.two_level(10**6, 10**5, 10.0, 0.1), initial=10.0)
    times = np.unique(np.geomspace(1, 10**5, 2000).astype(int))
    found = sa.phases.find(sa.theory.expected(problem, 0.02, times))
    guess = sa.phases.estimate(problem, 0.02)
    assert guess.plateau_step[1] == guess.plateau_step[0] + 1.0
    assert guess.plateau_step[0] == pytest.approx(found.plateau_step, rel=0.01)
    assert guess.minimum_step == pytest.approx(found.minimum_step, abs=1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: sa.phases.find(3), "trajectory must be a Trace"),
        (lambda p: sa.phases.find(([], [])), "at least one row"),
        (lambda p: sa.phases.find(([1], [0.5]), fraction=1.0), "fraction must be between 0 and 1"),
        (lambda p: sa.phases.estimate(p, 3e-3, fraction=2.0), "fraction must be between 0 and 1"),
        (lambda p: sa.phases.estimate(p, 1.0), "step_size must be below 2 / lambda"),
    ],
)
def test_bad_input_is_named(problem, call, message):
    with pytest.raises(ValueError, match=message):
        call(problem)


@pytest.mark.parametrize(
    ("step", "alignment", "message"),
    [
        ([0, 1, np.nan], [0.1, 0.2, 0.3], "steps of trajectory must be .* got nan at index 2"),
        ([0, 1, 2], [0.1, np.nan, 0.3], "alignments of trajectory must be .* got nan at index 1"),
        ([0, 1, 2], [0.1, np.inf, 0.3], "alignments of trajectory must be .* got inf at index 1"),
        ([0, 2, 1], [0.1, 0.2, 0.3], r"must increase, got 1\.0 after 2\.0 at index 2"),
        ([0, 1, 1], [0.1, 0.2, 0.3], r"must increase, got 1\.0 after 1\.0 at index 2"),
        ([-1, 1, 2], [0.1, 0.2, 0.3], "steps of trajectory must not be negative"),
        ([0, 1, 2], [0.1, 1.2, 0.3], r"at most 1, got 1\.2 at index 1"),
        ([0, 1, 2], [0.1, -0.2, 0.3], "alignments of trajectory must not be negative"),
        ([0, 1, 2], [0.1, 0.2], "got 3 steps and 2 alignments"),
        (["0", "1", "2"], [0.1, 0.2, 0.3], "steps of trajectory must be"),
        ([0, 1, 2], ["0.1", "0.2", "0.3"], "alignments of trajectory must be"),
        ([[0, 1, 2]], [[0.1, 0.2, 0.3]], "steps of trajectory must be a one-dimensional"),
        ([0, 1, 2], np.ma.masked_array([0.1, 0.2, 0.3], [0, 1, 0]), "masked array"),
        (np.array([0, 1], "m8[s]"), [0.1, 0.2], "steps of trajectory must be"),
    ],
)
def test_bad_trajectories_are_named(step, alignment, message):
    with pytest.raises(ValueError, match=message):
        sa.phases.find((step, alignment))


def test_what_is_no_pair_is_refused():
    for what in ("ab", {1: 2, 3: 4}, ([1, 2],), ([1], [0.5], [0.1]), np.zeros((2, 3))):
        with pytest.raises(ValueError, match="trajectory must be a Trace"):
            sa.phases.find(what)
    with pytest.raises(ValueError, match="plateau must be an alignment between 0 and 1"):
        sa.phases.find(([1], [0.5]), plateau=1.5)


def test_an_expected_trajectory_may_be_in_any_order(problem, exact):
    shuffled = np.random.default_rng(0).permutation(np.append(TIMES, TIMES[:3]))
    assert sa.phases.find(sa.theory.expected(problem, 3e-3, shuffled)) == sa.phases.find(exact)
