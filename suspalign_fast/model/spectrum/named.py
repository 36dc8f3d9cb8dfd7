"""Spectra by name: what options and study files may ask for, and what they say of it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_type_hints

from ...base import checks
from .spectrum import Spectrum
from .stored import read_npy

#: Between the ends of a pair in a text, as in ``100..80``.
PAIR = ".."


@dataclass(frozen=True)
class Family:
    """A way to make a spectrum of named values: ``make(**values)``, whose signature names them."""

    name: str
    make: Callable[..., Spectrum]
    about: str
    example: str

    @cached_property
    def parameters(self) -> dict[str, tuple[Any, ...]]:
        """Types of the values by name, in the order in which texts list them."""
        hints = get_type_hints(self.make)
        names = inspect.signature(self.make).parameters
        return {name: get_args(hints[name]) or (hints[name],) for name in names}

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """Names of the values without a default."""
        names = inspect.signature(self.make).parameters.values()
        return tuple(p.name for p in names if p.default is inspect.Parameter.empty)

    @property
    def is_file(self) -> bool:
        """Whether it reads a file."""
        return "path" in self.parameters

    def is_whole(self, name: str) -> bool:
        """Whether a value is an integer."""
        return int in self.parameters[name]

    def spectrum(self, values: Mapping[str, Any]) -> Spectrum:
        """Make the spectrum; floats without a fraction are integers, texts like ``7..1`` pairs."""
        for name in values:
            if name not in self.parameters:
                raise ValueError(f"{self.name} takes {', '.join(self.parameters)}, got {name!r}")
        missing = [name for name in self.needed if name not in values]
        if missing:
            raise ValueError(f"{self.name} needs {', '.join(missing)}, got {_said(values)}")
        return self.make(**{name: self._value(name, value) for name, value in values.items()})

    def _value(self, name: str, value: Any) -> Any:
        if str in self.parameters[name]:
            return value
        if isinstance(value, str):
            return number_or_pair(name, value)
        if isinstance(value, float) and self.is_whole(name) and value.is_integer():
            return int(value)
        return value

    def values(self, text: str) -> dict[str, Any]:
        """Return the values that a text lists: in their order, or as ``name=value``."""
        found: dict[str, Any] = {}
        in_order = list(self.parameters)
        for part in text.split(","):
            name, equals, value = part.rpartition("=")
            if equals:
                in_order.clear()
                name = name.strip().replace("-", "_")
            elif in_order:
                name = in_order.pop(0)
            if name not in self.parameters:
                raise ValueError(f"{part!r} is none of its values")
            if name in found:
                raise ValueError(f"{name} is there twice")
            found[name] = number_or_pair(name, value)
        return found


def number_or_pair(name: str, text: str) -> Any:
    """Return the number of a text, or the two of one like ``100..80``."""
    try:
        if PAIR in text:
            first, last = text.split(PAIR)
            return float(first), float(last)
        return _number(text)
    except (ValueError, OverflowError):
        raise checks.wrong(name, text, f"a number or a pair like 100{PAIR}80") from None


def _number(text: str) -> float:
    """Return an integer where a text is one, also one like ``1e6``."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
    return int(number) if number.is_integer() and "." not in text else number


def _said(values: Mapping[str, Any]) -> str:
    return checks.pairs(values) or "nothing"


def from_file(path: str) -> Spectrum:
    """Load a spectrum file, or the spectrum of a trace."""
    return Spectrum.load(path)


def from_npy(path: str, num_dominant: int) -> Spectrum:
    """Read all eigenvalues from a ``.npy`` file."""
    return Spectrum(read_npy(path), num_dominant)


#: All families by name: options and study files find them here.
FAMILIES = {
    family.name: family
    for family in (
        Family(
            "linear_bands",
            Spectrum.linear_bands,
            "two bands of evenly spaced eigenvalues",
            "500,50,100..80,7..1,gap_ratio=10",
        ),
        Family(
            "power_law",
            Spectrum.power_law,
            "eigenvalues LARGEST * i^-EXPONENT",
            "1e6,1000,1.5,gap_ratio=10",
        ),
        Family(
            "two_level",
            Spectrum.two_level,
            "all dominant eigenvalues equal, all others equal",
            "1e6,1000,10,1",
        ),
        Family("eigenvalues", from_npy, "all eigenvalues, in any order", "FILE.npy"),
        Family("file", from_file, "a spectrum file (Spectrum.save) or a trace", "FILE"),
    )
}


# --- Spectra that ship with the package ----------------------------------------------------------


_PACKAGE = Path(__file__).resolve().parents[2]


def digits_mlp_path() -> Path:
    """Path of the Gauss-Newton spectrum of a network trained on handwritten digits.

    Inside an installed package, or in ``data/`` of a checkout.
    """
    installed = _PACKAGE / "data" / "digits_mlp.h5"
    return installed if installed.is_file() else _PACKAGE.parent / "data" / "digits_mlp.h5"


def digits_mlp() -> Spectrum:
    """Load the Gauss-Newton spectrum of a network trained on handwritten digits."""
    return Spectrum.load(digits_mlp_path())
