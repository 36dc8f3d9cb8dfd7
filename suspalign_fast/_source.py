"""What code says, as a text that no version of Python changes: its source, where that is known."""

import ast
import functools
import linecache
import platform
import types
from collections.abc import Iterator

#: How the text of code begins of which only the bytecode is known.
BYTECODE = "bytecode of Python"
#: Texts that are kept.
KEPT = 1024


@functools.lru_cache(maxsize=KEPT)
def source_of(code: types.CodeType) -> str:
    """Return what a function's code does: names of its arguments, and its statements.

    Its own name, documentation, comments and places do not count; values of defaults are no code.
    Where the source is not known, or is no longer that of the code, its bytecode stands for it,
    with the version of Python that made it.

    Examples
    --------
    >>> from suspalign_fast._source import source_of
    >>> source_of(compile("x", "nowhere", "eval")).startswith("bytecode of Python 3")
    True
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
    if len(found) != 1:  # of two on one line nobody knows which
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
