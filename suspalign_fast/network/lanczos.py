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


class Lanczos:
    """A growing orthonormal basis in which a symmetric matrix is tridiagonal.

    Parameters
    ----------
    times : callable
        ``times(vector)`` is the product of the matrix with a vector.
    start : Tensor of float64, shape (d,)
        Not zero.
    limit : int
        Vectors that the basis may have.

    Attributes
    ----------
    steps : int
        Vectors of the basis, and products so far.
    """

    def __init__(self, times: Callable[[Tensor], Tensor], start: Tensor, limit: int) -> None:
        self._times = times
        self._basis = torch.empty(limit, start.numel(), dtype=torch.float64, device=start.device)
        self._diagonal, self._beside = np.zeros(limit), np.zeros(limit)
        self._next = start / torch.linalg.vector_norm(start)
        self.steps = 0

    @property
    def basis(self) -> Tensor:
        """The basis, one vector a row."""
        return self._basis[: self.steps]

    @property
    def beside(self) -> float:
        """What the next vector is multiplied by in the last product."""
        return float(self._beside[self.steps - 1])

    @property
    def is_whole(self) -> bool:
        """Whether the basis spans a space that the matrix does not leave, or may not grow."""
        largest = np.abs(self._diagonal[: self.steps]).max() + self._beside[: self.steps].max()
        return self.steps == len(self._basis) or self.beside <= EXACT * largest

    def grow(self) -> None:
        """Add a vector, with one product."""
        step = self.steps
        self._basis[step] = self._next
        self.steps = step + 1
        vector = self._times(self._basis[step])
        self._diagonal[step] = float(vector @ self._basis[step])
        for _ in range(2):
            vector = vector - self.basis.T @ (self.basis @ vector)
        size = torch.linalg.vector_norm(vector)
        self._beside[step] = float(size)
        self._next = vector / size

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
    while not space.is_whole:
        space.grow()
    nodes, parts = space.eigenpairs()
    return nodes, total * parts[0] ** 2
