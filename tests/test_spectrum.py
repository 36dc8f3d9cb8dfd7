import h5py
import numpy as np
import pytest

import suspalign_fast as sa


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
        (lambda: sa.Spectrum.two_level(10, 2, 1.0, 2.0), "bulk must be below"),
        (lambda: sa.Spectrum.two_level(10, 2, 1.0, 1.0), "must leave a gap"),
        (lambda: sa.Spectrum.power_law(10, 2, -1.0), "exponent must be a finite number above zero"),
        (lambda: sa.Spectrum.power_law(10, 2, 1.0, gap_ratio=1.0), "gap_ratio must be above 1"),
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
