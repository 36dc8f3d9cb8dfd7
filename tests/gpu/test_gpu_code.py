"""The kept table of the GPU's machine code, and what is worse than in it; compiles nothing."""

import ast
import importlib
from pathlib import Path

import pytest

from ..ptx import pinned_compilers

ROOT = Path(__file__).parents[2]
KERNELS = sorted((ROOT / "suspalign_fast" / "kernels").joinpath("gpu").glob("*.py"))


@pytest.fixture
def bench(monkeypatch):
    """A function that imports a module of the folder ``bench``."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    return importlib.import_module


@pytest.fixture
def table(bench):
    return bench("gpu_table")


@pytest.fixture
def kept(table):
    return table.parse(table.PATH.read_text())


def changed(table, kept, key, **figures):
    """The table with other figures of a kernel; names have _ for spaces."""
    figures = {name.replace("_", " "): value for name, value in figures.items()}
    return table.Table(kept.compilers, kept.rows | {key: kept.rows[key] | figures})


STEP = ("9.0", "advance", "float64")
NAME = "advance, float64 state, compute capability 9.0: "


def test_the_table_has_every_kernel(bench, kept):
    code = bench("gpu_code")
    names = code.signatures(code.float64)
    expected = {(c, n, s) for c in code.CAPABILITIES for n in names for s in code.STATES}
    assert set(kept.rows) == expected
    with_loop = {key[:2] for key, row in kept.rows.items() if "main loop" in row}
    assert with_loop == {
        ("9.0", name) for name in
        {*names} - {
            "sum_state", "fill_normals", "spread", "add_parts", "sum_velocity", "add_velocity_parts"
        }
    }  # fmt: skip


def test_every_kernel_of_the_package_is_compiled(bench):
    """Those at the top by their names, those that are built for a rule for several ones."""
    found = {
        node.name
        for path in KERNELS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        and getattr(decorator.func, "id", "") in ("_kernel", "kernel")
    }
    code = bench("gpu_code")
    assert len(found) > 8
    assert found - set(code.signatures(code.float64)) == {"advance_adaptive", "advance_batches"}


def test_the_table_was_made_by_the_pinned_compilers(table, kept):
    made = {name: version for name, version in kept.compilers.items() if name != "python"}
    assert made == {name: pinned_compilers()[name] for name in table.PACKAGES}


def test_the_table_is_written_as_it_is_read(table, kept):
    assert kept.text() == table.PATH.read_text()
    assert kept.rows[STEP]["stack bytes"] == 0


def test_kernels_keep_their_launch_bounds(kept):
    assert [key for key, row in kept.rows.items() if row["registers"] > row["limit"]] == []


#: Rows of the page, by how they start.
SHOWN = {
    "noise alone": ("only_normals", "float64"),
    "`step`, known sizes": ("advance", "float64"),
    "`step`, known sizes, float32 state": ("advance", "float32"),
    "`step` under `CriticalStep`": ("CriticalStep", "float64"),
    "`step` with momentum, known sizes": ("advance_velocity", "float64"),
    "`step` with momentum under `CriticalStep`": ("CriticalStep, momentum", "float64"),
    "`jump`, a row": ("jump_rows", "float64"),
}


@pytest.mark.parametrize("words", SHOWN)
def test_the_page_shows_the_figures_of_the_table(bench, kept, words):
    row = kept.rows["9.0", *SHOWN[words]]
    page = (ROOT / "docs" / "gpu.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {words} |")]
    cells = [cell.strip() for cell in line.split("|")[2:7]]
    assert cells == [
        f"{row['registers']:g}",
        f"{row['main loop']:.3g}",
        f"{row['float64']:.3g}",
        f"{row['wide integer products']:.2g}",
        f"{bench('gpu_counts').cycles(row)['issue']:.3f}",
    ]


def test_nothing_is_worse_than_itself_or_a_little_more(table, kept):
    assert table.worse(kept, kept) == []
    assert table.better(kept, kept) == []
    loop = kept.rows[STEP]["main loop"]
    assert table.worse(kept, changed(table, kept, STEP, registers=128, main_loop=1.02 * loop)) == []


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"spilled_bytes": 8}, "spilled bytes: 0 in the kept table, found 8"),
        ({"stack_bytes": 16}, "stack bytes: 0 in the kept table, found 16"),
        ({"registers": 136}, "found 136, and the launch bounds leave 128"),
        (
            {"main_loop": 60},
            "a coordinate and step: 52.56 in the kept table, found 60, more than 3",
        ),
        ({"float64": 15}, "a coordinate and step (float64): 13.75 in the kept table, found 15"),
    ],
)
def test_what_is_worse_is_said(table, kept, figures, said):
    (line,) = table.worse(kept, changed(table, kept, STEP, **figures))
    assert line.startswith(NAME)
    assert said in line


def test_kernels_without_a_main_loop_are_compared_as_a_whole(table, kept):
    key = ("9.0", "spread", "float32")
    (line,) = table.worse(kept, changed(table, kept, key, instructions=100))
    assert "spread, float32 state, compute capability 9.0: instructions in all: 81 in" in line


def test_a_lost_main_loop_is_worse(table, kept):
    row = {name: kept.rows[STEP][name] for name in list(kept.rows[STEP])[:5]}
    found = table.Table(kept.compilers, kept.rows | {STEP: row})
    assert table.worse(kept, found) == [f"{NAME}no loop that makes normals was found"]


def test_missing_and_new_kernels_are_said(table, kept):
    fewer = table.Table(kept.compilers, {k: row for k, row in kept.rows.items() if k != STEP})
    assert table.worse(kept, fewer) == [f"{NAME}in the kept table, but not compiled"]
    assert table.worse(fewer, kept) == [f"{NAME}compiled, but not in the kept table"]


def test_less_is_said_to_be_better(table, kept):
    (line,) = table.better(kept, changed(table, kept, STEP, main_loop=40))
    assert line.startswith(NAME)
    assert line.endswith("52.56 in the kept table, found 40")


def test_other_compilers_are_named(table, kept):
    assert table.other_compilers(kept.compilers, kept.compilers) == ""
    words = table.other_compilers(kept.compilers, kept.compilers | {"nvidia-nvvm": "14.0.0"})
    assert words == f"nvidia-nvvm 14.0.0 in place of {kept.compilers['nvidia-nvvm']}"
