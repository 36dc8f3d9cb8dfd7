"""Studies in TOML: the whole file, read and checked before anything runs."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import _checks, _words, texts
from ..cases import Plan
from ..spectrum.named import FAMILIES
from ..sweep import sweep
from . import axes, tables
from .case import OF_OPTIMIZER, OF_RUN, StudyCase, noise_of, rule_of
from .tables import MISSING

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
    >>> from suspalign_fast import toml_study
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
    >>> dict(toml_study.load("study.toml").sweep().alignment.sizes)
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
        raise ValueError(f"{source} is not TOML: {_words.plain(error)}") from None
    except OSError as error:
        raise type(error)(f"{source} cannot be read: {error.strerror}") from None
    try:
        return of_table(content, source.absolute().parent)
    except RecursionError:
        raise ValueError(f"{source} must have fewer tables and lists within one another") from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{source}: {_words.plain(error)}") from error


def of_table(content: Mapping[str, Any], folder: str | os.PathLike[str] = "") -> Study:
    """Return the study of a table, in which relative paths start in a folder.

    Raises
    ------
    ValueError
        As `load`.
    """
    table = tables.known("a study", content, KEYS)
    if "problem" not in table:
        raise ValueError("a study must have a table [problem], got none")
    case = _case(table, str(folder))
    over = _over(case, table.get("over", {}))
    if case.step_size is None and "step_size" not in over:
        raise ValueError("step_size must be a key of the study or of [over], got neither")
    if "num_steps" not in table:
        raise ValueError("num_steps must be a key of the study, got none")
    num_steps = tables.whole("num_steps", table["num_steps"], 0)
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
            f"[problem] must have family = one of {expected}, got {_checks.describe(family)}"
        )
    parameters = FAMILIES[family].parameters
    given = tables.known("[problem]", problem, ("family", "noise", "initial", *parameters))
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
        _checks.real("initial", initial),
        options,
        table.get("momentum"),
        tables.truth("nesterov", table.get("nesterov", False)),
        folder,
    )


def _plain(name: str, value: Any, is_text: bool) -> Any:
    """Return a value of a family: a number, a text, or a pair of numbers."""
    if is_text and not isinstance(value, str):
        raise _checks.wrong(name, value, "a text")
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(p, bool) or not isinstance(p, int | float | str) for p in parts):
        raise _checks.wrong(name, value, "a number, a text or a pair of numbers")
    return tuple(value) if isinstance(value, list) else value


def _over(case: StudyCase, table: Any) -> dict[str, list[Any]]:
    given = tables.known("[over]", table, dict.fromkeys(case.axes()))
    over = {
        name: axes.values(f"[over] {name}", values, whole=case.is_whole(name))
        for name, values in given.items()
    }
    for part, name in ((case.noise, "noise"), (case.step_size, "step_size")):
        if name in over and part is not None and (both := set(part.fields) & set(over)):
            raise ValueError(f"[over] must have either {name} or {sorted(both)[0]}, got both")
    return over


def _seeds(table: dict[str, Any]) -> dict[str, Any]:
    seeds = table.get("seeds", 1)
    if isinstance(seeds, list):
        return {"seeds": tuple(_checks.integer("seeds", seed, 0, 2**64 - 1) for seed in seeds)}
    return {"seeds": tuple(range(tables.whole("seeds", seeds, 0, tables.MOST)))}


def _rows(table: dict[str, Any], num_steps: int) -> dict[str, Any]:
    given = [key for key in ROWS if key in table]
    if len(given) > 1:
        raise ValueError(f"a study must have one of {', '.join(ROWS)}, got {' and '.join(given)}")
    if "rows" in table:
        rows = tables.whole("rows", table["rows"], 2, tables.MOST)
        return {"record_at": texts.logarithmic(rows, num_steps)}
    if "record_at" in table:
        steps = axes.values("record_at", table["record_at"], whole=True)
        return {"record_at": np.array([_checks.integer("record_at", s, 0) for s in steps])}
    return {"record_every": tables.whole("record_every", table.get("record_every", 1), 1)}


def _kept(table: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "variables" in table:
        found["variables"] = tables.texts("variables", table["variables"])
    if "theory" in table:
        found["theory"] = tables.truth("theory", table["theory"])
    if "independent" in table:
        found["independent"] = tables.truth("independent", table["independent"])
    if "until" in table:
        until = tables.known("[until]", table["until"], UNTIL)
        if "stderr" not in until:
            raise ValueError("[until] must have stderr, got none")
        found["until"] = until
    return found


def _try(study: Study) -> None:
    """Make the runs of some points, so that what is wrong is told before anything runs."""
    how = study.how
    plan = Plan(
        study.case,
        study.num_steps,
        how.get("record_every", 1),
        how.get("record_at"),
        how.get("variables", ()),
        False,
    )
    first = {name: values[0] for name, values in study.over.items()}
    for point in [first, *_others(study, first)]:
        try:
            plan.runs(point, how["seeds"][:1])
        except (ValueError, OSError) as error:
            where = _checks.pairs(point)
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
