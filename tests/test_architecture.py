"""How the package hangs together: imports point down, and no file is long."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import suspalign_fast

ROOT = Path(suspalign_fast.__file__).parent
#: The layers, lowest first. A name stands for a module, or for a package with all that is in it and
#: has no line of its own. A module may import what is in its own layer or below.
LAYERS = (
    (
        "helpers",
        "_blas _checks _code _equality _errors _lazy _memory _numba_errors _progress _provenance"
        " _source _travel _underflow _words",
    ),
    ("registries", "spec"),
    ("optimizers", "kernels.row_terms optimizer"),
    ("rows", "row measured"),
    ("threads", "_threads executors signals"),
    ("files", "storage"),
    ("power sums", "velocity_rows rise velocity_batches power_sums batch_rows columns"),
    ("compiling", "kernels.jit"),
    ("vectors", "kernels.vectors kernels.vector_memory kernels.vector_arithmetic kernels.simd"),
    (
        "random numbers",
        "kernels.philox kernels.box_muller kernels.domains kernels.normals kernels.batch"
        " kernels.chi_square kernels.level_draws",
    ),
    (
        "special functions",
        "kernels.ratio kernels.tail kernels.powers kernels.double_double kernels.momentum_powers",
    ),
    ("rules", "kernels.rules kernels.built_in_rules kernels.move"),
    ("problems", "spectrum stability noise data_noise problem shard datasets least_squares"),
    ("step sizes", "shared_rules step_size built_in_steps transition momentum_moves"),
    ("kernels", "kernels"),
    ("devices", "devices"),
    ("runs", "texts run"),
    ("traces", "conditions exact labelled trace_columns trace summary"),
    ("theory", "theory relaxation phases"),
    ("engines", "engines cost"),
    ("trace files", "row_file measured_file sink trace_file labels store checkpoint"),
    ("pictures", "_picture plot plot_studies"),
    ("simulation", "beside driver simulate labelled_runs ensemble estimate"),
    (
        "studies",
        "netcdf_dimensions grid cases until table study_values study_arrays study study_file sweep",
    ),
    ("verification", "verify"),
    ("networks", "network"),
    ("studies in words", "study_netcdf toml_study"),
    ("package", "suspalign_fast"),
    ("command line", "cli __main__"),
)
#: What `storage` may import of the rest.
OF_STORAGE = {"_errors", "_words"}
MAX_LINES = 400
#: Files that are still too long.
LONG: set[str] = set()


def name_of(path):
    """Return the name of a module without that of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix("__init__").rstrip(".") or ROOT.name


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


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
LAYER_OF = {name: at for at, (_, names) in enumerate(LAYERS) for name in names.split()}


def layer_of(name):
    """Return the number of a module's layer, None if it has none."""
    while name and name not in LAYER_OF:
        name = name.rpartition(".")[0]
    return LAYER_OF.get(name)


def test_the_imports_are_found():
    assert IMPORTS["storage.lock"] == {"storage.files"}
    assert IMPORTS["storage.output"] == {"_errors", "storage.deflate"}
    assert {"storage.reader", "storage.output"} <= IMPORTS["storage"]
    assert {"kernels.rules", "phases"} <= IMPORTS["suspalign_fast"]
    assert "kernels.gpu" in IMPORTS["devices"]  # inside a function


def test_no_module_imports_itself_in_the_end():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_module_has_a_layer_and_every_layer_modules():
    assert [name for name in FILES if layer_of(name) is None] == []
    assert [name for name in LAYER_OF if name not in FILES] == []


def test_imports_point_down():
    upward = [
        f"{name} ({LAYERS[layer_of(name)][0]}) imports {other} ({LAYERS[layer_of(other)][0]})"
        for name, imports in IMPORTS.items()
        for other in imports
        if layer_of(other) > layer_of(name)
    ]
    assert upward == []


def test_storage_knows_nothing_of_the_rest():
    inside = [name for name in FILES if name.partition(".")[0] == "storage"]
    assert set().union(*(IMPORTS[name] for name in inside)) - set(inside) <= OF_STORAGE


def test_no_file_is_long():
    lengths = {path: len(path.read_text().splitlines()) for path in FILES.values()}
    long = {path.relative_to(ROOT).as_posix() for path, n in lengths.items() if n > MAX_LINES}
    assert long == LONG
