"""Every argument of every public function under nasty values: it is taken, or named in one line."""

import contextlib
import inspect

import numba
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.base import checks, words


class BadRepr:
    """An object that cannot be printed."""

    def __repr__(self):
        raise RuntimeError("no repr\n\x1b[31m")


class BadNumber(BadRepr):
    """An object that raises whatever is asked of it."""

    def _raise(self, *_, **__):
        raise RuntimeError("no number")

    __float__ = __int__ = __index__ = __array__ = __len__ = __iter__ = __fspath__ = _raise


class Lines:
    """An object whose repr has several lines, one of which commands a terminal."""

    def __repr__(self):
        return "a\nb\x1b[2J\u202e\ud800"


def deep(depth):
    found = []
    for _ in range(depth):
        found = [found]
    return found


NASTY = {
    "unprintable": BadRepr(),
    "raises": BadNumber(),
    "lines": Lines(),
    "true": True,
    "empty": "",
    "escape": "\x1b[31mred\n$x_{$",
    "surrogate": "\ud800",
    "null": "a\0b",
    "bytes": b"1",
    "complex": 1j,
    "nan": float("nan"),
    "infinite": float("inf"),
    "negative": -3,
    "2**64": 2**64,
    "10**400": 10**400,
    "10**5000": 10**5000,
    "list": [],
    "ragged": [[1.0], [2.0, 3.0]],
    "huge in a list": [10**5000, 1],
    "unprintable in a list": [BadRepr()],
    "deep": deep(50),
    "deeper": deep(5_000),
    "table": {"a\x1b": BadRepr()},
    "set": {1, 2},
    "slice": slice(3),
    "type": object,
    "function": lambda: None,
    "square": np.eye(2),
    "texts": np.array(["a\x1b", "b"]),
    "objects": np.array([BadRepr(), None]),
    "dates": np.array([1, 2], dtype="M8[s]"),
    "records": np.array([(1, 2)], dtype=[("a\x1b", "i4"), ("b", "f8")]),
    "masked": np.ma.masked_array([1.0, 2.0], mask=[True, False]),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def spectrum():
    return sa.Spectrum.two_level(20, 2, 2.0, 0.5)


def problem():
    return sa.Quadratic(spectrum(), initial=2.0)


def trace():
    return sa.simulate(problem(), 0.1, 5, engine="reference")


def case(step_size=0.1):
    return problem(), {"engine": "reference", "step_size": step_size}


def study():
    pytest.importorskip("xarray")
    return sa.sweep(case, {"step_size": [0.1, 0.2]}, 3, seeds=range(2))


@numba.njit
def rule(row):
    return 0.1


def features():
    return sa.least_squares.random_features(6, 4, 1.0, 0.3)


def run_file():
    sa.simulate(problem(), 0.1, 5, engine="reference", path="run.h5", overwrite=True)


RUN = {"problem": problem, "step_size": 0.1, "num_steps": 4}
THEORY = {"problem": problem, "step_size": 0.1}
#: Public functions with arguments that they take; functions among these make them.
CALLS = {
    "Spectrum": (lambda: sa.Spectrum, {"eigenvalues": [2.0, 1.0], "num_dominant": 1}),
    "linear_bands": (lambda: sa.Spectrum.linear_bands, {"dim": 20, "num_dominant": 2}),
    "two_level": (
        lambda: sa.Spectrum.two_level,
        {"dim": 20, "num_dominant": 2, "dominant": 2.0, "bulk": 1.0},
    ),
    "power_law": (lambda: sa.Spectrum.power_law, {"dim": 20, "num_dominant": 2, "exponent": 1.0}),
    "quantize": (lambda: sa.Spectrum.power_law(50, 2, 1.0).quantize, {"num_levels": 9}),
    "quantize to": (
        lambda: sa.Spectrum.power_law(50, 2, 1.0).quantize,
        {"max_relative_error": 0.1},
    ),
    "compress": (lambda: sa.Spectrum.power_law(500, 2, 1.0).compress, {}),
    "save": (lambda: spectrum().save, {"path": "s.h5", "overwrite": True}),
    "load": (lambda: sa.Spectrum.load, {"path": "s.h5"}),
    "Quadratic": (lambda: sa.Quadratic, {"spectrum": spectrum}),
    "IsotropicNoise": (lambda: sa.IsotropicNoise, {"std": 1.0}),
    "HessianNoise": (lambda: sa.HessianNoise, {"std": 1.0}),
    "DiagonalNoise": (lambda: sa.DiagonalNoise, {"stds": [1.0, 2.0]}),
    "DataNoise": (lambda: sa.DataNoise, {"batch_size": 2, "label_std": 1.0}),
    "Momentum": (lambda: sa.Momentum, {"beta": 0.5}),
    "ConstantStep": (lambda: sa.ConstantStep, {"value": 0.1}),
    "Schedule": (lambda: sa.Schedule, {"sizes": [0.1, 0.2]}),
    "CriticalStep": (lambda: sa.CriticalStep, {"fraction": 0.5}),
    "LossIntervalStep": (lambda: sa.LossIntervalStep, {"position": 0.5}),
    "OnlineCriticalStep": (lambda: sa.OnlineCriticalStep, {"fraction": 0.5}),
    "RowStep": (lambda: sa.RowStep, {"function": lambda: rule}),
    "simulate": (lambda: sa.simulate, RUN | {"engine": "reference", "checkpoint_every": 60.0}),
    "simulate to a file": (
        lambda: sa.simulate,
        RUN | {"engine": "reference", "path": "t.h5", "overwrite": True},
    ),
    "resume": (lambda: run_file() or sa.resume, {"path": "run.h5"}),
    "load_trace": (lambda: sa.load_trace, {"path": "run.h5"}),
    "simulate_ensemble": (
        lambda: sa.simulate_ensemble,
        {"problems": problem, "step_sizes": 0.1, "num_steps": 4, "engine": "reference"},
    ),
    "estimate": (
        lambda: sa.estimate,
        THEORY | {"steps": [0, 3], "runs": 2, "engine": "reference"},
    ),
    "verify": (lambda: sa.verify, RUN | {"states": 1, "repeats": 1}),
    "sweep": (
        lambda: sa.sweep,
        {"case": lambda: case, "over": {"step_size": [0.1]}, "num_steps": 3},
    ),
    "open_study": (lambda: sa.open_study, {"path": "study.nc"}),
    "plot_trace": (lambda: sa.plot_trace, {"trace": trace}),
    "plot_study": (lambda: sa.plot_study, {"dataset": study}),
    "expected": (lambda: sa.theory.expected, THEORY | {"steps": [0, 3]}),
    "stationary": (lambda: sa.theory.stationary, THEORY),
    "stability": (lambda: sa.theory.stability, THEORY),
    "exact_critical_step_size": (
        lambda: sa.theory.exact_critical_step_size,
        {"problem": problem, "coefficients": np.ones(20)},
    ),
    "expected_next_alignment": (
        lambda: sa.theory.expected_next_alignment,
        THEORY | {"coefficients": np.ones(20)},
    ),
    "phases.find": (lambda: sa.phases.find, {"trajectory": trace}),
    "phases.estimate": (lambda: sa.phases.estimate, THEORY),
    "random_features": (
        lambda: sa.least_squares.random_features,
        {"num_inputs": 6, "num_features": 4, "alpha": 1.0, "beta": 0.3},
    ),
    "of_data": (
        lambda: sa.least_squares.of_data,
        {"inputs": np.diag([4.0, 3.0, 2.0, 1.0]), "labels": np.arange(4.0), "num_dominant": 1},
    ),
    "quadratic": (lambda: features().quadratic, {"batch_size": 2}),
}
#: Arguments that are true or false, of whatever type, and those that other tests have.
SWITCHES = {"overwrite", "progress", "theory", "nesterov", "log_alignment", "is_panel"}
#: Arguments that messages call by the name under which they are given elsewhere.
ALIASES = {
    ("ConstantStep", "value"): "step_size",
    ("Schedule", "sizes"): "step_size",
    ("simulate_ensemble", "problems"): "problem",
    ("simulate_ensemble", "step_sizes"): "step_size",
    ("simulate_ensemble", "seeds"): "seed",
}


def made(arguments):
    return {name: value() if callable(value) else value for name, value in arguments.items()}


def faults(function, arguments, name, called):
    """Yield what is wrong with what a function says of nasty values of one of its arguments.

    It may name another one, which the value does not go with.
    """
    others = [f"{other} must" for other in arguments if other != name]
    for what, value in NASTY.items():
        try:
            with contextlib.suppress(OSError, ImportError, MemoryError):
                function(**arguments | {name: value})
        except (TypeError, ValueError) as error:
            said = str(error)
            if not said.isprintable() or len(said) > 500:
                yield f"{name} = {what}: {said[:600]!r} is no printable line"
            elif called not in said and not said.startswith(tuple(others)):
                yield f"{name} = {what}: {said!r} does not name it"
        except BaseException as error:
            yield f"{name} = {what}: {type(error).__name__}: {str(error)[:200]!r}"


@pytest.mark.mostly_long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("called", CALLS)
def test_every_argument_is_taken_or_named(called):
    make, arguments = CALLS[called]
    function = make()
    arguments = made(arguments)
    with contextlib.suppress(OSError):
        function(**arguments)
    names = [name for name in inspect.signature(function).parameters if name not in SWITCHES]
    found = [
        fault
        for name in names
        for fault in faults(function, arguments, name, ALIASES.get((called, name), name))
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("name", ["scaling", "stds"])
def test_a_noise_whose_law_is_a_text_is_named(name):
    noise = type("Mine", (sa.Noise,), {"scaling": None, "stds": None} | {name: "text"})
    with pytest.raises(ValueError, match=r"^Mine\.(scaling|stds) must be a method, got "):
        sa.Quadratic(spectrum(), noise())


def test_a_noise_whose_law_returns_a_text_is_named():
    returns = {"scaling": lambda self, spectrum: "a\x1b"}
    noise = type("Mine", (sa.IsotropicNoise,), returns)
    with pytest.raises(ValueError, match=r"^Mine\.scaling\(spectrum\) must be a Scaling.*x1b'$"):
        sa.Quadratic(spectrum(), noise(1.0))


@pytest.mark.parametrize("value", ["unprintable", "lines", "10**5000", "deeper", "objects"])
def test_a_description_is_one_short_printable_line(value):
    text = checks.describe(NASTY[value])
    assert text.isprintable()
    assert len(text) <= words.LONGEST
    assert text == words.describe(NASTY[value])
