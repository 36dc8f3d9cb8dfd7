import h5py
import mpmath
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.model.spectrum.bands import power_sum


def test_an_unsorted_spectrum_is_sorted_with_its_multiplicities():
    spectrum = sa.Spectrum([1.0, 5.0, 0.0, 3.0], num_dominant=5, multiplicities=[7, 2, 4, 3])
    assert spectrum.eigenvalues.tolist() == [5.0, 3.0, 1.0, 0.0]
    assert spectrum.multiplicities.tolist() == [2, 3, 7, 4]
    assert spectrum.order.tolist() == [1, 3, 0, 2]
    assert (spectrum.dim, spectrum.num_dominant, spectrum.num_dominant_levels) == (16, 5, 2)
    assert spectrum.gap_ratio == 3.0


def test_expand_gives_one_level_a_direction():
    spectrum = sa.Spectrum([2.0, 1.0], 2, [2, 3])
    assert spectrum.expand().eigenvalues.tolist() == [2.0, 2.0, 1.0, 1.0, 1.0]
    assert spectrum.expand().is_simple
    assert not spectrum.is_simple


def test_arrays_are_read_only():
    spectrum = sa.Spectrum([2.0, 1.0], 1)
    with pytest.raises(ValueError, match="read-only"):
        spectrum.eigenvalues[0] = 3.0


def test_the_given_array_is_copied():
    given = np.array([2.0, 1.0])
    spectrum = sa.Spectrum(given, 1)
    given[0] = 7.0
    assert spectrum.eigenvalues[0] == 2.0


def test_families():
    linear = sa.Spectrum.linear_bands(dim=10, num_dominant=3, dominant=(9.0, 7.0), bulk=(1.0, 0.4))
    np.testing.assert_allclose(linear.eigenvalues[:3], [9, 8, 7])
    np.testing.assert_allclose(linear.eigenvalues[3:], np.linspace(1.0, 0.4, 7))
    two = sa.Spectrum.two_level(10**12, 7, 3.0, 0.5)
    assert (two.dim, two.num_levels, two.gap_ratio) == (10**12, 2, 6.0)
    power = sa.Spectrum.power_law(6, 2, exponent=2.0, largest=4.0)
    np.testing.assert_allclose(power.eigenvalues, 4.0 / np.arange(1, 7) ** 2)
    gapped = sa.Spectrum.power_law(6, 2, exponent=2.0, gap_ratio=50.0)
    assert gapped.gap_ratio == pytest.approx(50.0)
    np.testing.assert_allclose(
        gapped.eigenvalues[3:] / gapped.eigenvalues[2], power.eigenvalues[3:] / power.eigenvalues[2]
    )


def test_a_gap_ratio_scales_the_bulk_of_linear_bands_as_a_whole():
    published = sa.Spectrum.linear_bands(500, 50, (100.0, 80.0), (7.0, 1.0), gap_ratio=10.1)
    bulk = np.linspace(7.0, 1.0, 450) * (80.0 / 10.1) / 7.0
    np.testing.assert_allclose(published.eigenvalues[50:], bulk, rtol=1e-14)
    assert published.gap_ratio == pytest.approx(10.1, rel=1e-15)
    one = sa.Spectrum.linear_bands(10, 1, (9.0, 7.0), (3.0, 0.0), gap_ratio=2.0)
    assert (one.eigenvalues[0], one.eigenvalues[1], one.eigenvalues[-1]) == (9.0, 4.5, 0.0)
    same = sa.Spectrum.linear_bands(500, 50, (100.0, 80.0), (0.8, 0.1), gap_ratio=100.0)
    np.testing.assert_allclose(
        same.eigenvalues, sa.Spectrum.linear_bands(500, 50).eigenvalues, rtol=1e-14
    )
    few = sa.Spectrum.linear_bands(10**9, 10**3, num_levels=20, gap_ratio=3.0)
    assert few.gap_ratio == pytest.approx(3.0)


def test_gap_ratio_is_infinite_above_a_zero_bulk():
    assert sa.Spectrum([1.0, 0.0], 1).gap_ratio == np.inf


def test_bands_of_levels_with_multiplicities():
    spectrum = sa.Spectrum([3.0, 2.0, 1.0], 3, [1, 2, 4])
    assert spectrum.band_sums(spectrum.eigenvalues).tolist() == [7.0, 4.0]
    assert spectrum.per_level((0.5, 2)).tolist() == [0.5, 0.5, 2.0]


def test_save_and_load(tmp_path):
    path = tmp_path / "spectrum.h5"
    spectrum = sa.Spectrum([3.0, 0.1, 0.0], 2, [2, 5, 10**12])
    spectrum.save(path, description="a test", attributes={"source": "nowhere"})
    loaded = sa.Spectrum.load(path)
    np.testing.assert_array_equal(loaded.eigenvalues, spectrum.eigenvalues)
    np.testing.assert_array_equal(loaded.multiplicities, spectrum.multiplicities)
    assert loaded.num_dominant == 2
    with h5py.File(path) as file:
        assert file.attrs["description"] == "a test"
        assert file.attrs["source"] == "nowhere"
    with pytest.raises(FileExistsError, match=r"spectrum\.h5 already exists"):
        spectrum.save(path)
    spectrum.save(path, overwrite=True)


def test_loading_what_is_not_a_spectrum(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        sa.Spectrum.load(tmp_path / "missing.h5")
    text = tmp_path / "text.h5"
    text.write_text("hello")
    with pytest.raises(OSError, match="not a readable HDF5 file"):
        sa.Spectrum.load(text)
    empty = tmp_path / "empty.h5"
    h5py.File(empty, "w").close()
    with pytest.raises(OSError, match="does not hold a suspalign spectrum"):
        sa.Spectrum.load(empty)
    bad = tmp_path / "bad.h5"
    sa.Spectrum([2.0, 1.0], 1).save(bad)
    with h5py.File(bad, "r+") as file:
        file["spectrum/eigenvalues"][:] = [-1.0, -2.0]
    with pytest.raises(OSError, match=r"eigenvalues must not be negative, got -1\.0"):
        sa.Spectrum.load(bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 1), "eigenvalues must be .*non-empty"),
        (([1.0, np.nan], 1), "eigenvalues must be .*finite numbers, got nan at index 1"),
        (([np.inf, 1.0], 1), "got inf at index 0"),
        (([2.0, -1.0], 1), r"eigenvalues must not be negative, got -1\.0 at index 1"),
        (([[2.0, 1.0]], 1), "one-dimensional"),
        ((["a", "b"], 1), "eigenvalues must be"),
        (([2.0 + 1j, 1.0], 1), "eigenvalues must be"),
        (([2.0, [1.0]], 1), "eigenvalues must be"),
        (([2.0, 1.0], 0), "num_dominant must be an integer of at least 1, got 0"),
        (([2.0, 1.0], 2), "num_dominant must be below the dimension 2, got 2"),
        (([2.0, 1.0], 1.0), "num_dominant must be an integer"),
        (([2.0, 1.0], True), "num_dominant must be an integer"),
        (([2.0, 2.0, 1.0], 1), r"num_dominant must leave a gap .*both are 2\.0"),
        (([2.0, 1.0], 1, [2, 3]), "num_dominant must leave a gap"),
        (([2.0, 1.0], 1, [1]), "multiplicities must be an array of 2 positive integers"),
        (([2.0, 1.0], 1, [1, 0]), "multiplicities must be integers .* got 0 at index 1"),
        (([2.0, 1.0], 1, [1, 1.5]), "multiplicities must be integers .* got 1.5 at index 1"),
        (([2.0, 1.0], 1, [1, 2**53 + 2]), "from 1 to 2\\*\\*53"),
        (([2.0, 1.0], 1, [1, np.nan]), "multiplicities must be integers"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sa.Spectrum(*arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sa.Spectrum.linear_bands(1, 1), "dim must be an integer of at least 2"),
        (lambda: sa.Spectrum.linear_bands(10, 10), "num_dominant must be below dim = 10"),
        (lambda: sa.Spectrum.linear_bands(10, 2, dominant=5.0), "dominant must be a pair"),
        (lambda: sa.Spectrum.linear_bands(10, 2, dominant=(1.0, 2.0)), "dominant must be a pair"),
        (
            lambda: sa.Spectrum.linear_bands(10, 2, bulk=(200.0, 100.0)),
            "bulk must be below the dom",
        ),
        (lambda: sa.Spectrum.linear_bands(10, 2, bulk=(90.0, 1.0)), r"ends at 80\.0, got \(90"),
        (lambda: sa.Spectrum.linear_bands(10, 2, bulk=(80.0, 1.0)), "bulk must be below the dom"),
        (lambda: sa.Spectrum.linear_bands(10**9, 2, bulk=(90, 1), num_levels=9), "bulk must be be"),
        (lambda: sa.Spectrum.two_level(10, 2, 1.0, 2.0), "bulk must be below"),
        (lambda: sa.Spectrum.two_level(10, 2, 1.0, 1.0), "must leave a gap"),
        (lambda: sa.Spectrum.power_law(10, 2, -1.0), "exponent must be a finite number above zero"),
        (lambda: sa.Spectrum.power_law(10, 2, 1.0, gap_ratio=1.0), "gap_ratio must be above 1"),
        (lambda: sa.Spectrum.linear_bands(10, 2, gap_ratio=0.5), "gap_ratio must be above 1"),
        (lambda: sa.Spectrum.linear_bands(10, 2, bulk=(0, 0), gap_ratio=5), "bulk must be above z"),
    ],
)
def test_bad_families_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_quantizing_keeps_bands_traces_and_the_stated_error():
    spectrum = sa.Spectrum(
        np.r_[np.linspace(100, 80, 50), np.linspace(2, 0.1, 900), np.zeros(50)], 50
    )
    for quantized in (spectrum.quantize(60), spectrum.quantize(max_relative_error=0.02)):
        assert quantized.dim == 1000
        assert quantized.num_dominant == 50
        assert quantized.eigenvalues[-1] == 0.0
        assert quantized.multiplicities[-1] == 50
        np.testing.assert_allclose(
            quantized.band_sums(quantized.eigenvalues), spectrum.band_sums(spectrum.eigenvalues)
        )
        lam = quantized.expand().eigenvalues[:950]
        error = np.abs(lam / spectrum.eigenvalues[:950] - 1).max()
        assert quantized.quantization_error == pytest.approx(error, rel=1e-9)
    assert spectrum.quantize(60).num_levels <= 60
    assert spectrum.quantize(60).quantization_error < 0.05
    assert spectrum.quantize(max_relative_error=0.02).quantization_error <= 0.02
    assert spectrum.quantization_error == 0.0


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_levels_of_a_power_law_are_means_of_its_stretches(exponent):
    exact = sa.Spectrum.power_law(50_000, 10, exponent, gap_ratio=5.0)
    levels = sa.Spectrum.power_law(50_000, 10, exponent, gap_ratio=5.0, num_levels=60)
    assert levels.dim == exact.dim
    assert levels.gap_ratio == pytest.approx(5.0)
    assert levels.num_levels < 90
    ends = np.cumsum(levels.multiplicities)
    means = np.add.reduceat(exact.eigenvalues, ends - levels.multiplicities) / levels.multiplicities
    np.testing.assert_allclose(levels.eigenvalues, means, rtol=1e-7)
    error = np.abs(levels.expand().eigenvalues / exact.eigenvalues - 1).max()
    assert levels.quantization_error == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("bulk", [(0.8, 0.1), (0.8, 0.0), (0.5, 0.5)])
def test_levels_of_linear_bands_are_means_of_their_stretches(bulk):
    exact = sa.Spectrum.linear_bands(20_000, 300, bulk=bulk)
    levels = sa.Spectrum.linear_bands(20_000, 300, bulk=bulk, num_levels=50)
    assert levels.dim == exact.dim
    assert levels.gap_ratio == pytest.approx(exact.gap_ratio)
    ends = np.cumsum(levels.multiplicities)
    means = np.add.reduceat(exact.eigenvalues, ends - levels.multiplicities) / levels.multiplicities
    np.testing.assert_allclose(levels.eigenvalues, means, rtol=1e-9, atol=1e-15)


def test_families_reach_dimensions_beyond_arrays():
    for spectrum in (
        sa.Spectrum.linear_bands(10**12, 10**9, num_levels=100),
        sa.Spectrum.power_law(10**12, 10, 1.2, num_levels=100),
    ):
        assert spectrum.dim == 10**12
        assert spectrum.num_levels < 220
        assert (spectrum.multiplicities > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of num_levels and max_relative_error"),
        ({"num_levels": 3, "max_relative_error": 0.1}, "exactly one"),
        ({"num_levels": 1}, "num_levels must be an integer of at least 2"),
        ({"num_levels": 4}, "num_levels must be below the 4 levels there are"),
        ({"num_levels": 2}, "enough for both bands and the zeros"),
        ({"max_relative_error": 0.0}, "max_relative_error must be a finite number above zero"),
        ({"max_relative_error": 1.0}, "max_relative_error must be below 1"),
    ],
)
def test_bad_quantizations_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sa.Spectrum([4.0, 2.0, 1.0, 0.0], 1).quantize(**arguments)


def test_a_band_of_one_direction_is_its_largest_eigenvalue():
    spectrum = sa.Spectrum.linear_bands(10, 1, bulk=(90.0, 1.0))
    assert spectrum.eigenvalues[:2].tolist() == [100.0, 90.0]


@pytest.mark.parametrize("exponent", [0.01, 0.3, 1.0, 1.2, 2.0, 7.0])
def test_power_sums_keep_their_digits_anywhere(exponent):
    ranges = [(1, 2), (1, 5), (1, 10**6), (3, 10**12), (700, 10**15), (10**6, 10**6 + 2),
              (10**15, 10**15 + 7), (10**16, 4 * 10**18), (2**61, 2**62)]  # fmt: skip
    first, last = np.array(ranges).T
    with mpmath.workdps(50):
        p = mpmath.mpf(exponent)
        for (start, stop), found in zip(ranges, power_sum(exponent, first, last), strict=True):
            if stop - start < 10:
                exact = mpmath.fsum(mpmath.mpf(j) ** -p for j in range(start, stop))
            elif exponent == 1.0:
                exact = mpmath.digamma(stop) - mpmath.digamma(start)
            else:
                exact = mpmath.zeta(p, start) - mpmath.zeta(p, stop)
            assert float(mpmath.mpf(found) / exact - 1) == pytest.approx(0.0, abs=4e-15)


@pytest.mark.parametrize("dim", [10**15, 10**17, 2**62])
@pytest.mark.parametrize("num_dominant", [1, 10, 10**9, 10**14])
@pytest.mark.parametrize("gap_ratio", [None, 1.5])
def test_power_laws_of_huge_dimensions(dim, num_dominant, gap_ratio):
    count = 200 if dim < 2**62 else 700
    make = sa.Spectrum.power_law
    spectrum = make(dim, num_dominant, 1.2, gap_ratio=gap_ratio, num_levels=count)
    k, lam = spectrum.num_dominant_levels, spectrum.eigenvalues
    assert spectrum.num_levels <= count
    assert (spectrum.dim, spectrum.num_dominant) == (dim, num_dominant)
    assert (np.diff(lam) <= 0.0).all()
    assert lam[-1] > 0.0
    ratio = (1.0 + 1.0 / num_dominant) ** 1.2 if gap_ratio is None else gap_ratio
    assert spectrum.gap_ratio == pytest.approx(ratio, rel=1e-14)
    assert 0.0 < spectrum.quantization_error < 0.2
    with mpmath.workdps(50):
        p = mpmath.mpf(1.2)
        head = mpmath.zeta(p, 1) - mpmath.zeta(p, num_dominant + 1)
        tail = mpmath.zeta(p, num_dominant + 1) - mpmath.zeta(p, dim + 1)
        tail *= 1 if gap_ratio is None else (1 + mpmath.mpf(1) / num_dominant) ** p / gap_ratio
        traces = spectrum.band_sums(lam)
        np.testing.assert_allclose(traces, [float(head), float(tail)], rtol=1e-13)
    # Every level is the mean of its stretch and within the error of both its ends.
    ends = np.cumsum(spectrum.multiplicities)
    last, first = ends[:k].astype(float), (ends - spectrum.multiplicities)[:k] + 1.0
    bound = 1.0 + spectrum.quantization_error * (1.0 + 1e-9) + 1e-13
    assert (lam[:k] * last**1.2 <= bound).all()
    assert (lam[:k] * first**1.2 >= 2.0 - bound).all()


@pytest.mark.parametrize("count", [4, 5, 6, 10, 33, 200])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: sa.Spectrum.linear_bands(3_000, 40, num_levels=n),
        lambda n: sa.Spectrum.linear_bands(3_000, 40, bulk=(5.0, 4.9), num_levels=n),
        lambda n: sa.Spectrum.linear_bands(3_000, 2_990, num_levels=n),
        lambda n: sa.Spectrum.power_law(3_000, 40, 0.7, num_levels=n),
        lambda n: sa.Spectrum.power_law(3_000, 2_995, 2.0, gap_ratio=9.0, num_levels=n),
    ],
)
def test_num_levels_is_the_number_of_levels_at_most(make, count):
    levels, exact = make(count), make(10_000)
    assert exact.is_simple
    assert exact.quantization_error == 0.0
    assert levels.num_levels <= count
    assert levels.num_levels > 0.6 * min(count, exact.num_levels) or count > 30
    assert levels.gap_ratio == pytest.approx(exact.gap_ratio, rel=1e-14)
    assert levels.num_dominant == exact.num_dominant
    error = np.abs(levels.expand().eigenvalues / exact.eigenvalues - 1.0).max()
    assert levels.quantization_error == pytest.approx(error, rel=1e-6, abs=1e-12)
    np.testing.assert_allclose(
        levels.band_sums(levels.eigenvalues), exact.band_sums(exact.eigenvalues), rtol=1e-12
    )


@pytest.mark.parametrize("count", [6, 20, 100, 500])
@pytest.mark.parametrize("dim", [3_000, 10**12, 10**17])
def test_a_bulk_that_ends_at_zero_states_its_error(dim, count):
    if dim == 10**17 and count < 20:
        with pytest.raises(ValueError, match=r"num_levels must be at least 16 .* got 6"):
            sa.Spectrum.linear_bands(dim, 40, bulk=(0.8, 0.0), num_levels=count)
        return
    levels = sa.Spectrum.linear_bands(dim, 40, bulk=(0.8, 0.0), num_levels=count)
    assert levels.num_levels <= count
    assert levels.eigenvalues[-1] == 0.0
    assert levels.multiplicities[-1] == 1
    # Eigenvalue j of the bulk, from its end, is j times the spacing.
    spacing = mpmath.mpf(0.8) / (dim - 41)
    ends = np.cumsum(levels.multiplicities[::-1][: -levels.num_dominant_levels])
    worst = 0.0
    for value, first, stop in zip(
        levels.eigenvalues[::-1].tolist(), [0, *ends.tolist()], ends.tolist(), strict=False
    ):
        if first > 0:
            worst = max(worst, float(value / (spacing * first) - 1))
            worst = max(worst, float(1 - value / (spacing * (stop - 1))))
    dominant = 0.2
    assert levels.quantization_error == pytest.approx(worst, rel=1e-9) or worst < dominant
    assert levels.quantization_error >= worst * (1.0 - 1e-9)


@pytest.mark.parametrize(
    ("make", "fewest"),
    [
        (lambda n: sa.Spectrum.linear_bands(100, 10, num_levels=n), 4),
        (lambda n: sa.Spectrum.linear_bands(100, 1, num_levels=n), 3),
        (lambda n: sa.Spectrum.linear_bands(100, 10, (3.0, 3.0), (1.0, 1.0), n), 2),
        (lambda n: sa.Spectrum.linear_bands(100, 10, bulk=(1.0, 0.0), num_levels=n), 5),
        (lambda n: sa.Spectrum.power_law(100, 99, 1.0, num_levels=n), 3),
        (lambda n: sa.Spectrum.power_law(2**62, 10, 1.0, num_levels=n), 515),
    ],
)
def test_too_few_levels_are_refused(make, fewest):
    with pytest.raises(ValueError, match=f"num_levels must be at least {fewest} for these bands"):
        make(fewest - 1)
    assert make(fewest).num_levels == fewest


def test_errors_of_quantizations_are_kept_and_add_up(tmp_path):
    exact = sa.Spectrum.power_law(5_000, 20, 1.0)
    once = exact.quantize(200)
    twice = once.quantize(30)
    error = np.abs(twice.expand().eigenvalues / exact.eigenvalues - 1.0).max()
    assert twice.quantization_error >= error
    assert twice.quantization_error > once.quantization_error > 0.0
    step = np.abs(twice.expand().eigenvalues / once.expand().eigenvalues - 1.0).max()
    both = (1.0 + once.quantization_error) * (1.0 + step) - 1.0
    assert twice.quantization_error == pytest.approx(both)
    assert once.expand().quantization_error == once.quantization_error
    twice.save(tmp_path / "spectrum.h5")
    assert sa.Spectrum.load(tmp_path / "spectrum.h5") == twice
    sa.simulate(sa.Quadratic(twice), 1e-3, 1, path=tmp_path / "trace.h5")
    assert sa.load_trace(tmp_path / "trace.h5").run.problem.spectrum == twice
    assert sa.Quadratic(sa.Spectrum([1.0, 2.0], 1)).spectrum.quantization_error == 0.0


def test_files_without_an_error_load_and_damaged_ones_do_not(tmp_path):
    path = tmp_path / "spectrum.h5"
    spectrum = sa.Spectrum.power_law(5_000, 20, 1.0, num_levels=30)
    spectrum.save(path)
    with h5py.File(path, "r+") as file:
        del file["spectrum"].attrs["quantization_error"]
    assert sa.Spectrum.load(path).quantization_error == 0.0
    for bad in (np.nan, -1.0, np.bytes_(b"much")):
        with h5py.File(path, "r+") as file:
            file["spectrum"].attrs["quantization_error"] = bad
        with pytest.raises(OSError, match="does not hold a suspalign spectrum"):
            sa.Spectrum.load(path)
