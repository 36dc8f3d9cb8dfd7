"""The columns of a trace as attributes: their types, and what they are."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class TraceColumns(ABC):
    """What has the columns of a trace as items: every column of the package is an attribute."""

    @abstractmethod
    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column."""

    @property
    def step(self) -> NDArray[np.int64]:
        """Step t of every row, shape (rows,)."""
        return self["step"]

    @property
    def step_size(self) -> Array:
        """Step size assigned at every row; NaN where a schedule has ended."""
        return self["step_size"]

    @property
    def loss(self) -> Array:
        """Loss ``L(theta)``."""
        return self["loss"]

    @property
    def loss_dominant(self) -> Array:
        """Loss in the dominant subspace."""
        return self["loss_dominant"]

    @property
    def loss_bulk(self) -> Array:
        """Loss in the bulk subspace."""
        return self["loss_bulk"]

    @property
    def grad_sq_dominant(self) -> Array:
        """Squared norm of the gradient in the dominant subspace."""
        return self["grad_sq_dominant"]

    @property
    def grad_sq_bulk(self) -> Array:
        """Squared norm of the gradient in the bulk subspace."""
        return self["grad_sq_bulk"]

    @property
    def alignment(self) -> Array:
        """Alignment A in [0, 1]; NaN where the gradient is zero."""
        return self["alignment"]

    @property
    def critical_step_size(self) -> Array:
        """Critical step size under the run's update; see `power_sums.critical_step_size`.

        +inf where alignment falls and 0 where it rises for every step size.
        """
        return self["critical_step_size"]

    @property
    def power_sums(self) -> Array:
        """S_1 ... S_4 of the dominant and the bulk band, shape (rows, 2, 4)."""
        return self["power_sums"]

    @property
    def noise_sums(self) -> Array:
        """R_4 ... R_6 of the dominant and the bulk band, shape (rows, 2, 3)."""
        return self["noise_sums"]

    @property
    def cross_sums(self) -> Array:
        """C_1 ... C_3, V_1, V_2, X_4, X_5, W_4 of both bands under momentum, shape (rows, 2, 8).

        ``C_p = sum lambda^p c v`` with the velocity v, ``V_p = sum lambda^p v^2``; X and W the same
        with ``s^2`` in every term.
        """
        return self["cross_sums"]
