"""SGD in the eigenbasis on NumPy arrays."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np


class NumPySimulation:
    """Whole-array operations in place, on one thread or on equal parts of the state.

    SFC64 is the fastest bit generator of NumPy. Filling arrays and elementwise operations release
    the interpreter lock, so threads help; each part then has a generator of its own, and sums
    come from einsum: the threads of BLAS would compete with the parts.
    """

    def __init__(self, problem, step_size, dtype="float64", threads=1, seed=0):
        spectrum = problem.spectrum.expand()
        edges = np.linspace(0, spectrum.dim, threads + 1).astype(int)
        self.parts = [
            _Part(
                spectrum.eigenvalues[start:stop].astype(dtype),
                int(np.clip(spectrum.num_dominant - start, 0, stop - start)),
                problem.noise.std, problem.initial, step_size, child,
                np.dot if threads == 1 else partial(np.einsum, "i,i->"),
            )
            for start, stop, child in zip(
                edges[:-1], edges[1:], np.random.SeedSequence(seed).spawn(threads), strict=True
            )
        ]  # fmt: skip
        self.map = map if threads == 1 else ThreadPoolExecutor(threads).map

    def run(self, num_steps):
        """Advance and return loss and alignment before every step."""
        losses, alignments = np.empty((2, num_steps))
        for t in range(num_steps):
            loss, dominant, bulk = np.sum(list(self.map(_Part.advance, self.parts)), axis=0)
            losses[t], alignments[t] = loss, dominant / (dominant + bulk)
        return losses, alignments


class _Part:
    """Some of the coordinates, the dominant ones first."""

    def __init__(self, lam, num_dominant, std, initial, step_size, seed, dot):
        self.lam, self.k, self.std, self.step_size = lam, num_dominant, std, step_size
        self.dot = dot
        self.rng = np.random.Generator(np.random.SFC64(seed))
        self.c = initial * self.rng.standard_normal(lam.size, lam.dtype)
        self.c = self.c.astype(lam.dtype, copy=False)
        self.gradient, self.noise = np.empty_like(lam), np.empty_like(lam)

    def advance(self):
        """Do a step; return loss and squared gradient of both bands before it."""
        gradient = np.multiply(self.lam, self.c, out=self.gradient)
        dominant, bulk = gradient[: self.k], gradient[self.k :]
        dot = self.dot
        row = 0.5 * dot(gradient, self.c), dot(dominant, dominant), dot(bulk, bulk)
        self.rng.standard_normal(out=self.noise, dtype=self.noise.dtype)
        self.noise *= self.std
        gradient += self.noise
        gradient *= self.step_size
        self.c -= gradient
        return row
