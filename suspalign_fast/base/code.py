"""What code says, as a text that no version of Python changes: its source, where that is known."""

import ast
import dis
import enum
import functools
import linecache
import platform
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numba.core import types as numba_types
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher
from numba.core.typing.templates import builtin_registry

from . import checks

#: How the text of code begins of which only the bytecode is known.
BYTECODE = "bytecode of Python"
#: Texts that are kept.
KEPT = 1024


@functools.lru_cache(maxsize=KEPT)
def source_of(code: types.CodeType) -> str:
    """Return what a function's code does: names of its arguments, and its statements.

    Its name, documentation and comments do not count, nor do values of defaults. Where the source
    is unknown, or no longer that of the code, the bytecode and the version of Python stand for it.
    """
    count = code.co_argcount + code.co_kwonlyargcount
    kinds = code.co_flags & (0x04 | 0x08)  # more arguments, named or not
    head = f"{code.co_argcount} {count} {kinds} {code.co_varnames[:count]}"
    body = _statements(code)
    if body is None:
        version = ".".join(platform.python_version_tuple()[:2])
        return "\n".join([f"{BYTECODE} {version}", head, *_raw(code)])
    return "\n".join([head, *(ast.unparse(statement) for statement in body)])


def _statements(code: types.CodeType) -> list[ast.stmt] | None:
    """Find the statements of a function in its file, None where they are not there."""
    try:
        text = "".join(linecache.getlines(code.co_filename))
        if code not in _inside(compile(text, code.co_filename, "exec", dont_inherit=True)):
            return None
        found = [node for node in ast.walk(ast.parse(text)) if _begins(node) == _place(code)]
    except (SyntaxError, ValueError, RecursionError, OSError):
        return None
    if len(found) != 1:  # two on one line cannot be told apart
        return None
    node = found[0]
    if isinstance(node, ast.Lambda):
        return [ast.Return(node.body)]
    assert isinstance(node, ast.FunctionDef)
    return node.body[int(ast.get_docstring(node) is not None) :] or [ast.Pass()]


def _place(code: types.CodeType) -> tuple[str, int]:
    return code.co_name, code.co_firstlineno


def _begins(node: ast.AST) -> tuple[str, int] | None:
    """Name and first line of a function, as its code has them."""
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    if isinstance(node, ast.FunctionDef):
        lines = [part.lineno for part in node.decorator_list]
        return node.name, min([node.lineno, *lines])
    return None


def _inside(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield code, and all code inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _inside(constant)


def _raw(code: types.CodeType) -> Iterator[str]:
    for part in _inside(code):
        yield f"{part.co_code.hex()} {part.co_names}"
        for constant in part.co_consts:
            if isinstance(constant, frozenset):
                yield repr(sorted(map(repr, constant)))
            elif not isinstance(constant, types.CodeType):
                yield repr(constant)


# --- What a function of Python computes, as a text: its code, and the values that it refers to ---


#: Values that their own text tells apart from any other.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), range, slice)
_NUMPYS = (np.dtype, numba_types.Type)
#: Packages whose functions and classes are told by their names.
_LIBRARIES = ("numpy", "numba", "llvmlite", "scipy")
_PYTHON = Path(sysconfig.get_path("stdlib"))
#: Options of a compiled function that change what it computes.
_OPTIONS = ("fastmath", "error_model", "boundscheck")


def described(function: Any) -> str:
    """Return a text that is the same for functions that compute the same in the same way.

    Functions, compiled or not, are followed into what they call by name; constants, closures and
    defaults into their values. Names, comments and places of functions do not count.

    Parameters
    ----------
    function : function, or one compiled by Numba

    Raises
    ------
    ValueError
        If it refers to something that nobody can tell from other things of its kind.

    Examples
    --------
    >>> from suspalign_fast.base.code import described
    >>> def twice(x):
    ...     return 2 * x
    >>> def double(x):  # the same
    ...     return 2 * x
    >>> def thrice(x):
    ...     return 3 * x
    >>> described(twice) == described(double), described(twice) == described(thrice)
    (True, False)
    """
    return _described(function)[0]


def compiled_parts(function: Any) -> list[Any]:
    """Return the compiled functions that a function refers to, itself among them."""
    return _described(function)[1].compiled


def _described(function: Any) -> "tuple[str, _Described]":
    found = _Described()
    try:
        return "\n".join(found.of(function, getattr(function, "__name__", ""))), found
    except RecursionError:
        raise ValueError("a rule must refer to values that are not nested so deeply") from None


class _Described:
    """One description: the functions that were met so far, and the values that it is inside of."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._inside: list[int] = []
        self.compiled: list[Any] = []

    def of(self, value: Any, name: str) -> Iterator[str]:
        """Yield the parts of a value that has a name."""
        if id(value) in self._inside:
            yield f"the value {len(self._inside) - self._inside.index(id(value))} around it"
            return
        self._inside.append(id(value))
        yield from self._of(value, name)
        self._inside.pop()

    def _of(self, value: Any, name: str) -> Iterator[str]:
        if known := _library_name(value):
            yield known
            yield from self._overloads(value, name)
        elif isinstance(value, Dispatcher):
            made: Any = value
            self.compiled.append(made)
            how = {option: made.targetoptions.get(option) for option in _OPTIONS}
            given = [] if made._can_compile else made.signatures
            yield from self._function(made.py_func, f"{how} {made.locals} {given}")
        elif isinstance(value, enum.Enum):
            yield f"{type(value).__qualname__}.{value.name}"
            yield from self.of(value.value, name)
        elif isinstance(value, _PLAIN):
            yield repr(value)
        elif isinstance(value, _NUMPYS):
            yield str(value)
        elif isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
            array = np.asarray(value)
            yield f"{array.dtype} {array.shape} {array.tobytes().hex()}"
        elif isinstance(value, tuple | list | set | frozenset | dict):
            yield from self._container(value, name)
        elif isinstance(value, type):
            yield from self._class(value, name)
        else:
            yield from self._called(value, name)

    def _container(self, value: Any, name: str) -> Iterator[str]:
        yield f"{type(value).__name__} {len(value)} {getattr(value, '_fields', '')}"
        if isinstance(value, set | frozenset):
            yield from sorted("\n".join(self.of(part, name)) for part in value)
        else:
            for part in value.items() if isinstance(value, dict) else value:
                yield from self.of(part, name)

    def _class(self, value: Any, name: str) -> Iterator[str]:
        yield f"class {value.__qualname__}"
        if issubclass(value, enum.Enum):
            yield from self._named(value.__members__.items())
        if hasattr(value, "_fields"):
            yield str(value._fields)
        if hasattr(value, "class_type"):  # made by jitclass
            yield str(value.class_type.struct)
            yield from self._named(sorted(value.class_type.jit_methods.items()))
        yield from self._overloads(value, name)

    def _called(self, value: Any, name: str) -> Iterator[str]:
        """Yield the parts of what is no number, text or array: a function, of some kind."""
        plain = _plain(value)
        if isinstance(value, types.ModuleType):
            yield f"module {value.__name__}"
        elif isinstance(plain, types.FunctionType):
            given = value.types if getattr(value, "_frozen", False) else ""
            is_c = isinstance(value, CFunc)
            kind = getattr(value, "_sig", None) if is_c else type(value).__name__
            yield from self._function(plain, f"{kind} {given}")
            yield from self._overloads(value, name)
        else:
            raise ValueError(
                f"a rule must refer to numbers, arrays and functions that can be told from others, "
                f"got {name} = {checks.describe(value)}"
            )

    def _function(self, plain: types.FunctionType, how: str) -> Iterator[str]:
        """Yield code, defaults, closure and globals; one that was met before is a number."""
        number = self._numbers.setdefault((plain, how), len(self._numbers))
        yield f"function {number}"
        if number < len(self._numbers) - 1:
            return
        yield how
        yield source_of(plain.__code__)
        given = {"defaults": plain.__defaults__, "defaults by name": plain.__kwdefaults__}
        yield from self._named(given.items())
        yield from self._named(_cells(plain).items())
        yield from self._named(sorted(_globals_of(plain).items()))

    def _overloads(self, value: Any, name: str) -> Iterator[str]:
        """Yield what users have Numba call in place of a function or class."""
        for known, kind in builtin_registry.globals:
            for template in getattr(kind, "templates", ()) if known is value else ():
                instead = getattr(template, "_overload_func", None)
                if instead is not None and not _library_name(instead):
                    yield from self.of(instead, name)

    def _named(self, values: Iterable[tuple[str, Any]]) -> Iterator[str]:
        for name, value in values:
            yield name
            yield from self.of(value, name)


def _plain(value: Any) -> Any:
    """Return the function of Python that a compiled function, ufunc or intrinsic was made of."""
    plain = getattr(value, "py_func", getattr(value, "__wrapped__", None))
    return plain if isinstance(plain, types.FunctionType) else value


def _library_name(value: Any) -> str:
    """Return the name of a function or class of Python's or a library's, "" of anything else."""
    if isinstance(value, np.ufunc):
        known = str(value.__name__)
        return f"numpy.{known}" if getattr(np, known, None) is value else ""
    name, module = (getattr(value, key, None) for key in ("__qualname__", "__module__"))
    if isinstance(plain := _plain(value), types.FunctionType):
        return f"{module}.{name}" if _is_of_library(plain.__code__.co_filename) else ""
    if module is None:  # methods, like random.random
        module = getattr(type(getattr(value, "__self__", None)), "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str):
        return ""
    top = module.partition(".")[0]
    file = getattr(sys.modules.get(top), "__file__", None)
    is_known = top in sys.builtin_module_names or (file is not None and _is_of_library(file))
    return f"{module}.{name}" if is_known else ""


@functools.cache
def _is_of_library(file: str) -> bool:
    """Whether a source file is Python's own or a library's."""
    path = Path(file)
    known = (sys.modules[name].__file__ for name in _LIBRARIES if name in sys.modules)
    roots = [Path(str(place)).parent for place in known]
    inside = path.relative_to(_PYTHON).parts if path.is_relative_to(_PYTHON) else ("site-packages",)
    return (
        file.startswith("<frozen ")
        or any(path.is_relative_to(root) for root in roots)
        or inside[0] not in ("site-packages", "dist-packages")
    )


def _cells(function: types.FunctionType) -> dict[str, Any]:
    """Values of a closure, with their names."""
    cells = function.__closure__ or ()
    return {
        name: cell.cell_contents
        for name, cell in zip(function.__code__.co_freevars, cells, strict=True)
    }


def _globals_of(function: types.FunctionType) -> dict[str, Any]:
    """Global names that the code of a function and of those inside it reads, with their values.

    Of a module what the code may read from it, and so on.
    """
    names = sorted(set(_names(function.__code__)))
    read = sorted(set(_names_read(function.__code__)))  # the others are attributes
    found: dict[str, Any] = {}
    left: list[tuple[str, dict[str, Any]]] = [("", function.__globals__)]
    modules = set()
    while left:
        place, known = left.pop()
        for name in names if place else read:
            if name in known:
                value = found[place + name] = known[name]
                if isinstance(value, types.ModuleType) and value.__name__ not in modules:
                    modules.add(value.__name__)
                    left.append((f"{place}{name}.", vars(value)))
    return found


def _names_read(code: types.CodeType) -> Iterator[str]:
    """Names that code and what is inside it looks up among globals."""
    yield from (i.argval for i in dis.get_instructions(code) if i.opname in _LOOK_UPS)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_read(constant)


#: Instructions that look up a name among globals.
_LOOK_UPS = ("LOAD_GLOBAL", "LOAD_NAME")


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
