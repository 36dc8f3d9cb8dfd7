import numba
import numpy as np
import pytest
from scipy import stats

from suspalign_fast.engines import reference
from suspalign_fast.kernels import domains
from suspalign_fast.kernels.normals import (
    BATCH,
    DOMAIN_BITS,
    GROUP,
    box_muller,
    fill_normals,
    only_normals,
    seed_key,
)
from suspalign_fast.kernels.simd import load, store

SEED = 0xFEDCBA9876543210


def compiled_normals(seed, domain, step, count, scale=1.0):
    out = np.empty(count)
    fill_normals(out, scale, domain, step, *seed_key(seed))
    return out


@numba.njit
def transform(word_0, word_1, out_0, out_1):
    for i in range(0, word_0.size, 16):
        z0, z1 = box_muller(load(word_0, i, 16), load(word_1, i, 16))
        store(out_0, i, z0)
        store(out_1, i, z1)


def transformed(word_0, word_1):
    out = np.empty((2, word_0.size), np.float32)
    transform(word_0, word_1, *out)
    return out


def exact(word_0, word_1):
    """Box-Muller in float64 on the same uniforms."""
    u = (word_0.astype(np.float32) + np.float32(0.5)).astype(np.float64) / 2.0**32
    angle = np.pi * (word_1 << np.uint32(1)).view(np.int32) / 2.0**32
    sign = np.where(word_1 >> np.uint32(31), -1.0, 1.0)
    radius = np.sqrt(-2.0 * np.log(u))
    return np.stack([sign * radius * np.cos(angle), radius * np.sin(angle)])


def edge_and_random_words(count):
    rng = np.random.default_rng(1)
    ends = np.array([0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 129, 2**32 - 128, 2**32 - 1])
    powers = np.concatenate([2 ** np.arange(32), 2 ** np.arange(1, 33) - 1])
    words = np.concatenate([ends, powers, rng.integers(0, 2**32, count)])
    return words[: words.size // 16 * 16].astype(np.uint32)


@pytest.mark.parametrize("count", [1, GROUP - 1, GROUP, 10 * GROUP + 7, BATCH * GROUP * 2 + 1])
@pytest.mark.parametrize("step", [0, 1, 2**32 - 1, 2**32, 2**62])
@pytest.mark.parametrize("domain", [domains.INITIAL, domains.STEP])
def test_compiled_normals_equal_the_plain_ones(count, step, domain):
    np.testing.assert_array_equal(
        compiled_normals(SEED, domain, step, count),
        reference.standard_normals(SEED, domain, step, count),
    )


def test_a_normal_does_not_depend_on_how_many_are_drawn():
    long, short = (
        compiled_normals(SEED, domains.STEP, 3, n) for n in (5 * GROUP + 3, 2 * GROUP + 9)
    )
    np.testing.assert_array_equal(long[: short.size], short)


@pytest.mark.parametrize("change", [{"seed": SEED + 1}, {"domain": domains.INITIAL}, {"step": 8},
                                    {"seed": SEED ^ (1 << 63)}, {"step": 7 + 2**32}])  # fmt: skip
def test_seed_domain_and_step_select_other_streams(change):
    point = {"seed": SEED, "domain": domains.STEP, "step": 7, "count": 4096}
    here, there = compiled_normals(**point), compiled_normals(**point | change)
    assert abs(np.corrcoef(here, there)[0, 1]) < 5 / np.sqrt(4096)
    assert (here != there).mean() > 0.99


def test_transform_is_within_float32_rounding_of_the_exact_one():
    words = edge_and_random_words(2**20)
    other = np.roll(words, 12345)
    error = np.abs(transformed(words, other) - exact(words, other))
    assert error.max() < 2e-6
    assert error.mean() < 1e-7


def test_largest_normal_is_finite_and_as_documented():
    words = np.zeros(16, np.uint32)
    angles = np.arange(16, dtype=np.uint32) << np.uint32(28)
    assert np.abs(transformed(words, angles)).max() == pytest.approx(
        np.sqrt(66 * np.log(2)), abs=1e-6
    )


def test_zero_radius_is_zero_and_not_nan():
    assert (
        transformed(np.full(16, 2**32 - 1, np.uint32), edge_and_random_words(0)[:16]) == 0
    ).all()


def test_moments_and_distribution_are_gaussian():
    count = 2**22
    z = compiled_normals(3, domains.STEP, 11, count)
    moments = {1: (0, 1), 2: (1, 2), 3: (0, 15), 4: (3, 96), 6: (15, 10170), 8: (105, 2016000)}
    for power, (mean, variance) in moments.items():
        assert abs((z**power).mean() - mean) < 5 * np.sqrt(variance / count), power
    assert stats.kstest(z[: 2**18], "norm").pvalue > 1e-3
    for level in (3.0, 4.0, 5.0):
        expected = 2 * count * stats.norm.sf(level)
        assert abs((np.abs(z) > level).sum() - expected) < 5 * np.sqrt(expected) + 1


def test_coordinates_and_steps_are_uncorrelated():
    z = np.stack([compiled_normals(5, domains.STEP, t, 64 * 64) for t in range(64)])
    lags = [(0, 1), (0, 16), (0, 32), (0, 48), (0, 64), (1, 0), (1, 1), (2, 0)]
    for dt, di in lags:
        product = z[dt:, di:] * z[: z.shape[0] - dt, : z.shape[1] - di]
        square = (z[dt:, di:] ** 2 - 1) * (z[: z.shape[0] - dt, : z.shape[1] - di] ** 2 - 1)
        assert abs(product.mean()) < 5 / np.sqrt(product.size), (dt, di)
        assert abs(square.mean()) < 5 * 2 / np.sqrt(product.size), (dt, di)


def test_scale_multiplies_every_coordinate():
    n = 3 * GROUP + 5
    np.testing.assert_array_equal(
        compiled_normals(1, domains.INITIAL, 0, n, scale=2.5),
        2.5 * compiled_normals(1, domains.INITIAL, 0, n),
    )


def test_noise_ceiling_kernel_draws_the_normals_of_the_contract():
    expected = compiled_normals(9, domains.STEP, 2, 3 * BATCH * GROUP)[2 * BATCH * GROUP :]
    np.testing.assert_array_equal(only_normals(3, 3, *seed_key(9)), expected)


@pytest.mark.parametrize("first", [2**32, 2**34 - 1024, 2**34, 2**36 + 2048, 2**49 + 7 * 2**33])
def test_coordinates_beyond_a_word_of_counters(first):
    """The second word of a counter takes what its first has no room for."""
    out = np.empty(1024 + 37)
    fill_normals(out, 1.0, domains.STEP, 3, *seed_key(SEED), first // (BATCH * GROUP))
    expected = reference.standard_normals(SEED, domains.STEP, 3, out.size, first // GROUP)
    np.testing.assert_array_equal(out, expected)
    low = reference.standard_normals(SEED, domains.STEP, 3, out.size, first % 2**34 // GROUP)
    assert (out == low).all() == (first < 2**34)


def test_domains_leave_room_for_the_rest_of_a_counter():
    assert domains.FREE < 2**DOMAIN_BITS
