"""How kernels are compiled: one decorator, and a disk cache that cannot go stale."""

import contextlib
import functools
import hashlib
import os
import tempfile
from pathlib import Path

import numba
from numba.core import caching

_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def _source_digest():
    """Digest of every source file whose code can end up inside a kernel."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _candidate_directories():
    if configured := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(configured)
    base = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # raised where there is no home directory
        yield (Path(base) if base else Path.home() / ".cache") / "suspalign-fast"
    user = os.getuid() if hasattr(os, "getuid") else "user"
    yield Path(tempfile.gettempdir()) / f"suspalign-fast-{user}"


@functools.cache
def cache_directory():
    """Return the first writable cache directory, or None where there is none."""
    for base in _candidate_directories():
        directory = base / _source_digest()
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=directory):
                return directory
        except OSError:
            continue
    return None


class _PackageLocator(caching._CacheLocator):
    """Cache location of this package's kernels.

    Numba invalidates a cached kernel when its own file changes. Ours inline functions of other
    files, so the whole package's digest names the directory instead.
    """

    def __init__(self, py_file):
        self._py_file = py_file

    def get_cache_path(self):
        return str(cache_directory())

    def get_source_stamp(self):
        return _source_digest()

    def get_disambiguator(self):
        return None

    @classmethod
    def from_function(cls, py_func, py_file):
        inside = _PACKAGE in Path(py_file).resolve().parents
        return cls(py_file) if inside and cache_directory() is not None else None


def use_package_cache(caching_module):
    """Have a module of Numba's keep what it compiles of this package where its digest says."""
    caching_module.CacheImpl._locator_classes.insert(0, _PackageLocator)


use_package_cache(caching)


def kernel(**options):
    """Compile an entry point called from Python: cached on disk wherever a directory allows it."""
    return numba.njit(cache=cache_directory() is not None, nogil=True, **options)


#: What only other kernels call needs no way in from Python, which takes long to compile.
_NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

#: Compile a building block that is always inlined into its caller.
inlined = numba.njit(forceinline=True, **_NO_WRAPPERS)


def internal(**options):
    """Compile a function that kernels call; it is cached with them."""
    return numba.njit(nogil=True, **_NO_WRAPPERS, **options)


#: Whether Numba simulates the GPU: its kernels are then plain Python.
SIMULATED = bool(numba.config.ENABLE_CUDASIM)

#: Compile what threads of a GPU call: inlined there; where the GPU is simulated, for Python.
for_gpu = kernel() if SIMULATED else inlined


@inlined
def copy_values(target, at, source, start, count):
    """Set ``target[at : at + count]`` to ``source[start : start + count]``.

    An assignment of slices would do; Numba compiles its error message along, for seconds.
    """
    for i in range(count):
        target[at + i] = source[start + i]
