"""The Lanczos iteration, without restarts and with full orthogonalization."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

Array = NDArray[np.float64]
#: Residuals that rounding leaves.
EXACT = 1e-11
#: Vectors that the basis has room for at first.
FIRST = 128
#: Stands for zero in a denominator.
TINY = 1e-300


class Lanczos:
    """A growing orthonormal basis in which a symmetric matrix is tridiagonal.

    Where the matrix no longer leaves the space, a random vector beside it goes on: it finds the
    other directions of equal eigenvalues. `asymmetry` is how far products were from those of a
    symmetric matrix, over its size.
    """

    def __init__(self, times: Callable[[Tensor], Tensor], start: Tensor, limit: int) -> None:
        self._times = times
        first = min(limit, FIRST)
        self._basis = torch.empty(first, start.numel(), dtype=torch.float64, device=start.device)
        self._limit = limit
        self._generator = torch.Generator("cpu").manual_seed(1)
        self._diagonal, self._beside = np.zeros(limit), np.zeros(limit)
        self._next = start / torch.linalg.vector_norm(start)
        self.steps = 0
        self.asymmetry = 0.0

    @property
    def basis(self) -> Tensor:
        """The basis, one vector a row."""
        return self._basis[: self.steps]

    @property
    def beside(self) -> float:
        """What the next vector is multiplied by in the last product."""
        return float(self._beside[self.steps - 1])

    @property
    def is_full(self) -> bool:
        """Whether the basis may not grow any more."""
        return self.steps == self._limit

    @property
    def is_closed(self) -> bool:
        """Whether the matrix does not leave the space of the basis."""
        return self.beside == 0.0

    def grow(self) -> None:
        """Add a vector, with one product."""
        step = self.steps
        if step == len(self._basis):
            more = min(self._limit - step, step)
            self._basis = torch.cat([self._basis, torch.empty_like(self._basis[:more])])
        self._basis[step] = self._next
        self.steps = step + 1
        vector = self._times(self._basis[step])
        self._diagonal[step] = float(vector @ self._basis[step])
        largest = np.abs(self._diagonal[: self.steps]).max() + self._beside[: self.steps].max()
        if step > 0:
            before = float(vector @ self._basis[step - 1])
            apart = abs(before - self._beside[step - 1]) / max(largest, TINY)
            self.asymmetry = max(self.asymmetry, apart)
        vector = self._beside_basis(vector)
        size = float(torch.linalg.vector_norm(vector))
        if size > EXACT * largest:
            self._beside[step] = size
        elif not self.is_full:
            drawn = torch.randn(
                len(vector), generator=self._generator, dtype=torch.float64, device="cpu"
            )
            vector = self._beside_basis(drawn.to(vector.device))
            size = float(torch.linalg.vector_norm(vector))
        self._next = vector / max(size, TINY)

    def _beside_basis(self, vector: Tensor) -> Tensor:
        """What a vector has beside the basis."""
        for _ in range(2):
            vector = vector - self.basis.T @ (self.basis @ vector)
        return vector

    def eigenpairs(self) -> tuple[Array, Array]:
        """Return eigenvalues, ascending, and eigenvectors of the tridiagonal matrix."""
        values, parts = eigh_tridiagonal(
            self._diagonal[: self.steps], self._beside[: self.steps - 1]
        )
        return values, parts


def measure(times: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> tuple[Array, Array]:
    """Return nodes and weights of the spectral measure of a vector (Gauss quadrature).

    The weights add up to its squared norm: how much of it lies along eigenvectors of which
    eigenvalues.
    """
    total = float(start @ start)
    if total == 0.0:
        return np.zeros(0), np.zeros(0)
    space = Lanczos(times, start, min(steps, start.numel()))
    space.grow()
    while not (space.is_full or space.is_closed):
        space.grow()
    nodes, parts = space.eigenpairs()
    return nodes, total * parts[0] ** 2
