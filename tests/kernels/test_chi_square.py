"""Normals and chi-squares of levels: their law, and that lanes, steps and shortcuts are one."""

import numba
import numpy as np
import pytest
from scipy import stats

from suspalign_fast.kernels import chi_square, domains
from suspalign_fast.kernels import chi_square as kernels
from suspalign_fast.kernels.chi_square import LANES
from suspalign_fast.kernels.levels import draw_levels, make_levels
from suspalign_fast.kernels.normals import seed_key

KEY = seed_key(1)


def levels_of(freedom, num_dominant=0):
    freedom = np.asarray(freedom, float)
    ones = np.ones(freedom.size)
    return make_levels(ones, ones, freedom, np.ones((7, freedom.size)), num_dominant)


def drawn(levels, step):
    xi, chi = np.empty((2, levels.lane.size))
    draw_levels(levels, step, *KEY, xi, chi)
    return xi, chi


@pytest.mark.parametrize("freedom", [0.03, 0.1, 0.7, 1.0, 1.3, 1.99, 2.0, 2.5, 17.3, 1e6 + 0.5])
def test_chi_squares_of_real_degrees_of_freedom(freedom):
    count = 20_000
    xi, chi = drawn(levels_of(np.full(count, freedom)), 3)
    assert stats.kstest(chi, stats.chi2(freedom).cdf).pvalue > 1e-4
    assert stats.kstest(xi, stats.norm.cdf).pvalue > 1e-4
    for power in (1, 2):
        assert abs(np.corrcoef(xi**power, chi)[0, 1]) < 4.5 / np.sqrt(count)
    if freedom > 0.5:
        z = (chi.mean() - freedom) / np.sqrt(2.0 * freedom / count)
        assert abs(z) < 4.5


def test_no_degrees_are_nothing():
    assert (drawn(levels_of(np.zeros(100)), 5)[1] == 0.0).all()


FREEDOM = np.r_[0.0, 1.0, 0.5, 1.7, np.geomspace(2.0, 1e12, 60), np.full(400, 2.0)]


@pytest.mark.mostly_long
@pytest.mark.parametrize("step", [1, 7, 2**32 - 1, 2**32, 2**40 + 3])
def test_every_candidate_would_pass_the_exact_test(step):
    """What the squeeze takes at once is what the exact test, one lane after the other, takes."""

    @numba.njit
    def one_by_one(lane, step, key_0, key_1, twice_d, slope):
        return kernels.chi_square(lane, domains.LEVEL_STEP, step, key_0, key_1, twice_d, slope)

    @numba.njit
    def boosted(lane, step, key_0, key_1, freedom):
        return kernels.boost(lane, step, key_0, key_1, freedom)

    levels = levels_of(FREEDOM, num_dominant=70)
    proposals = kernels.proposals_for(levels.freedom)
    _, chi = drawn(levels, step)
    for lane, freedom, value in zip(levels.lane.tolist(), FREEDOM, chi, strict=True):
        if freedom in (0.0, 1.0):
            continue
        exact = one_by_one(lane, step, *KEY, proposals.twice_d[lane], proposals.slope[lane])
        if freedom < 2.0:
            exact *= boosted(lane, step, *KEY, freedom)
        assert value == exact


@pytest.mark.long
@pytest.mark.parametrize("first", [1, 2**32 - 5])
def test_steps_in_lanes_are_the_numbers_of_levels_in_lanes(first):
    @numba.njit
    def many_steps(levels, steps, key_0, key_1, xi, chi):
        draws = chi_square.make_draws(levels.lam.size, LANES, key_0, key_1)
        draws.ahead[:] = steps
        chi_square.draw_steps(levels, draws, key_0, key_1)
        xi[:], chi[:] = draws.xi, draws.chi

    levels = levels_of([0.0, 1.0, 0.3, 2.0, 2.1, 50.0], num_dominant=2)
    steps = np.arange(first, first + LANES).astype(np.uint64)
    xi, chi = np.zeros((2, LANES, levels.lam.size))
    many_steps(levels, steps, *KEY, xi.ravel(), chi.ravel())
    for t, step in enumerate(steps.tolist()):
        wide_xi, wide_chi = drawn(levels, step)
        assert (xi[t, levels.lane] == wide_xi).all()
        assert (chi[t, levels.lane] == wide_chi).all()


def test_the_squeeze_is_below_the_chance_of_acceptance_and_close():
    freedom = np.geomspace(2.0, 1e15, 200)
    proposals = kernels.proposals_for(freedom)
    x = np.linspace(-6.8, 6.8, 4001)
    for twice_d, slope, squeeze in zip(
        proposals.twice_d, proposals.slope, proposals.squeeze, strict=True
    ):
        y = slope * x
        with np.errstate(invalid="ignore", divide="ignore"):
            terms = [3.0 / n * (-y) ** n for n in range(4, 40)]
            exact = 1.0 - (1.0 + y) ** 3 + 3.0 * np.log1p(y) + 4.5 * y * y
        log_chance = twice_d / 2.0 * np.where(np.abs(y) < 0.1, -np.sum(terms, axis=0), exact)
        missed = np.where(y > -1.0, -np.expm1(log_chance), 1.0)
        assert (squeeze * x**4 >= missed * (1.0 - 1e-9)).all()
        tightest = (missed[x != 0.0] / x[x != 0.0] ** 4).max()
        assert squeeze < 1.5 * max(tightest, 0.75 / (81.0 * twice_d / 2.0))


def test_few_go_through_the_exact_test():
    count, freedom = 4000, 100.0
    proposals = kernels.proposals_for(np.array([freedom]))
    x = stats.norm.ppf((np.arange(count) + 0.5) / count)
    assert (proposals.squeeze[0] * x**4).mean() < 2e-3


@pytest.mark.parametrize("seed", range(3))
def test_lanes_and_steps_share_no_number(seed):
    levels = levels_of(np.full(500, 30.0), num_dominant=100)
    values = []
    for step in (0, 1, 2**32):
        xi, chi = np.empty((2, 500))
        draw_levels(levels, step, *seed_key(seed), xi, chi)
        values += [xi, chi]
    assert np.unique(np.concatenate(values)).size == 3000
