"""Whatever a caller passes, a call returns a well-formed trace or raises ValueError or OSError."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.physics.row import columns

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")


def fuzz(max_examples):
    """Hypothesis settings that try the same examples everywhere."""
    return hypothesis.settings(
        deadline=None,
        max_examples=max_examples,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )


ODD = st.sampled_from(
    [
        None,
        True,
        np.bool_(False),
        "",
        "full",
        b"1",
        1 + 2j,
        float("nan"),
        float("inf"),
        -float("inf"),
        -1,
        -0.5,
        2**63,
        2**64,
        10**400,
        [],
        [[]],
        [[1.0], [2.0, 3.0]],
        {},
        object,
        np.array([]),
        np.array(2.0),
        np.array([["a", "b"]]),
        np.array([None, 1], dtype=object),
        np.array([1, 2], dtype="M8[s]"),
        np.array([1, 2], dtype="m8[s]"),
        np.array([1 + 1j]),
        np.array([(1, 2)], dtype=[("a", "i4"), ("b", "f8")]),
        np.ma.masked_array([1.0, 2.0], mask=[True, False]),
        np.longdouble(1) / 3,
        np.float16(0.5),
        np.datetime64("2020-01-01"),
        slice(3),
        sa.IsotropicNoise(1.0),
    ]
)
EXTREMES = st.sampled_from([0.0, -0.0, 5e-324, 1e-300, 1e-160, 1e-20, 1e20, 1e155, 1e300, 1.7e308])
GOOD = st.floats(1e-3, 10.0)
NUMBERS = st.one_of(GOOD, GOOD, GOOD, EXTREMES)
ANY = st.one_of(NUMBERS, NUMBERS, ODD)
DTYPES = st.sampled_from(["f8", ">f8", "f4", "f2", "i4", "u1", "i8", "g", "O", "U4", "c16", "?"])


@st.composite
def arrays(draw, size=None):
    """A vector of numbers, mostly doubles, at times of another type or memory layout."""
    length = draw(st.integers(1, 12)) if size is None else size
    values = draw(st.lists(NUMBERS, min_size=length, max_size=length))
    if draw(st.integers(0, 3)):
        return np.array(values)
    with np.errstate(all="ignore"):
        array = np.array(values).astype(draw(DTYPES))
    return draw(st.sampled_from([array, array[::-1], list(array), array[:, None]]))


def attempt(call):
    """Return what a call returns, None where it raises a documented error."""
    try:
        return call()
    except (ValueError, OSError):
        return None


def check_spectrum(spectrum):
    lam, counts = spectrum.eigenvalues, spectrum.multiplicities
    assert lam.dtype == np.float64
    assert counts.dtype == np.int64
    assert lam.shape == counts.shape == (spectrum.num_levels,)
    assert np.isfinite(lam).all()
    assert (lam >= 0.0).all()
    assert (np.diff(lam) <= 0.0).all()
    assert (counts >= 1).all()
    assert sum(counts.tolist()) == spectrum.dim
    assert 1 <= spectrum.num_dominant < spectrum.dim
    k = spectrum.num_dominant_levels
    assert counts[:k].sum() == spectrum.num_dominant
    assert lam[k - 1] > lam[k]
    assert spectrum.gap_ratio > 1.0
    assert spectrum.quantization_error >= 0.0
    repr(spectrum)


COUNTS = st.one_of(st.integers(1, 20), st.integers(0, 200), st.integers(-1, 2**70), ODD)


@fuzz(300)
@hypothesis.given(st.data())
def test_spectrum(data):
    lam = data.draw(st.one_of(arrays(), arrays(), ODD))
    size = len(lam) if isinstance(lam, list) else np.size(lam)
    counts = data.draw(
        st.one_of(
            st.none(),
            st.lists(st.integers(1, 9), min_size=size, max_size=size),
            st.lists(COUNTS, max_size=12),
            arrays(),
            ODD,
        )
    )
    k = data.draw(COUNTS)
    spectrum = attempt(lambda: sa.Spectrum(lam, k, counts))
    if spectrum is not None:
        check_spectrum(spectrum)


PAIRS = st.one_of(
    st.tuples(NUMBERS, NUMBERS),
    st.tuples(NUMBERS, NUMBERS).map(lambda pair: tuple(sorted(pair, reverse=True))),
    st.tuples(ANY, ANY),
    ODD,
)
DIMS = st.one_of(st.integers(2, 200), st.integers(2, 200), st.sampled_from([0, 1, -5]), ODD)


@fuzz(300)
@hypothesis.given(st.data())
def test_families_of_spectra(data):
    draw = data.draw
    levels = draw(st.one_of(st.none(), st.integers(0, 30), ODD))
    dim, k = draw(DIMS), draw(COUNTS)
    # Sizes that no memory holds are refused by the machine, not by the package.
    hypothesis.assume(not (isinstance(dim, int) and dim > 200))
    hypothesis.assume(not (isinstance(levels, int) and levels > 200))
    family = draw(st.sampled_from(["linear_bands", "two_level", "power_law"]))
    arguments = {
        "linear_bands": lambda: (draw(PAIRS), draw(PAIRS), levels),
        "two_level": lambda: (draw(ANY), draw(ANY)),
        "power_law": lambda: (draw(ANY), draw(ANY), draw(st.one_of(st.none(), ANY)), levels),
    }[family]()
    spectrum = attempt(lambda: getattr(sa.Spectrum, family)(dim, k, *arguments))
    if spectrum is not None:
        check_spectrum(spectrum)
        assert spectrum.dim == dim


@fuzz(200)
@hypothesis.given(st.data())
def test_quantize(data):
    draw = data.draw
    spectrum = attempt(lambda: sa.Spectrum(draw(arrays()), draw(st.integers(1, 4))))
    levels = draw(st.one_of(st.none(), st.integers(1, 12), ODD))
    error = draw(st.one_of(st.none(), ANY, st.floats(1e-6, 0.9)))
    if spectrum is None:
        return
    fewer = attempt(lambda: spectrum.quantize(levels, max_relative_error=error))
    if fewer is not None:
        check_spectrum(fewer)
        assert fewer.dim == spectrum.dim
        assert fewer.num_dominant == spectrum.num_dominant


# --- runs ----------------------------------------------------------------------------------------


@st.composite
def spectra(draw):
    """A valid spectrum of up to 200 directions, of ordinary or of extreme eigenvalues."""
    size = draw(st.integers(2, 8))
    lam = sorted(draw(st.lists(NUMBERS, min_size=size, max_size=size)), reverse=True)
    top = draw(st.integers(1, size - 1))
    hypothesis.assume(lam[top - 1] > lam[top])
    counts = draw(st.lists(st.integers(1, 25), min_size=size, max_size=size))
    return sa.Spectrum(lam, sum(counts[:top]), counts)


def noises(spectrum):
    sizes = st.sampled_from([spectrum.num_levels, spectrum.dim, 3])
    return st.one_of(
        st.builds(lambda std: lambda: sa.IsotropicNoise(std), ANY),
        st.builds(lambda std: lambda: sa.HessianNoise(std), ANY),
        st.builds(lambda v: lambda: sa.DiagonalNoise(v), sizes.flatmap(arrays)),
        st.builds(lambda v: lambda: v, ODD),
    )


def initials(spectrum):
    sizes = st.sampled_from([spectrum.num_levels, spectrum.dim, 3])
    return st.one_of(NUMBERS, sizes.flatmap(arrays), sizes.flatmap(arrays).map(list), ODD)


def rules(num_steps):
    cap = st.one_of(st.none(), ANY)
    steps = num_steps if isinstance(num_steps, int) and 0 < num_steps < 100 else 3
    return st.one_of(
        st.builds(lambda v: lambda: v, ANY),
        st.builds(lambda v: lambda: v, arrays(steps)),
        st.builds(lambda a, c: lambda: sa.ConstantStep(a), ANY, cap),
        st.builds(lambda a, c: lambda: sa.CriticalStep(a, max_step=c), ANY, cap),
        st.builds(lambda a, c: lambda: sa.LossIntervalStep(a, c), st.floats(0, 1) | ANY, cap),
        st.builds(
            lambda a, b, c: lambda: sa.OnlineCriticalStep(a, b, c), ANY, st.floats(0, 0.99), cap
        ),
    )


def maybe_odd(strategy):
    """Mostly what the strategy draws, at times anything."""
    return st.integers(0, 11).flatmap(lambda i: ODD if i == 0 else strategy)


def runs(num_steps):
    """Keyword arguments of `simulate`."""
    last = num_steps if isinstance(num_steps, int) and 0 <= num_steps < 100 else 10
    record_at = st.one_of(
        st.sets(st.integers(0, last), min_size=1).map(sorted),
        st.lists(st.integers(-1, last + 1), max_size=5),
        st.sets(st.integers(0, min(last, 127)), min_size=1).flatmap(
            lambda s: st.sampled_from(["u1", "u8", ">i4", "f8"]).map(np.array(sorted(s)).astype)
        ),
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "seed": maybe_odd(st.one_of(st.integers(0, 2**64 - 1), st.integers(-1, 2**65))),
            "record_every": maybe_odd(st.one_of(st.integers(1, 45), st.just(2**62))),
            "record_at": maybe_odd(record_at),
            "engine": maybe_odd(st.sampled_from(["step", "jump", "levels", "reference"])),
            "update": maybe_odd(
                st.one_of(st.sampled_from(["full", "dominant", "bulk"]), st.tuples(ANY, ANY))
            ),
        },
    )


def check_trace(trace, num_steps):
    assert trace.status in ("complete", "diverged")
    step, sums = trace.step, trace.power_sums
    assert all(len(values) == len(trace) for values in trace.columns().values())
    assert step.dtype == np.int64
    assert (np.diff(step) > 0).all()
    if trace.status == "complete":
        assert len(trace) == trace.run.num_rows
        assert step[0] == 0
        assert step[-1] <= num_steps
    elif len(trace):
        assert step[0] == 0
    assert sums.shape == (len(trace), 2, 4)
    assert trace.noise_sums.shape == (len(trace), 2, 3)
    for values in (sums, trace.noise_sums):
        assert np.isfinite(values).all()
        assert (values >= 0.0).all()
    zero = (sums[:, :, 1] == 0.0).all(1)
    np.testing.assert_array_equal(np.isnan(trace.alignment), zero)
    assert ((trace.alignment >= 0.0) & (trace.alignment <= 1.0))[~zero].all()
    for name in columns():
        if name not in ("step_size", "alignment", "critical_step_size"):
            assert not np.isnan(trace[name]).any(), name
    repr(trace)
    assert trace.spec["num_steps"] == num_steps
    _ = trace.regime, trace.loss_interval


def simulate(data, path=None):
    """Draw everything that `simulate` takes and call it; return the trace or None."""
    draw = data.draw
    spectrum = draw(spectra())
    noise, initial = draw(noises(spectrum)), draw(initials(spectrum))
    num_steps = draw(maybe_odd(st.integers(0, 40)))
    hypothesis.assume(not (isinstance(num_steps, int) and num_steps > 100))
    rule, arguments = draw(rules(num_steps)), draw(runs(num_steps))
    problem = attempt(lambda: sa.Quadratic(spectrum, noise(), initial))
    if problem is None:
        return None
    rule = attempt(lambda: (rule(),))
    if rule is None:
        return None
    if path is not None:
        arguments["path"] = path
    trace = attempt(lambda: sa.simulate(problem, rule[0], num_steps, **arguments))
    if trace is not None:
        check_trace(trace, num_steps)
    return trace


@pytest.mark.long
@fuzz(400)
@hypothesis.given(st.data())
def test_simulate(data):
    simulate(data)


@pytest.mark.long
@fuzz(80)
@hypothesis.given(st.data())
def test_simulate_to_a_file(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.h5"
        trace = simulate(data, path)
        left = sorted(p.name for p in Path(folder).iterdir())
        if trace is not None:
            assert left == ["trace.h5"]
            check_trace(sa.load_trace(path), trace.run.num_steps)
        elif left:  # a rule failed on the way: the rows before are kept
            assert left == ["trace.h5"]
            assert sa.load_trace(path).status == "failed"
