"""Texts of users and files as they are printed: no part of them can command a terminal."""

from typing import Any

#: Descriptions of values are cut to this length.
LONGEST = 80


def printable(text: str) -> str:
    """Return a text in which whatever cannot be printed is escaped, line ends included."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def is_unicode(text: str) -> bool:
    """Whether a text is one: no half of a pair that stands alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def lines(text: str) -> str:
    """Return a text of several lines, each of them printable."""
    return "\n".join(map(printable, text.split("\n")))


def plain(text: Any) -> str:
    """Return a text on one line in which whatever cannot be printed is escaped."""
    return printable(" ".join(str(text).split()))


def clipped(text: Any, longest: int = LONGEST) -> str:
    """Return a text on one printable line that is not longer than so many letters."""
    shown = plain(text)
    return shown if len(shown) <= longest else shown[: longest - 3] + "..."


def drawn(text: Any, longest: int = 40) -> str:
    """Return a text of a picture: short, of letters that every font has, none of them a formula."""
    shown = "".join(c if " " <= c <= "~" else "?" for c in str(text))
    shown = shown if len(shown) <= longest else shown[: longest - 3] + "..."
    return shown.replace("$", r"\$")


def describe(value: Any) -> str:
    """Return the repr of a value on one short line, its type where it has none."""
    try:
        return clipped(repr(value))
    except Exception:  # whatever an object of a user's raises; integers may be too long
        if isinstance(value, int):
            return f"an integer of {value.bit_length():,} bits"
        return clipped(f"an object of type {type(value).__name__!r} that cannot be printed")
