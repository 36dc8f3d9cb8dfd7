"""Kernels from the disk cache: any order of processes, no writable folder, many at once."""

import ast
import compileall
import gc
import hashlib
import importlib.util
import os
import pkgutil
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic

import suspalign_fast
from suspalign_fast.kernels import jit

PACKAGE = Path(suspalign_fast.__file__).parent
KERNELS = PACKAGE / "kernels"

SCRIPT = """
import sys
import numpy as np
import suspalign_fast as sa
problem = sa.Quadratic(sa.Spectrum([3.0, 1.0], 1))
rule = sa.CriticalStep(0.9) if sys.argv[1] == "rule" else 0.01
print(sa.simulate(problem, rule, 5).loss[-1])
"""


def start(kind, cache):
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "TMPDIR": str(cache)}
    environment.pop("NUMBA_CACHE_DIR", None)
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, kind], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return float(out)


@pytest.mark.long
def test_any_order_of_processes_can_share_a_cache(tmp_path):
    """A caller compiled beside a parallel kernel loaded from disk once crashed when reloaded."""
    results = [finish(start(kind, tmp_path)) for kind in ("rule", "constant", "constant", "rule")]
    assert results[1] == results[2]
    assert results[0] == results[3]


@pytest.mark.long
def test_processes_that_fill_the_cache_at_once(tmp_path):
    processes = [start("constant", tmp_path) for _ in range(2)]
    assert len({finish(process) for process in processes}) == 1


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="permissions")
def test_no_writable_cache_directory(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert finish(start("constant", blocked)) > 0.0


def fresh_directory(monkeypatch, **variables):
    """Directory that a process with these environment variables would use."""
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(jit.tempfile, "tempdir", None)
    return jit.cache_directory.__wrapped__()


@pytest.mark.skipif(os.name != "posix", reason="owners and modes")
@pytest.mark.parametrize("trap", ["open", "link", "foreign"])
def test_a_directory_that_others_could_fill_is_not_trusted(tmp_path, monkeypatch, trap):
    """Kernels are pickles and machine code: whoever fills the cache runs code."""
    base = tmp_path / f"suspalign-fast-{os.getuid()}"
    monkeypatch.setattr(Path, "home", _no_home)
    if trap == "link":
        (tmp_path / "elsewhere").mkdir()
        base.symlink_to(tmp_path / "elsewhere")
    elif trap == "open":
        base.mkdir()
        base.chmod(0o777)
    else:
        base.mkdir()
        real = os.lstat
        monkeypatch.setattr(jit.os, "lstat", lambda path: _owned_by_another(real(path)))
    directory = fresh_directory(monkeypatch, TMPDIR=tmp_path)
    if trap == "open":  # it is this user's own: closed, and used
        assert directory.parent == base
        assert base.stat().st_mode & 0o022 == 0
    else:
        assert directory is None


def _no_home():
    raise RuntimeError("Could not determine home directory.")


def _owned_by_another(status):
    values = list(status)
    values[4] = os.getuid() + 1
    return os.stat_result(values)


@pytest.mark.long
def test_damaged_caches_are_made_anew(tmp_path):
    expected = finish(start("rule", tmp_path))
    rng, damaged = np.random.default_rng(0), {}
    files = sorted(p for p in tmp_path.rglob("*.nb?"))
    assert {p.suffix for p in files} == {".nbi", ".nbc"}
    for number, path in enumerate(files):
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1
        damaged[path] = (whole[: len(whole) // 2], b"", bytes(flipped), b"hello")[number // 2 % 4]
        path.write_bytes(damaged[path])
    assert finish(start("rule", tmp_path)) == expected
    # A kernel that another one holds may not be asked for: what is damaged then stays so.
    again = [path for path in tmp_path.rglob("*.nbc") if path.read_bytes() != damaged.get(path)]
    assert len(again) > len(damaged) // 4
    for path in again:
        digest, code = path.read_bytes()[:32], path.read_bytes()[32:]
        assert hashlib.sha256(code).digest() == digest


# --- what the digest covers --------------------------------------------------------------------


def compiled_code():
    """The code of every function of the package that is compiled, wherever it was made."""
    unwanted = ["__main__"] if importlib.util.find_spec("torch") else ["__main__", "network"]
    for module in pkgutil.walk_packages(suspalign_fast.__path__, "suspalign_fast."):
        if not set(unwanted) & set(module.name.split(".")):
            importlib.import_module(module.name)
    for made in gc.get_objects():
        for kind, attribute in ((Dispatcher, "py_func"), (CFunc, "_pyfunc"), (_Intrinsic, "_defn")):
            if issubclass(type(made), kind):
                code = getattr(made, attribute).__code__
                if PACKAGE in Path(code.co_filename).parents:
                    yield code


def names_of(code):
    """Names that a function looks up outside of it, those of functions inside it included."""
    inner = [constant for constant in code.co_consts if isinstance(constant, type(code))]
    return set(code.co_names).union(*map(names_of, inner))


#: What kernels import from beyond their folder: the layout of a row, and its formulas.
DIGESTED = ("physics.layout", "physics.terms")


def imported_from_elsewhere(path):
    """Names that a file of kernels imports from files that the digest does not cover."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            folder = path.parents[node.level - 1].relative_to(PACKAGE.parent) if node.level else ""
            module = ".".join([*Path(folder).parts, *([node.module] if node.module else [])])
            imported = {f"{module}.{name.name}": name.asname or name.name for name in node.names}
        elif isinstance(node, ast.Import):
            imported = {name.name: name.asname or name.name for name in node.names}
        else:
            continue
        names |= {
            name
            for module, name in imported.items()
            if module.startswith("suspalign_fast.")
            and not module.startswith(("suspalign_fast.kernels.", *COVERED))
        }
    return names


COVERED = tuple(f"suspalign_fast.{name}" for name in DIGESTED)


def constants_of(tree):
    """Names that a file uses where it is imported, in what it assigns and how it decorates."""
    roots = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            roots += node.decorator_list
        else:
            roots.append(node)
    return {
        node.id
        for root in roots
        for node in ast.walk(root)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def test_the_digest_covers_every_function_that_is_compiled():
    codes = list(compiled_code())
    assert len(codes) > 100
    files = {Path(code.co_filename).resolve() for code in codes}
    assert files <= set(jit.digested_sources())
    assert {path.parent for path in files} == {KERNELS, KERNELS / "gpu", PACKAGE / "physics"}


def test_kernels_take_nothing_from_files_that_the_digest_does_not_cover():
    names = {}
    for code in compiled_code():
        names.setdefault(Path(code.co_filename).resolve(), set()).update(names_of(code))
    for path in jit.digested_sources():
        tree = ast.parse(path.read_text())
        elsewhere = imported_from_elsewhere(path)
        assert not elsewhere & names.get(path, set()), path
        assert not elsewhere & constants_of(tree), path
    for name in DIGESTED:
        source = ast.parse((PACKAGE / f"{name.replace('.', '/')}.py").read_text())
        assert not [node for node in ast.walk(source) if getattr(node, "level", 0)]


def test_imports_from_elsewhere_are_seen(tmp_path, monkeypatch):
    package = tmp_path / "suspalign_fast"
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", package)
    (package / "kernels" / "gpu").mkdir(parents=True)
    inside, deeper = package / "kernels" / "one.py", package / "kernels" / "gpu" / "two.py"
    inside.write_text(
        "from ..noise import a\nfrom .plan import b\nfrom .. import c as d\nimport numpy as np\n"
        "from suspalign_fast.model.noise import e\nimport suspalign_fast.model.run\nX = a + 1\n"
        "from ..physics.layout import f\nfrom . import g\n@d.made\ndef f():\n    return e\n"
    )
    deeper.write_text("from ..plan import a\nfrom ...model import b\nfrom .. import c\n")
    assert imported_from_elsewhere(inside) == {"a", "d", "e", "suspalign_fast.model.run"}
    assert imported_from_elsewhere(deeper) == {"b"}
    assert constants_of(ast.parse(inside.read_text())) == {"a", "d"}
    code = compile("def f():\n    def g():\n        return a\n    return b.c\n", "f", "exec")
    assert names_of(code) >= {"a", "b", "c"}


def test_the_digest_depends_on_the_sources_of_kernels_and_on_the_compilers(tmp_path, monkeypatch):
    folder = tmp_path / "kernels"
    shutil.copytree(KERNELS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "physics").mkdir()
    for name in ("layout.py", "terms.py"):
        shutil.copy(PACKAGE / "physics" / name, tmp_path / "physics")
    layout = tmp_path / "physics" / "layout.py"
    digest = jit.digest_of(folder)
    assert digest == jit.digest_of(KERNELS) == jit.source_digest()
    assert jit.cache_directory().name == jit.cache_name(digest)
    (folder / "philox.py").write_text((folder / "philox.py").read_text() + "# edited\n")
    edited = jit.digest_of(folder)
    (folder / "philox.py").rename(folder / "renamed.py")
    renamed = jit.digest_of(folder)
    layout.write_text(layout.read_text().replace("VECTOR = 8", "VECTOR = 16"))
    wider = jit.digest_of(folder)
    monkeypatch.setattr(jit.numba, "__version__", "0.0")
    other_numba = jit.digest_of(folder)
    monkeypatch.setattr(jit.llvmlite, "__version__", "0.0")
    assert len({digest, edited, renamed, wider, other_numba, jit.digest_of(folder)}) == 6


@pytest.mark.parametrize("name", ["OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK"])
def test_kernels_compiled_in_another_way_have_a_cache_of_their_own(name, monkeypatch):
    """One that was made without vectors once slowed all later processes down."""
    usual = jit.cache_name("sources")
    assert jit.cache_name("sources") == usual
    monkeypatch.setattr(jit.numba.config, name, 17)
    assert jit.cache_name("sources") != usual


ODD_INSTALL = """
import suspalign_fast as sa
from suspalign_fast.kernels import jit
problem = sa.Quadratic(sa.Spectrum([3.0, 1.0], 1))
print(sa.__file__, jit.cache_directory(), sa.simulate(problem, 0.01, 5, engine="reference").status)
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", ["zip", "compiled"])
def test_a_package_without_files_of_its_sources_runs_without_a_cache(kind, tmp_path):
    source = tmp_path / "source"
    unwanted = shutil.ignore_patterns("__pycache__", "network")
    shutil.copytree(PACKAGE, source / "suspalign_fast", ignore=unwanted)
    if kind == "zip":
        place = shutil.make_archive(str(tmp_path / "package"), "zip", source)
    else:
        place = str(source)
        assert compileall.compile_dir(source, quiet=1, legacy=True)
        for path in source.rglob("*.py"):
            path.unlink()
    environment = os.environ | {"PYTHONPATH": place}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ODD_INSTALL], env=environment, cwd=tmp_path,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file, cache, status = done.stdout.split()
    assert file.startswith(place)
    assert (cache, status) == ("None", "complete")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("what", ["index", "data", "folder"])
def test_what_is_no_file_in_a_cache_is_not_waited_for(what, tmp_path):
    cached = jit._CheckedFile(str(tmp_path), "kernel", "stamp")
    if what == "index":
        os.mkfifo(cached._index_path)
    elif what == "folder":
        os.mkdir(cached._index_path)
    else:
        cached.save("key", "code")
        data = cached._data_path(cached._load_index()["key"])
        os.unlink(data)
        os.mkfifo(data)
    found = []
    reader = threading.Thread(target=lambda: found.append(cached.load("key")), daemon=True)
    reader.start()
    reader.join(30)
    assert found == [None]
    cached.save("key", "code")
    assert cached.load("key") == (None if what == "folder" else "code")


NOTHING_COMPILED = """
import numba
import suspalign_fast as sa
problem = sa.Quadratic(sa.Spectrum([3.0, 1.0], 1))
for work in (
    lambda: sa.simulate(problem, 0.01, 5),
    lambda: sa.simulate(problem, numba.njit(lambda row: 0.01), 5),
    lambda: sa.simulate(problem, sa.CriticalStep(0.9), 5),
    lambda: sa.theory.expected(problem, 0.01, [5]),
):
    try:
        work()
    except RuntimeError as error:
        assert "NUMBA_DISABLE_JIT" in str(error), error
    else:
        raise AssertionError
assert sa.simulate(problem, 0.01, 5, engine="reference").status == "complete"
"""


@pytest.mark.mostly_long
@pytest.mark.parametrize("how", ["python", "command line"])
def test_a_compiler_that_is_switched_off_is_one_sentence(how, tmp_path):
    run = ["-m", "suspalign_fast", "run", "--two-level", "50,5,9,1", "--steps", "9", "--no-plot"]
    arguments = ["-c", NOTHING_COMPILED] if how == "python" else [*run, "-o", "t.h5"]
    root = str(PACKAGE.parent)
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == (0 if how == "python" else 2), done.stderr
    if how == "command line":
        assert "NUMBA_DISABLE_JIT" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not list(tmp_path.iterdir())


# --- old caches --------------------------------------------------------------------------------

DAY = 24 * 3600.0


def make_cache(base, name, days):
    """A cache that was last used so many days ago."""
    folder = base / name
    folder.mkdir(parents=True)
    (folder / "kernel.nbc").write_bytes(b"code")
    used = time.time() - days * DAY
    os.utime(folder, (used, used))
    return folder


def test_caches_that_nobody_uses_are_removed(tmp_path):
    mine = make_cache(tmp_path, "0" * 16, 400)
    recent = [make_cache(tmp_path, f"{n:016x}", n) for n in range(1, 5)]
    old = [make_cache(tmp_path, f"{n:016x}", n) for n in (31, 300)]
    jit.remove_old_caches(tmp_path, keep=mine)
    assert sorted(tmp_path.iterdir()) == [mine, *recent]
    assert not any(path.exists() for path in old)


def test_only_the_last_used_caches_are_kept_and_those_in_use(tmp_path):
    caches = [make_cache(tmp_path, f"{n:016x}", n) for n in range(1, jit.KEPT_CACHES + 4)]
    jit.remove_old_caches(tmp_path, keep=tmp_path / "f")
    assert sorted(tmp_path.iterdir()) == caches[: jit.KEPT_CACHES]
    shutil.rmtree(tmp_path)
    busy = [make_cache(tmp_path, f"{n:016x}", n * 1e-3) for n in range(1, jit.KEPT_CACHES + 4)]
    jit.remove_old_caches(tmp_path, keep=tmp_path / "f")
    assert sorted(tmp_path.iterdir()) == busy


def test_nothing_but_old_caches_is_removed(tmp_path):
    base, outside = tmp_path / "base", tmp_path / "outside"
    names = ("notes", "f" * 15, "f" * 17, "F" * 16, "f" * 15 + "\n", "f" * 16 + "\n")
    kept = [make_cache(base, name, 400) for name in names]
    file = base / ("a" * 16)
    file.write_text("a file")
    os.utime(file, (0.0, 0.0))
    make_cache(tmp_path, "outside", 400)
    link = base / ("b" * 16)
    link.symlink_to(outside)
    os.utime(link, (0.0, 0.0), follow_symlinks=False)
    old = make_cache(base, "c" * 16, 400)
    (old / "link").symlink_to(outside)
    os.utime(old, (0.0, 0.0))
    jit.remove_old_caches(base, keep=base / ("d" * 16))
    assert sorted(base.iterdir()) == sorted([*kept, file, link])
    assert [path.name for path in outside.iterdir()] == ["kernel.nbc"]


@pytest.mark.skipif(os.name != "posix", reason="owners")
def test_caches_of_other_users_are_left_alone(tmp_path, monkeypatch):
    old = make_cache(tmp_path, "a" * 16, 400)
    another = os.getuid() + 1
    monkeypatch.setattr(jit.os, "getuid", lambda: another)
    jit.remove_old_caches(tmp_path, keep=tmp_path / "f")
    assert old.exists()


def test_caches_that_another_process_removes_at_the_same_time(tmp_path):
    """Four at once: folders vanish before they are looked at, and files while they are removed."""
    for n in range(100):
        make_cache(tmp_path, f"{n:016x}", 400)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(jit.remove_old_caches, [tmp_path] * 4, [tmp_path / "f"] * 4))
    assert not list(tmp_path.iterdir())
    jit.remove_old_caches(tmp_path / "nothing", keep=tmp_path / "f")


def test_a_new_cache_takes_the_place_of_old_ones(tmp_path, monkeypatch):
    base = tmp_path / "suspalign-fast"
    old = make_cache(base, "a" * 16, 400)
    directory = fresh_directory(monkeypatch, XDG_CACHE_HOME=tmp_path)
    assert directory.parent == base
    assert not old.exists()
    old = make_cache(base, "a" * 16, 400)
    os.utime(directory, (0.0, 0.0))
    assert fresh_directory(monkeypatch, XDG_CACHE_HOME=tmp_path) == directory
    assert time.time() - directory.stat().st_mtime < DAY  # used, and that is remembered
    assert old.exists()  # only a process that makes a cache looks for old ones


def test_a_folder_that_is_not_ours_alone_is_not_cleaned(tmp_path, monkeypatch):
    old = make_cache(tmp_path, "a" * 16, 400)
    assert fresh_directory(monkeypatch, NUMBA_CACHE_DIR=tmp_path).parent == tmp_path
    assert old.exists()


REMOVED = """
import shutil
import suspalign_fast as sa
from suspalign_fast.kernels.jit import cache_directory
problem = sa.Quadratic(sa.Spectrum([3.0, 1.0], 1))
shutil.rmtree(cache_directory())
sa.simulate(problem, 0.01, 5)
made = cache_directory()
assert made.stat().st_mode & 0o022 == 0
assert list(made.rglob("*.nbc"))
shutil.rmtree(made.parent)
made.parent.write_text("in the way")
print(sa.simulate(problem, sa.CriticalStep(0.9), 5).loss[-1])
"""


@pytest.mark.long
def test_a_process_whose_cache_is_removed_goes_on(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    code = "import os; os.umask(0o002)\n" + REMOVED
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0.0
