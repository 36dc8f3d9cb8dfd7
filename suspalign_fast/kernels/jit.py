"""How kernels are compiled: one decorator, and a disk cache that cannot go stale."""

import contextlib
import functools
import hashlib
import itertools
import os
import pickle
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import llvmlite
import numba
from numba import extending
from numba.core import caching, sigutils
from numba.core.bytecode import FunctionIdentity
from numba.core.ccallback import CFunc

from ..base.reports import NotCompiledError

#: Makes a compiled function, whose types Numba infers, of a plain one.
Decorator: TypeAlias = Callable[[Callable[..., Any]], Any]
intrinsic: Any = extending.intrinsic

_KERNELS = Path(__file__).resolve().parent
#: What kernels take from outside of their folder: the layout of a row, and its formulas.
_OUTSIDE = ("physics/layout.py", "physics/terms.py")
#: Settings of Numba's, variables of the environment without their NUMBA_, that change machine code.
_SETTINGS = (
    "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "ENABLE_AVX",
    "CPU_NAME", "CPU_FEATURES", "USING_SVML", "DISABLE_INTEL_SVML", "ENABLE_CUDASIM",
    "ENABLE_PROFILING", "EXTEND_VARIABLE_LIFETIMES", "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS",
    "DEBUG_NRT", "NRT_STATS",
)  # fmt: skip

#: Caches of other sources or versions: so many of the last used are kept, unless they have not been
#: used for so many seconds, and all that were used so short a time ago.
KEPT_CACHES = 8
KEPT_SECONDS = 30 * 24 * 3600.0
BUSY_SECONDS = 3600.0


def digested_sources(folder: Path = _KERNELS) -> list[Path]:
    """Return every source file that can change a kernel: those of this folder, and two of physics.

    What is compiled lives in the folder, and takes neither functions nor constants from elsewhere
    in the package (a test looks).
    """
    return sorted([*folder.rglob("*.py"), *(folder.parent / name for name in _OUTSIDE)])


def digest_of(folder: Path) -> str:
    """Digest of the sources of a folder of kernels, and of what compiles them."""
    digest = hashlib.sha256(f"numba {numba.__version__} llvmlite {llvmlite.__version__}".encode())
    for path in digested_sources(folder):
        source = path.read_bytes()
        digest.update(f"\0{path.relative_to(folder.parent).as_posix()}\0{len(source)}\0".encode())
        digest.update(source)
    return digest.hexdigest()[:16]


@functools.cache
def source_digest() -> str | None:
    """Return the digest of the kernels of this process, None where the sources are no files.

    In a zip archive, say, or where compiled files alone were installed.
    """
    try:
        return digest_of(_KERNELS)
    except OSError:
        return None


def cache_name(sources: str) -> str:
    """Name of the cache of kernels of a digest, compiled under the present settings."""
    settings = [(name, getattr(numba.config, name, None)) for name in _SETTINGS]
    return hashlib.sha256(f"{sources} {settings}".encode()).hexdigest()[:16]


def _candidate_directories():
    """Yield directories for caches, and whether they are this package's alone."""
    if configured := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(configured), False
    base = os.environ.get("XDG_CACHE_HOME")
    with contextlib.suppress(RuntimeError):  # raised where there is no home directory
        yield (Path(base) if base else Path.home() / ".cache") / "suspalign-fast", True
    user = os.getuid() if hasattr(os, "getuid") else "user"
    yield Path(tempfile.gettempdir()) / f"suspalign-fast-{user}", True


@functools.cache
def cache_directory() -> Path | None:
    """Return the first cache directory that can be written and trusted, None where there is none.

    What lies in it is executed: it must belong to this user, and nobody else may write to it. There
    is none where nobody knows what the kernels were made of.
    """
    digest = source_digest()
    if digest is None:
        return None
    for base, is_own in _candidate_directories():
        directory = base / cache_name(digest)
        try:
            if is_own and not _is_closed(base):
                continue
            is_new = not directory.exists()
            if not _is_closed(directory):
                continue
            with tempfile.TemporaryFile(dir=directory):
                os.utime(directory)  # used now
        except OSError:
            continue
        if is_own and is_new:
            remove_old_caches(base, keep=directory)
        return directory
    return None


def remove_old_caches(base: Path, keep: Path) -> None:
    """Remove caches of other sources or versions from a folder that is this package's alone.

    Processes that use one of them compile anew what they had not loaded yet. Whatever is not a
    folder of this user's with a digest for a name stays; links are not followed.

    Parameters
    ----------
    base : Path
    keep : Path
        The cache of this process.
    """
    others = []
    with contextlib.suppress(OSError), os.scandir(base) as entries:
        for entry in entries:
            if _DIGEST_NAME.fullmatch(entry.name) and entry.name != keep.name:
                with contextlib.suppress(OSError):  # another process has just removed it
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode) and _is_mine(status):
                        others.append((status.st_mtime, entry.path))
    others.sort(reverse=True)
    now = time.time()
    for rank, (used, path) in enumerate(others):
        if now - used > (KEPT_SECONDS if rank < KEPT_CACHES else BUSY_SECONDS):
            shutil.rmtree(path, ignore_errors=True)


_DIGEST_NAME = re.compile("[0-9a-f]{16}")


def _is_mine(status):
    return not hasattr(os, "getuid") or status.st_uid == os.getuid()


def _is_closed(directory):
    """Make a directory of this user's that others cannot write to, unless there is none to make."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not hasattr(os, "getuid"):
        return True
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or not _is_mine(status):
        return False
    if status.st_mode & _OTHERS_WRITE:
        directory.chmod(status.st_mode & ~_OTHERS_WRITE & 0o7777)
    return True


_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class _PackageLocator(caching._CacheLocator):
    """Cache location of this package's kernels.

    Numba invalidates a cached kernel when its own file changes. Ours inline functions of other
    files, so the digest of all of them names the directory instead.
    """

    def __init__(self, py_file):
        self._py_file = py_file

    def get_cache_path(self):
        return str(cache_directory())

    def ensure_cache_path(self):
        with contextlib.suppress(OSError):  # where it cannot be made again, nothing is saved
            _is_closed(cache_directory())

    def get_source_stamp(self):
        return source_digest()

    def get_disambiguator(self):
        return None

    @classmethod
    def from_function(cls, py_func, py_file):
        inside = _KERNELS in Path(py_file).resolve().parents
        return cls(py_file) if inside and cache_directory() is not None else None


class _CheckedFile(caching.IndexDataCacheFile):
    """Files of the cache with a digest: one that is damaged, cut or locked is made anew."""

    def _load_index(self):
        try:
            _check_regular(self._index_path)
            return super()._load_index()
        except Exception:  # whatever a damaged pickle raises
            return {}

    def _load_data(self, name):
        _check_regular(self._data_path(name))
        data = Path(self._data_path(name)).read_bytes()
        digest, code = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(code).digest() != digest:
            raise OSError("the cached kernel is damaged")
        return pickle.loads(code)

    def _save_data(self, name, data):
        code = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(code).digest() + code)

    def save(self, key, data):
        with contextlib.suppress(OSError):  # a full disk: the kernel is there all the same
            super().save(key, data)


_DIGEST_BYTES = hashlib.sha256().digest_size


def check_enabled() -> None:
    """Raise NotCompiledError where Numba is told to compile nothing."""
    if numba.config.DISABLE_JIT:
        raise NotCompiledError(
            "Numba's compiler is switched off (NUMBA_DISABLE_JIT), and kernels and rules need it: "
            "unset that variable"
        )


def _refusing(function):
    """Return what stands for an entry point where nothing is compiled."""

    @functools.wraps(function)
    def refused(*_, **__):
        check_enabled()
        raise NotCompiledError("Numba's compiler was switched off when the package was imported")

    return refused


def _check_regular(path):
    """Raise OSError unless there is a file: a pipe would be waited for."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(f"{path} is not a regular file")


def _checked(function):
    """Have a function of Numba's use checked files, if it is cached."""
    cache = getattr(function, "_cache", None)
    if isinstance(cache, caching.Cache):
        mine = cache._cache_file
        base = mine._index_name.removesuffix(".nbi")
        cache._cache_file = _CheckedFile(mine._cache_path, base, mine._source_stamp)
    return function


def use_package_cache(caching_module: Any) -> None:
    """Have a module of Numba's keep what it compiles of these kernels where their digest says."""
    caching_module.CacheImpl._locator_classes.insert(0, _PackageLocator)


use_package_cache(caching)


def start_symbols_anywhere() -> None:
    """Let Numba number the functions that this process compiles from a random number on.

    A closure that is not inlined, and every loop in threads, is a symbol of its kernel's object
    file: the name of the function, a number, and the types of its arguments. Kernels of one factory
    share names and types. Were two processes to number alike, one that loads the object of each
    would have one symbol for two functions, and the wrong one would be called.
    """
    FunctionIdentity._unique_ids = itertools.count(secrets.randbits(56))


start_symbols_anywhere()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=start_symbols_anywhere)


def kernel(**options: Any) -> Decorator:
    """Compile an entry point called from Python: cached on disk wherever a directory allows it."""

    def compiled(function):
        if numba.config.DISABLE_JIT:
            return _refusing(function)
        made = numba.njit(cache=cache_directory() is not None, nogil=True, **options)(function)
        return _checked(made)

    return compiled


def c_function(signature: Any, function: Callable[..., Any]) -> Any:
    """Compile a C function of this folder, cached like a kernel."""
    check_enabled()
    made = CFunc(function, sigutils.normalize_signature(signature), {}, {})
    if cache_directory() is not None:
        made.enable_caching()
    _checked(made).compile()
    return made


#: What only other kernels call needs no way in from Python, which takes long to compile.
_NO_WRAPPERS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

#: Compile a building block that is always inlined into its caller.
inlined: Decorator = numba.njit(forceinline=True, **_NO_WRAPPERS)


def internal(**options: Any) -> Decorator:
    """Compile a function that kernels call; it is cached with them."""
    decorator: Decorator = numba.njit(nogil=True, **_NO_WRAPPERS, **options)
    return decorator


#: Whether Numba simulates the GPU: its kernels are then plain Python.
SIMULATED = bool(numba.config.ENABLE_CUDASIM)

#: Compile what threads of a GPU call: inlined there; where the GPU is simulated, for Python.
for_gpu: Decorator = kernel() if SIMULATED else inlined


@inlined
def copy_values(target, at, source, start, count):
    """Set ``target[at : at + count]`` to ``source[start : start + count]``.

    An assignment of slices would do; Numba compiles its error message along, for seconds.
    """
    for i in range(count):
        target[at + i] = source[start + i]
