"""What the parts of the class of spectra have in common: it is made of `Parts`."""

from abc import ABC, abstractmethod
from typing import Self

from .parts import Parts


class Made(ABC):
    """Something that is made of parts, and can be taken apart."""

    @classmethod
    @abstractmethod
    def _of(cls, parts: Parts) -> Self:
        """Make one without copying the eigenvalues."""

    @abstractmethod
    def _parts(self) -> Parts:
        """Return what it is made of."""
