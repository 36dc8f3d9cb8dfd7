"""The same simulation as a good user of another library would write it."""

import numpy as np


class NumPySimulation:
    """SGD in the eigenbasis on NumPy float64 arrays, loss and alignment of every step."""

    def __init__(self, problem, step_size, seed=0):
        spectrum = problem.spectrum.expand()
        self.lam = spectrum.eigenvalues
        self.k = spectrum.num_dominant
        self.std = problem.noise.std
        self.step_size = step_size
        self.rng = np.random.default_rng(seed)
        self.c = problem.initial * self.rng.standard_normal(spectrum.dim)
        self.noise = np.empty(spectrum.dim)

    def run(self, num_steps):
        """Advance and return loss and alignment before every step."""
        losses, alignments = np.empty((2, num_steps))
        for t in range(num_steps):
            gradient = self.lam * self.c
            losses[t] = 0.5 * np.dot(gradient, self.c)
            dominant, bulk = gradient[: self.k], gradient[self.k :]
            dominant_sq, bulk_sq = np.dot(dominant, dominant), np.dot(bulk, bulk)
            alignments[t] = dominant_sq / (dominant_sq + bulk_sq)
            self.rng.standard_normal(out=self.noise)
            self.noise *= self.std
            gradient += self.noise
            gradient *= self.step_size
            self.c -= gradient
        return losses, alignments
