"""What is wrong with a user's function, out of a page of Numba's."""

import re
from pathlib import Path

#: Lines that only say that something is wrong.
_EMPTY = re.compile(r"^(Failed in \w+ mode pipeline|- Resolution failure|Invalid use of|>>>|\s*$)")
_PLACE = re.compile(r'^File "(?P<file>.+)", line (?P<line>\d+):$')
_MARK = re.compile(r"^\s*\^\s*$")
_ROW_TYPE = re.compile(r"Row\(int64(, (array\(float64, \dd, \w\)|float64))*\)")
_NO_FLOAT = re.compile(r"No conversion from (?P<type>.+) to float64 for")


def explain(error: Exception, source: str) -> str:
    """Return reason and line of a compile error in one line.

    Parameters
    ----------
    error : Exception
        Raised by Numba.
    source : str
        File of the function: other files are not blamed.
    """
    lines = str(error).splitlines()
    reason = next((line.strip() for line in lines if not _EMPTY.match(line)), "")
    reason = _ROW_TYPE.sub("Row", reason or type(error).__name__).rstrip(". :")
    if wrong := _NO_FLOAT.match(reason):
        return f"it returns {wrong['type']}, not a float"
    if place := _place(lines, Path(source).name):
        return f"{reason}, {place}"
    return reason


def _place(lines: list[str], name: str) -> str:
    """Return the first place in a file that the error names, with its source line."""
    for at, line in enumerate(lines):
        place = _PLACE.match(line)
        if place is None or Path(place["file"]).name != name:
            continue
        marks = [i for i in range(at + 1, len(lines)) if _MARK.match(lines[i])]
        code = f": {lines[marks[0] - 1].strip()}" if marks else ""
        return f"line {place['line']} of {name}{code}"
    return ""
