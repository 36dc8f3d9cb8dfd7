"""Rules are told apart by all that they compute with, and those that are the same compile once."""

import importlib.util
import itertools
import re
import subprocess
import sys

import numba
import numpy as np
import pytest

import suspalign_fast as sa
from suspalign_fast.base import code
from suspalign_fast.base.code import described
from suspalign_fast.kernels.rules import compile_rule
from suspalign_fast.model.run import Run
from suspalign_fast.studies import cases

PROBLEM = sa.Quadratic(sa.Spectrum.two_level(50, 5, 10.0, 1.0), initial=3.0)
HEAD = """
import ctypes, enum, math, random, types
from typing import NamedTuple
import numba, numpy as np
from numba import types as nt
from numba.extending import intrinsic, overload, register_jitable
from numba.experimental import jitclass
"""
#: What a rule refers to, with a number in it, and what it returns.
REFERRED = {
    "a constant": ("SIZE = {0}", "SIZE"),
    "an array": ("SIZE = np.array([{0}, 1.0])", "SIZE[0]"),
    "a tuple of tuples": ("SIZE = ((1, {0}), 3.0)", "SIZE[0][1]"),
    "a constant of a module": (
        "config = types.ModuleType('config'); config.SIZE = {0}",
        "config.SIZE",
    ),
    "a constant of a module of a module": (
        "a = types.ModuleType('a'); a.b = types.ModuleType('a.b'); a.b.SIZE = {0}",
        "a.b.SIZE",
    ),
    "a member of an Enum": (
        "class Size(enum.Enum):\n    STEP = {0}\nSTEP = Size.STEP",
        "STEP.value",
    ),
    "an Enum": ("class Size(enum.Enum):\n    STEP = {0}", "Size.STEP.value"),
    "an IntEnum": ("class Size(enum.IntEnum):\n    STEP = int({0} * 1e6)", "Size.STEP * 1e-6"),
    "a named tuple": (
        "class Pair(NamedTuple):\n    a: float\n    b: float\np = Pair({0}, 1.0)",
        "p.a",
    ),
    "the order of a named tuple": (
        "names = 'ab' if {0} == 1e-3 else 'ba'\n"
        "p = NamedTuple('P', [(n, float) for n in names])(1e-3, 2e-3)",
        "p.a",
    ),
    "a function": ("def size(x):\n    return {0}\nsize = numba.njit(size)", "size(1.0)"),
    "a jitable function": ("@register_jitable\ndef size(x):\n    return {0}", "size(1.0)"),
    "a C function": (
        "@numba.cfunc('float64(float64)')\ndef size(x):\n    return {0} * x",
        "size(1.0)",
    ),
    "a ufunc": ("@numba.vectorize\ndef size(x):\n    return {0} * x", "size(1.0)"),
    "the types of a ufunc": (
        "kind = 'float64(float64)' if {0} == 1e-3 else 'float32(float32)'\n"
        "@numba.vectorize([kind])\ndef size(x):\n    return 1e-3 * x",
        "size(1.0)",
    ),
    "an overload": (
        "def size(x): ...\n@overload(size)\ndef sized(x):\n    return lambda x: {0} * x",
        "size(1.0)",
    ),
    "an intrinsic": (
        "@intrinsic\ndef size(context, x):\n"
        "    def code(context, builder, signature, args):\n"
        "        return context.get_constant(nt.float64, {0})\n"
        "    return nt.float64(x), code",
        "size(1.0)",
    ),
    "a jitclass": (
        "@jitclass([('a', nt.float64)])\nclass Size:\n"
        "    def __init__(self, a):\n        self.a = a\n"
        "    def get(self):\n        return {0} * self.a",
        "Size(1.0).get()",
    ),
    "an option": (
        "def size(x):\n    return 1e-3 + 0.0 / x\n"
        "size = numba.njit(error_model='python' if {0} == 1e-3 else 'numpy')(size)",
        "size(1.0)",
    ),
}
numbers = itertools.count()


def module_of(folder, head, body, number):
    """Import a file with a rule that refers to something with a number in it."""
    path = folder / f"rules_{next(numbers)}.py"
    path.write_text(
        f"{HEAD}{head.format(number)}\n@numba.njit\ndef rule(row):\n    return {body}\n"
    )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("what", REFERRED)
def test_what_a_rule_refers_to_counts(what, tmp_path):
    one, same, other = (module_of(tmp_path, *REFERRED[what], n).rule for n in (1e-3, 1e-3, 2e-3))
    assert described(one) == described(same)
    assert described(one) != described(other)
    assert code.BYTECODE not in described(one)


@pytest.mark.long
@pytest.mark.parametrize("what", ["an overload", "a C function"])
def test_a_study_is_not_mixed_with_that_of_another_rule(what, tmp_path):
    pytest.importorskip("h5netcdf")
    path = tmp_path / "study.nc"
    one, other = (sa.RowStep(module_of(tmp_path, *REFERRED[what], n).rule) for n in (1e-3, 2e-3))
    sa.sweep(lambda: (PROBLEM, {"step_size": one}), {}, 5, path=path).close()
    sa.sweep(lambda: (PROBLEM, {"step_size": one}), {}, 5, seeds=[0, 1], path=path).close()
    with pytest.raises(ValueError, match=r"its problem was another$"):
        sa.sweep(lambda: (PROBLEM, {"step_size": other}), {}, 5, path=path)


@pytest.mark.parametrize(
    "head",
    [
        "LOOP = [1.0]; LOOP.append(LOOP)",
        "LOOP = {'a': 1.0}; LOOP['self'] = LOOP",
        "LOOP = ([1.0],); LOOP[0].append(LOOP)",
        "def LOOP(x):\n    return LOOP(x)",
    ],
)
def test_what_contains_itself_is_described(head, tmp_path):
    def text(number):
        return described(
            module_of(tmp_path, head + "\nSIZE = {0}", "SIZE + 0 * len(LOOP)", number).rule
        )

    head = head.replace("{", "{{").replace("}", "}}")
    assert text(1e-3) == text(1e-3)
    assert text(1e-3) != text(2e-3)


@pytest.mark.mostly_long
@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("size = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: x)", "size(1e-3)"),
        (
            "@numba.vectorize(['float64(float64)'], target='parallel')\ndef size(x):\n    return x",
            "size(1e-3)",
        ),
        ("size = np.array([None])", "len(size) * 1e-3"),
        ("size = object()", "1e-3 if size is None else 2e-3"),
        ("size = 1.0\nfor _ in range(100_000): size = (size,)", "1e-3 * len(size)"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_in_a_study(head, body, tmp_path):
    pytest.importorskip("xarray")
    function = module_of(tmp_path, head, body, 1).rule
    with pytest.raises(ValueError, match=r"^a rule must refer to ") as caught:
        described(function)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_names_comments_and_places_do_not_count(tmp_path):
    one = module_of(tmp_path, "", "1e-3 * row.step", 1).rule
    other = module_of(tmp_path, "# a comment\n\n", "(1e-3 *  row.step)  # more", 1).rule
    assert described(one) == described(other)

    @numba.njit
    def named(row):
        """With a docstring."""
        return 1e-3 * row.step

    assert described(named) == described(one)


def test_source_and_not_bytecode_counts(tmp_path, monkeypatch):
    """Another version of Python makes other bytecode of the same source."""
    rule = module_of(tmp_path, "", "1e-3", 1).rule
    text = described(rule)
    monkeypatch.setattr(code.platform, "python_version_tuple", lambda: ("3", "99", "0"))
    code.source_of.cache_clear()
    assert described(rule) == text
    assert rule.py_func.__code__.co_code.hex() not in text


@pytest.mark.mostly_long
@pytest.mark.parametrize("how", ["no source", "an edited file", "two on a line"])
def test_without_source_the_words_are_true(how, tmp_path, monkeypatch):
    pytest.importorskip("h5netcdf")
    if how == "no source":
        names = {"numba": numba}
        exec("@numba.njit\ndef rule(row):\n    return 1e-3", names)
        rule = names["rule"]
    elif how == "an edited file":
        module = module_of(tmp_path, "", "1e-3", 1)
        path = tmp_path / f"{module.__name__}.py"
        path.write_text(path.read_text().replace("1e-3", "2e-3"))
        rule = module.rule
    else:
        rule, _ = numba.njit(lambda row: 1e-3), numba.njit(lambda row: 2e-3)
    assert "bytecode of Python 3." in described(rule)
    path = tmp_path / "study.nc"
    study = sa.sweep(lambda: (PROBLEM, {"step_size": rule}), {}, 5, path=path)
    study.close()
    monkeypatch.setattr(code.platform, "python_version_tuple", lambda: ("3", "99", "0"))
    code.source_of.cache_clear()
    said = "another, or other code of its rule: its source cannot be read, and versions of Python"
    with pytest.raises(ValueError, match=said):
        sa.sweep(lambda: (PROBLEM, {"step_size": rule}), {}, 5, path=path)
    code.source_of.cache_clear()


@pytest.mark.long
def test_files_named_like_modules_of_python_are_users_own(tmp_path):
    """`statistics.size` of a file beside the study is no function of Python's."""
    texts = []
    for number in (1e-3, 2e-3):
        (tmp_path / "statistics.py").write_text(
            f"import numba\n@numba.njit\ndef size(x):\n    return {number}\n"
        )
        script = (
            "import numba, statistics\nfrom suspalign_fast.base.code import described\n"
            "rule = numba.njit(lambda row: statistics.size(1.0))\nprint(described(rule))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout)
    assert re.search("return 0.001", texts[0])
    assert texts[0] != texts[1]


# --- one compilation -------------------------------------------------------------------------


def rule_of(size):
    @numba.njit
    def rule(row):
        return size if row.step < 3 else 1e-3

    return rule


def compiled():
    return compile_rule.cache_info().misses


def test_a_case_that_makes_its_rule_compiles_it_once():
    pytest.importorskip("xarray")

    def case(initial):
        return sa.Quadratic(PROBLEM.spectrum, initial=initial), {"step_size": rule_of(0.0123)}

    before = compiled()
    study = sa.sweep(case, {"initial": np.linspace(1.0, 2.0, 7)}, 5, seeds=range(3))
    assert (study.status == "complete").all()
    assert compiled() == before + 1
    for state in ([1.0], [2.0]):  # a state is no code
        sa.RowStep(numba.njit(lambda row, memory: 0.011 * memory[0]), state)
    assert compiled() == before + 2


@pytest.mark.long
def test_rules_that_differ_are_compiled_each():
    sizes = [1.1e-3, 1.2e-3, 1.3e-3]
    for size, again in itertools.product(sizes, (False, True)):
        before = compiled()
        trace = sa.simulate(PROBLEM, rule_of(size), 5)
        assert trace.step_size[0] == size
        assert trace.step_size[4] == 1e-3
        assert compiled() == before + (not again)


@pytest.mark.long
def test_what_was_compiled_with_other_globals_stands_for_itself(tmp_path):
    """Numba keeps the values of globals that it found when it compiled a function."""
    head = "SIZE = {0}\ndef size(x):\n    return SIZE\nsize = numba.njit(size)"
    one = module_of(tmp_path, head, "size(1.0) + 0.00031", 1e-3)

    def first_size(rule):
        return sa.simulate(PROBLEM, rule, 2).step_size[0] - 0.00031

    assert first_size(one.rule) == pytest.approx(1e-3)
    one.SIZE = 2e-3
    assert first_size(one.rule) == pytest.approx(1e-3)  # Numba's way: nothing is compiled again
    stale = numba.njit(one.rule.py_func)  # calls what was compiled with the old value
    assert first_size(stale) == pytest.approx(1e-3)
    fresh = module_of(tmp_path, head, "size(1.0) + 0.00031", 2e-3)
    assert first_size(fresh.rule) == pytest.approx(2e-3)
    again = module_of(tmp_path, head, "size(1.0) + 0.00031", 1e-3)
    assert first_size(again.rule) == pytest.approx(1e-3)


def test_a_rule_that_does_not_compile_does_not_stand_for_others(tmp_path):
    bad = [module_of(tmp_path, "", "row.nothing", 1) for _ in range(2)]
    for module in bad:
        with pytest.raises(ValueError, match=f"line .* of {module.__name__}.py"):
            sa.RowStep(module.rule)


def test_the_digest_of_a_run_follows_its_rule(tmp_path):
    head, body = REFERRED["an overload"]
    digests = {
        cases.digest_of(Run(PROBLEM, module_of(tmp_path, head, body, n).rule, 5))
        for n in (1e-3, 1e-3, 2e-3)
    }
    assert len(digests) == 2


def test_attributes_are_no_globals():
    """A rule that reads ``row.loss_now`` has nothing to do with a global of that name."""
    code = "def rule(row):\n    return row.loss_now * eta\n"
    found = []
    for value in (object(), [1.0], [2.0]):
        names = {"loss_now": value, "eta": 0.1}
        exec(compile(code, "<made>", "exec"), names)
        found.append(described(names["rule"]))
    assert len(set(found)) == 1
    names = {"eta": 0.2}
    exec(compile(code, "<made>", "exec"), names)
    assert described(names["rule"]) != found[0]
