import mpmath
import numba
import numpy as np
import pytest
from scipy import stats

from suspalign_fast.kernels.normals import COUNTERS, GROUP, make_scratch, seed_key, write_normals

from ..helpers import gaussian
from .test_philox import KNOWN, words

# Normals of the published vectors, to the last bit: the noise of a seed is a promise.
KNOWN_NORMALS = [
    ["-0x1.fb76620000000p-1", "-0x1.d96d600000000p-1",
     "-0x1.3c373c0000000p-1", "0x1.eda3620000000p-2"],
    ["0x1.294a4a0000000p-4", "-0x1.a8859e0000000p+0",
     "0x1.b721920000000p-1", "-0x1.b137920000000p-2"],
    ["-0x1.1a5a000000000p-1", "0x1.3fbe3c0000000p-2",
     "0x1.ee51b20000000p-1", "0x1.2e40a20000000p+0"],
]  # fmt: skip
#: One word in so many is scanned.
STRIDE = 2**9


@pytest.fixture(scope="module")
def angles():
    return gaussian.scan_angles(STRIDE // 2)


@pytest.fixture(scope="module")
def radii(angles):
    return gaussian.scan_radii(angles, STRIDE)


@pytest.fixture(scope="module")
def drawn():
    return gaussian.sample(1e8)


@numba.njit
def scratch_of(key_0, key_1):
    return make_scratch(key_0, key_1)


def normals_of(counter, key):
    """The four normals of a Philox counter, by way of the coordinates and the step it serves."""
    index, domain, low, high = words(counter)
    seed_low, seed_high = words(key)
    out = np.empty(2 * GROUP, np.float32)
    scratch = scratch_of(*seed_key(seed_high << 32 | seed_low))
    step = np.uint64(high << 32 | low)
    write_normals(out, 0, index // COUNTERS, 1, np.uint32(domain), step, scratch)
    return out[index % COUNTERS : GROUP : COUNTERS]


def exact_normals(word_0, word_1):
    """Box-Muller in 30 digits, without any rounding of the uniform."""
    with mpmath.workdps(30):
        radius = mpmath.sqrt(-2 * mpmath.log((mpmath.mpf(word_0) + 0.5) / 2**32))
        fraction = mpmath.mpf(np.uint32(2 * word_1 % 2**32).view(np.int32).item()) / 2**32
        sign = -1 if word_1 >> 31 else 1
        return [
            float(sign * radius * mpmath.cospi(fraction)),
            float(radius * mpmath.sinpi(fraction)),
        ]


@pytest.mark.long
@pytest.mark.parametrize(("known", "expected"), list(zip(KNOWN, KNOWN_NORMALS, strict=True)))
def test_normals_of_the_published_vectors(known, expected):
    counter, key, output = known
    normals = normals_of(counter, key)
    w0, w1, w2, w3 = words(output)
    limit = gaussian.LIMITS["normal, u rounded"]
    np.testing.assert_allclose(
        normals, exact_normals(w0, w1) + exact_normals(w2, w3), rtol=0, atol=limit
    )
    assert [float(z).hex() for z in normals] == expected


def within_limits(angles, radii, names):
    found = gaussian.deviations(angles, radii)
    return {n: found[n] for n in names if not found[n] <= gaussian.LIMITS[n]} == {}


@pytest.mark.long
def test_transform_is_as_near_the_exact_one_as_documented(angles, radii):
    assert within_limits(angles, radii, set(gaussian.LIMITS) - {"bias of a moment"})


@pytest.mark.parametrize("start", [0, 2**30 - 2**15, 2**31 - 2**16])
def test_cosine_and_sine_near_their_zeros(start, radii):
    ends = gaussian.scan_angles(shares=[(start, 2**16, 1)])
    assert within_limits(ends, radii, ["cosine", "sine"])
    assert ends.worst["most_negative"] <= 0.0


@pytest.mark.parametrize("start", [0, 2**24 - 2**15, 2**32 - 2**16])
def test_radius_at_the_ends_and_where_words_begin_to_round(start, angles):
    ends = gaussian.scan_radii(angles, shares=[(start, 2**16, 1)])
    assert within_limits(angles, ends, set(gaussian.LIMITS) - {"bias of a moment"})
    if start == 0:
        largest = gaussian.largest_normal(angles, ends)
        assert largest == pytest.approx(gaussian.LIMITS["largest normal"], abs=1e-5)
    assert ends.worst["zeros"] == (128 if start == 2**32 - 2**16 else 0)


def test_moments_implied_by_the_transform(angles, radii):
    # Of one word in 512 the middle one: the missing tail of a coarser u shows at order 8.
    assert np.abs(gaussian.implied_bias(angles, radii)).max() < 5e-6
    assert gaussian.implied_moments(angles, radii)[:, 1] == pytest.approx(1.0, abs=2e-7)


@pytest.mark.parametrize(("level", "tolerance"), [(4.0, 1e-6), (5.0, 1e-5), (6.0, 2e-3)])
def test_tails_implied_by_the_transform(level, tolerance):
    assert gaussian.implied_tail(level) == pytest.approx(stats.norm.sf(level), rel=tolerance)


@pytest.mark.long
def test_a_sample_has_the_moments_tails_and_correlations_of_a_gaussian(drawn):
    assert drawn.counts.sum() == drawn.draws >= 1e8
    assert drawn.counts[-1] == 0
    assert [score for score in gaussian.scores(drawn) if not abs(score.z) < 5.0] == []
