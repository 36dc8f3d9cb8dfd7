"""How the package hangs together: imports point down, and no file is long."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import suspalign_fast

ROOT = Path(suspalign_fast.__file__).parent
#: Lines of a file, and floors of folders, at most.
MAX_LINES = 600
MAX_FLOORS = 10


def name_of(path):
    """Return the name of a module without that of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix("__init__").rstrip(".") or ROOT.name


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
FOLDERS = {path.parent for path in FILES.values()} - {ROOT}


def absolute(name, node):
    """Yield the names that a statement imports, as if it were in no package."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        folder = FILES[name].relative_to(ROOT).parts[: -node.level]
        base = ".".join([ROOT.name, *folder, *filter(None, [node.module])])
    for alias in node.names:
        yield f"{base}.{alias.name}"


def module_of(imported):
    """Return the module of the package that an imported name is, or is in; None of any other."""
    if imported.partition(".")[0] != ROOT.name:
        return None
    name = imported.partition(".")[2]
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name or ROOT.name


def imports_of(name):
    """Return the modules of the package that one of them imports, anywhere in its code."""
    statements = ast.walk(ast.parse(FILES[name].read_text()))
    imports = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    return {module_of(imported) for node in imports for imported in absolute(name, node)} - {None}


IMPORTS = {name: imports_of(name) for name in FILES}


def folder_of(name):
    """Return the top folder of a module; its own name where it lies in none."""
    return name.partition(".")[0]


def folder_imports():
    """Return the folders that each folder imports from."""
    found = {folder_of(name): set() for name in FILES}
    for name, imports in IMPORTS.items():
        found[folder_of(name)] |= {folder_of(other) for other in imports}
    return {name: others - {name} for name, others in found.items()}


def cycle_in(graph):
    """Return the names along a circle of a graph, None where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_the_imports_are_found():
    assert IMPORTS["storage.lock"] == {"storage.paths"}
    assert IMPORTS["storage.output"] == {"base.reports", "storage.deflate"}
    assert {"storage.reader", "storage.output"} <= IMPORTS["storage"]
    assert {"kernels.rules", "theory"} <= IMPORTS["suspalign_fast"]
    assert "kernels.gpu" in {name.rpartition(".")[0] for name in IMPORTS["model.devices"]}


def test_a_circle_is_found():
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    assert set(cycle_in({"a": {"b"}, "b": {"a"}})) == {"a", "b"}


@pytest.mark.parametrize("graph", [IMPORTS, folder_imports()], ids=["files", "folders"])
def test_nothing_imports_itself_in_the_end(graph):
    """Folders without a circle have an order in which every import points down."""
    assert cycle_in(graph) is None


def test_there_are_few_floors():
    below = folder_imports()

    @cache
    def floor(folder):
        return 1 + max(map(floor, below[folder]), default=0)

    floors = {folder: floor(folder) for folder in below if folder != ROOT.name}
    assert max(floors.values()) <= MAX_FLOORS
    assert floors["base"] == 1


def test_nothing_imports_the_package_itself():
    """What users import is made of the parts; a part that took it would close a circle."""
    outside = {ROOT.name, "__main__"}
    assert [name for name in FILES if ROOT.name in IMPORTS[name] and name not in outside] == []


def test_files_know_nothing_of_sgd():
    for folder in ("base", "storage"):
        inside = [name for name in FILES if folder_of(name) == folder]
        others = {folder_of(other) for name in inside for other in IMPORTS[name]}
        assert others <= {"base", "storage"}
    assert "base" not in {folder_of(n) for n in FILES if "storage" in IMPORTS[n]}


def test_few_things_lie_beside_the_folders():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert len([folder for folder in FOLDERS if folder.parent == ROOT]) <= 15


@pytest.mark.parametrize("folder", sorted(FOLDERS), ids=lambda folder: folder.name)
def test_every_folder_says_what_it_is_for(folder):
    tree = ast.parse((folder / "__init__.py").read_text())
    first = (ast.get_docstring(tree) or "").split("\n")[0]
    assert first.endswith((".", ":"))
    assert len(first) > 20


def test_no_file_is_long():
    lengths = {path: len(path.read_text().splitlines()) for path in FILES.values()}
    assert {path.name: n for path, n in lengths.items() if n > MAX_LINES} == {}
