"""Studies in TOML: the whole file, read and checked before anything runs."""

import functools
import math
import os
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..base import checks, words
from ..base.checks import describe
from ..model import texts
from ..model.problem import Quadratic
from ..model.run import Recording
from ..model.spectrum.named import FAMILIES
from ..model.spectrum.spectrum import Spectrum
from ..model.texts import Part
from .cases import Plan
from .grid import axis_of
from .sweep import sweep

# --- Tables of a TOML file: which keys they may have, and of which type --------------------------


#: Stands for a key that is absent.
MISSING = object()
#: Values of an axis, seeds and rows, at most.
MOST = 10**6


def known(where: str, table: Any, keys: Collection[str]) -> dict[str, Any]:
    """Return a table, checked to be one of known keys.

    Raises ValueError if it is none, or has another key.
    """
    if not isinstance(table, Mapping):
        raise checks.wrong(where, table, "a table")
    for key, value in table.items():
        if key not in keys:
            raise ValueError(
                f"{where} must have no keys but {', '.join(keys)}, got {words.clipped(key)} = "
                f"{checks.describe(value)}"
            )
    return dict(table)


def whole_number(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return an integer from low to high, also one written like ``3e4``."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return checks.integer(name, value, low, high)


def one_or_more_texts(name: str, value: Any) -> tuple[str, ...]:
    """Return one text or a list of them."""
    listed = (value,) if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(part, str) for part in listed):
        raise checks.wrong(name, value, "a text or a list of texts")
    return tuple(listed)


# --- Values of an axis: a list, or a range like ``{from = 1, to = 100, num = 5, scale = "log"}``.


RANGE = ("from", "to", "num", "scale")
SCALES: dict[str, Callable[..., Any]] = {"linear": np.linspace, "log": np.geomspace}
EXPECTED = (
    "a list of numbers or of texts, or a range like {from = 1, to = 100, num = 5, scale = 'log'}"
)


def axis_values(name: str, given: Any, *, whole: bool) -> list[Any]:
    """Return the values that a list or a range stands for.

    Parameters
    ----------
    name : str
        What errors call the axis.
    given : object
        As the file has it.
    whole : bool
        Whether values are integers: those of a range are rounded, each once.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> from suspalign_fast.studies.toml import axis_values
    >>> axis_values("dim", {"from": 10, "to": 1000, "num": 3, "scale": "log"}, whole=True)
    [10, 100, 1000]
    """
    if isinstance(given, dict):
        return _spaced(name, known(name, given, RANGE), whole)
    if not isinstance(given, list):
        raise checks.wrong(name, given, EXPECTED)
    kinds = {_kind(value) for value in given}
    if len(kinds) > 1 or None in kinds:
        raise checks.wrong(name, given, EXPECTED)
    listed = axis_of(name, given)
    return [_whole(value) for value in listed] if whole else listed


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "text"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "number" if is_number and _is_finite(value) else None


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no double holds
        return False


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _spaced(name: str, given: dict[str, Any], whole: bool) -> list[Any]:
    if missing := [key for key in RANGE[:3] if key not in given]:
        raise ValueError(
            f"{name} must have {', '.join(missing)} in its range, got {checks.describe(given)}"
        )
    for key in ("from", "to"):
        if _kind(given[key]) != "number":
            raise checks.wrong(f"{name}.{key}", given[key], "a finite number")
    count = whole_number(f"{name}.num", given["num"], 1, MOST)
    scale = checks.choice(f"{name}.scale", given.get("scale", "linear"), tuple(SCALES))
    if scale == "log" and min(given["from"], given["to"]) <= 0.0:
        ends = [given["from"], given["to"]]
        raise checks.wrong(f"{name} on a logarithmic scale", ends, "between positive ends")
    if count > 1 and given["from"] == given["to"]:
        raise checks.wrong(f"{name}.to", given["to"], "another number than from")
    spaced = SCALES[scale](float(given["from"]), float(given["to"]), count).tolist()
    return list(dict.fromkeys(round(value) for value in spaced)) if whole else spaced


# --- What a study runs at a point of its grid: a problem of a family, and options ----------------


#: Spectra that a worker keeps: points that follow each other often share one.
KEPT_CASES = 4
#: Axes beside the values of the family and the fields of noise and rule.
OF_PROBLEM = ("noise", "initial")
OF_RUN = ("step_size", "engine", "device", "dtype", "update")
OF_OPTIMIZER = ("momentum",)


@dataclass(frozen=True)
class StudyCase:
    """The case of a sweep: named values of a family, a noise model and a rule, and a point's own.

    Attributes
    ----------
    family : str
    values : dict
        Of the family.
    noise, step_size : Part or None
        None where each point says it.
    initial : float
    options : dict
        Of each run.
    momentum : float or None
        None for plain SGD.
    nesterov : bool
    folder : str
        Where relative paths start; says nothing of what is run.
    """

    family: str
    values: dict[str, Any]
    noise: Part | None
    step_size: Part | None
    initial: float
    options: dict[str, Any]
    momentum: float | None = None
    nesterov: bool = False
    folder: str = field(default="", repr=False, compare=False)

    def axes(self) -> tuple[str, ...]:
        """Return what a point may say."""
        parts = (part.fields for part in (self.noise, self.step_size) if part is not None)
        fields = (name for of_part in parts for name in of_part)
        return (*FAMILIES[self.family].parameters, *OF_PROBLEM, *OF_RUN, *OF_OPTIMIZER, *fields)

    def is_whole(self, name: str) -> bool:
        """Whether what a point says under a name is an integer."""
        family = FAMILIES[self.family]
        if name in family.parameters:
            return family.is_whole(name)
        parts = (self.noise, self.step_size)
        return any(part is not None and name in part.fields and part.is_whole(name)
                   for part in parts)  # fmt: skip

    def __call__(self, **point: Any) -> tuple[Quadratic, dict[str, Any]]:
        """Return problem and options of a point."""
        parameters = FAMILIES[self.family].parameters
        values = self.values | {name: v for name, v in point.items() if name in parameters}
        spectrum = _spectrum(self.family, tuple(values.items()), self.folder)
        noise = noise_of("noise", point["noise"]) if "noise" in point else self.noise
        problem = Quadratic(spectrum, _made(noise, point), point.get("initial", self.initial))
        options = self.options | {name: point[name] for name in OF_RUN if name in point}
        if isinstance(options.get("update"), str):
            options["update"] = texts.update("update", options["update"])
        rule = rule_of("step_size", point["step_size"]) if "step_size" in point else self.step_size
        momentum = point.get("momentum", self.momentum)
        optimizer = texts.optimizer("momentum", momentum, nesterov=self.nesterov)
        return problem, options | {"step_size": _made(rule, point), "optimizer": optimizer}


def noise_of(said: str, value: Any) -> Part:
    """Return the noise model of a text or a table."""
    return _part(said, value, "model", texts.noise)


def rule_of(said: str, value: Any) -> Part:
    """Return the step size or rule of a number, a text or a table."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = repr(value)
    return _part(said, value, "rule", texts.rule)


def _part(said: str, value: Any, key: str, of_text: Any) -> Part:
    if isinstance(value, dict) and isinstance(value.get(key), str):
        registry = texts.REGISTRIES[said]
        known = registry.names()
        if value[key] not in registry:
            expected = ", ".join(map(repr, known))
            raise ValueError(f"{said}.{key} must be one of {expected}, got {describe(value[key])}")
        part = Part(said, value[key], {name: v for name, v in value.items() if name != key})
        for name in part.values:
            if name not in part.fields:
                fields = ", ".join((key, *part.fields))
                raise ValueError(f"{said} must have no keys but {fields}, got {describe(name)}")
        return part
    if not isinstance(value, str):
        expected = "a text" if said == "noise" else "a number, a text"
        raise ValueError(
            f"{said} must be {expected} or a table with {key} = NAME, got {describe(value)}"
        )
    made: Part = of_text(said, value)
    return made


def _made(part: Part | None, point: dict[str, Any]) -> Any:
    if part is None:
        return None
    return part.made({name: point[name] for name in part.fields if name in point})


@functools.lru_cache(maxsize=KEPT_CASES)
def _spectrum(family: str, values: tuple[tuple[str, Any], ...], folder: str) -> Spectrum:
    found = dict(values)
    if FAMILIES[family].is_file and "path" in found:
        found["path"] = str(Path(folder, found["path"]))
    return FAMILIES[family].spectrum(found)


#: Ways to say which steps are kept, of which a study has at most one.
ROWS = ("record_every", "record_at", "rows")
OPTIMIZER = (*OF_OPTIMIZER, "nesterov")
KEPT = ("variables", "theory", "until", "independent")
KEYS = ("problem", "over", "num_steps", "seeds", *OF_RUN, *OPTIMIZER, *ROWS, *KEPT)
UNTIL = ("stderr", "variable", "first")


@dataclass(frozen=True)
class Study:
    """A sweep that is ready to run.

    Attributes
    ----------
    case : StudyCase
    over : dict of str to list
    num_steps : int
    how : dict
        Further arguments of `sweep`: seeds, what is kept, until when.
    """

    case: StudyCase
    over: dict[str, list[Any]]
    num_steps: int
    how: dict[str, Any]

    def sweep(self, *, path: str | os.PathLike[str] | None = None, **how: Any) -> Any:
        """Run it; see `suspalign_fast.sweep` for `path`, `executor` and `progress`.

        Returns
        -------
        xarray.Dataset
        """
        if path is not None:
            how["path"] = path
        return sweep(self.case, self.over, self.num_steps, **self.how, **how)


def load(path: str | os.PathLike[str]) -> Study:
    """Read a study from a TOML file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no TOML, or no study: the message names file, key and value, and what was
        expected.

    Examples
    --------
    >>> from pathlib import Path
    >>> from suspalign_fast.studies import toml
    >>> text = '''
    ... num_steps = 100
    ... step_size = "critical:0.9"
    ... record_every = 50
    ... [problem]
    ... family = "two_level"
    ... dim = 1000
    ... num_dominant = 10
    ... bulk = 1.0
    ... [over]
    ... dominant = [10.0, 100.0]
    ... '''
    >>> _ = Path("study.toml").write_text(text)
    >>> dict(toml.load("study.toml").sweep().alignment.sizes)
    {'dominant': 2, 'seed': 1, 'step': 3}
    """
    source = Path(path)
    try:
        content = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{source} does not exist") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not TOML: {error}") from None
    except RecursionError:
        raise ValueError(f"{source} must have fewer tables and lists within one another") from None
    except ValueError as error:  # also of a number with too many digits
        raise ValueError(f"{source} is not TOML: {words.plain(error)}") from None
    except OSError as error:
        raise type(error)(f"{source} cannot be read: {error.strerror}") from None
    try:
        return of_table(content, source.absolute().parent)
    except RecursionError:
        raise ValueError(f"{source} must have fewer tables and lists within one another") from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{source}: {words.plain(error)}") from error


def of_table(content: Mapping[str, Any], folder: str | os.PathLike[str] = "") -> Study:
    """Return the study of a table, in which relative paths start in a folder.

    Raises ValueError as `load`.
    """
    table = known("a study", content, KEYS)
    if "problem" not in table:
        raise ValueError("a study must have a table [problem], got none")
    case = _case(table, str(folder))
    over = _over(case, table.get("over", {}))
    if case.step_size is None and "step_size" not in over:
        raise ValueError("step_size must be a key of the study or of [over], got neither")
    if "num_steps" not in table:
        raise ValueError("num_steps must be a key of the study, got none")
    num_steps = whole_number("num_steps", table["num_steps"], 0)
    how = _seeds(table) | _rows(table, num_steps) | _kept(table)
    study = Study(case, over, num_steps, how)
    _try(study)
    return study


def _case(table: dict[str, Any], folder: str) -> StudyCase:
    problem = table["problem"]
    family = problem.get("family") if isinstance(problem, dict) else problem
    if not isinstance(problem, dict) or not isinstance(family, str) or family not in FAMILIES:
        expected = ", ".join(map(repr, FAMILIES))
        raise ValueError(
            f"[problem] must have family = one of {expected}, got {checks.describe(family)}"
        )
    parameters = FAMILIES[family].parameters
    given = known("[problem]", problem, ("family", "noise", "initial", *parameters))
    values = {
        n: _plain(f"[problem] {n}", v, str in parameters[n])
        for n, v in given.items()
        if n in parameters
    }
    noise, rule = given.get("noise", "isotropic:1"), table.get("step_size", MISSING)
    initial = given.get("initial", 1.0)
    options = {name: table[name] for name in OF_RUN if name in table and name != "step_size"}
    if isinstance(options.get("update"), list):
        options["update"] = tuple(options["update"])
    return StudyCase(
        family,
        values,
        noise_of("noise", noise),
        None if rule is MISSING else rule_of("step_size", rule),
        checks.real("initial", initial),
        options,
        table.get("momentum"),
        checks.truth("nesterov", table.get("nesterov", False)),
        folder,
    )


def _plain(name: str, value: Any, is_text: bool) -> Any:
    """Return a value of a family: a number, a text, or a pair of numbers."""
    if is_text and not isinstance(value, str):
        raise checks.wrong(name, value, "a text")
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(p, bool) or not isinstance(p, int | float | str) for p in parts):
        raise checks.wrong(name, value, "a number, a text or a pair of numbers")
    return tuple(value) if isinstance(value, list) else value


def _over(case: StudyCase, table: Any) -> dict[str, list[Any]]:
    given = known("[over]", table, dict.fromkeys(case.axes()))
    over = {
        name: axis_values(f"[over] {name}", values, whole=case.is_whole(name))
        for name, values in given.items()
    }
    for part, name in ((case.noise, "noise"), (case.step_size, "step_size")):
        if name in over and part is not None and (both := set(part.fields) & set(over)):
            raise ValueError(f"[over] must have either {name} or {sorted(both)[0]}, got both")
    return over


def _seeds(table: dict[str, Any]) -> dict[str, Any]:
    seeds = table.get("seeds", 1)
    if isinstance(seeds, list):
        return {"seeds": tuple(checks.integer("seeds", seed, 0, 2**64 - 1) for seed in seeds)}
    return {"seeds": tuple(range(whole_number("seeds", seeds, 0, MOST)))}


def _rows(table: dict[str, Any], num_steps: int) -> dict[str, Any]:
    given = [key for key in ROWS if key in table]
    if len(given) > 1:
        raise ValueError(f"a study must have one of {', '.join(ROWS)}, got {' and '.join(given)}")
    if "rows" in table:
        rows = whole_number("rows", table["rows"], 2, MOST)
        return {"record_at": texts.logarithmic(rows, num_steps)}
    if "record_at" in table:
        steps = axis_values("record_at", table["record_at"], whole=True)
        return {"record_at": np.array([checks.integer("record_at", s, 0) for s in steps])}
    return {"record_every": whole_number("record_every", table.get("record_every", 1), 1)}


def _kept(table: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "variables" in table:
        found["variables"] = one_or_more_texts("variables", table["variables"])
    if "theory" in table:
        found["theory"] = checks.truth("theory", table["theory"])
    if "independent" in table:
        found["independent"] = checks.truth("independent", table["independent"])
    if "until" in table:
        until = known("[until]", table["until"], UNTIL)
        if "stderr" not in until:
            raise ValueError("[until] must have stderr, got none")
        found["until"] = until
    return found


def _try(study: Study) -> None:
    """Make the runs of some points without running them, so that errors come first."""
    how = study.how
    recording = Recording(study.num_steps, how.get("record_every", 1), how.get("record_at"))
    plan = Plan(study.case, recording, how.get("variables", ()), theory=False)
    first = {name: values[0] for name, values in study.over.items()}
    for point in [first, *_others(study, first)]:
        try:
            plan.runs(point, how["seeds"][:1])
        except (ValueError, OSError) as error:
            where = checks.pairs(point)
            raise ValueError(f"{error} (at {where})" if where else str(error)) from error


def _others(study: Study, first: dict[str, Any]) -> list[dict[str, Any]]:
    """Points at which texts, and the last of numbers, are tried: they share the first spectrum."""
    parameters = FAMILIES[study.case.family].parameters
    return [
        first | {name: value}
        for name, values in study.over.items()
        if name not in parameters
        for value in (values[1:] if isinstance(values[0], str) else values[1:][-1:])
    ]
