"""The sums of a row: what a step's expected odds and losses are made of, by bands.

With P the projection on a band, g the gradient, H the curvature and n the noise of a mini-batch:
``S_2 = |P g|^2``, ``S_3 = (P g)' H g``, ``S_4 = |P H g|^2``, ``N_1 = E (P n)' H n``,
``N_2 = E |P H n|^2``. Where P is of eigenvectors these are the sums of docs/model.md; for any other
P the expected odds of a step on the quadratic are what they say all the same.
"""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .curvature import Curvature

Array = NDArray[np.float64]
#: Noise vectors that are held, and multiplied, at once.
BLOCK = 8


def of_bands(a: Tensor, b: Tensor, vectors: Tensor) -> Tensor:
    """Return the inner products of columns of `a` and `b` in both bands, shape (2, columns).

    The bulk parts are projected, not differences of inner products: nothing cancels.
    """
    inside = [vectors.T @ x for x in (a, b)]
    rest = [x - vectors @ y for x, y in zip((a, b), inside, strict=True)]
    return torch.stack([(inside[0] * inside[1]).sum(0), (rest[0] * rest[1]).sum(0)])


def power_sums(gradient: Tensor, pulled: Tensor, vectors: Tensor) -> Array:
    """Return S_1 ... S_4 of both bands, shape (2, 4), S_1 unknown.

    Parameters
    ----------
    gradient, pulled : Tensor, shape (d,)
        g and H g.
    vectors : Tensor, shape (d, k)
    """
    pairs = ((gradient, gradient), (gradient, pulled), (pulled, pulled))
    sums = [of_bands(a[:, None], b[:, None], vectors)[:, 0] for a, b in pairs]
    known = torch.stack(sums, dim=1).cpu().numpy()
    return np.concatenate([np.full((2, 1), np.nan), known], axis=1)


class NoiseSums(NamedTuple):
    """What mini-batches say of the noise, one batch an entry of the last axis.

    Attributes
    ----------
    first, second : ndarray of float64, shape (2, batches)
        ``(P n)' H n`` and ``|P H n|^2``, whose means are N_1 and N_2.
    sums : ndarray of float64, shape (2, 3, batches)
        Their means are R_4, R_5 and R_6.
    fourth : ndarray of float64, shape (2,)
        K, from pairs of batches.
    """

    first: Array
    second: Array
    sums: Array
    fourth: Array

    @property
    def constants(self) -> Array:
        """N_1, N_2 and K of both bands, shape (2, 3)."""
        return np.stack([self.first.mean(-1), self.second.mean(-1), self.fourth], axis=1)


def noise_sums(
    curvature: Curvature,
    gradients: Iterable[Tensor],
    gradient: Tensor,
    pulled: Tensor,
    vectors: Tensor,
) -> NoiseSums:
    """Return the sums of the noise of mini-batches, one product each.

    Parameters
    ----------
    curvature : Curvature
    gradients : iterable of Tensor, shape (d,)
        Those of mini-batches, independent of one another.
    gradient, pulled : Tensor, shape (d,)
        g and H g.
    vectors : Tensor, shape (d, k)
    """
    first, second, sums, squares, num_pairs = [], [], [], torch.zeros(2, device="cpu"), 0
    for block in _blocks(gradients):
        noise = torch.stack(block, dim=1) - gradient[:, None]
        kicks = curvature.times(noise)
        first.append(of_bands(noise, kicks, vectors))
        second.append(of_bands(kicks, kicks, vectors))
        by_g, by_pulled = (of_bands(x[:, None], kicks, vectors) for x in (gradient, pulled))
        sums.append(torch.stack([by_g**2, by_g * by_pulled, by_pulled**2], dim=1))
        square, count = _of_pairs(kicks, vectors)
        squares, num_pairs = squares + square.cpu(), num_pairs + count
    if not first or sum(part.shape[1] for part in first) < 2:
        raise ValueError("noise_batches must be at least 2 mini-batches")
    joined = [torch.cat(parts, dim=-1).cpu().numpy() for parts in (first, second, sums)]
    return NoiseSums(joined[0], joined[1], joined[2], (squares / max(num_pairs, 1)).numpy())


def _blocks(gradients: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """At most `BLOCK` at once."""
    rest = iter(gradients)
    while block := list(itertools.islice(rest, BLOCK)):
        yield block


def _of_pairs(kicks: Tensor, vectors: Tensor) -> tuple[Tensor, int]:
    """Sum of the squared inner products of pairs of columns in both bands, and their number."""
    inside = vectors.T @ kicks
    rest = kicks - vectors @ inside
    grams = torch.stack([part.T @ part for part in (inside, rest)]) ** 2
    upper = torch.triu(grams, diagonal=1).sum((1, 2))
    count = kicks.shape[1]
    return upper, count * (count - 1) // 2
