"""Exact chances of differences of sums of squares of normals (Imhof, 1961, Biometrika 48)."""

from itertools import pairwise

import numpy as np

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)
_EDGES = np.concatenate([[0.0], np.geomspace(1e-6, 1e7, 300)])


def chance_above(factors, variance, mean_sq, offset=0.0):
    """Chance that ``sum factors g^2`` exceeds `offset`; g has variance and squared mean given."""
    random = variance > 0.0
    rest = offset - np.sum((factors * mean_sq)[~random])
    a, mu = (factors * variance)[random], (mean_sq / np.where(random, variance, 1.0))[random]
    scale = np.abs(a).max()
    a, rest = (a / scale)[:, None], rest / scale
    total = 0.0
    for low, high in pairwise(_EDGES):
        u = (high - low) / 2.0 * _NODES + (high + low) / 2.0
        x = a * u
        angle = 0.5 * (np.arctan(x) + mu[:, None] * x / (1.0 + x * x)).sum(0) - 0.5 * rest * u
        decay = (0.25 * np.log1p(x * x) + 0.5 * mu[:, None] * x * x / (1.0 + x * x)).sum(0)
        total += (high - low) / 2.0 * np.sum(_WEIGHTS * np.sin(angle) / u * np.exp(-decay))
    return 0.5 + total / np.pi
