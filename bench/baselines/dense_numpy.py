"""SGD on a dense Hessian with random eigenvectors, as studies of alignment are written today."""

import numpy as np


class DenseProblem:
    """A Hessian H = V diag(lambda) V' with random orthonormal V, and a starting point."""

    def __init__(self, problem, step_size, seed=0):
        spectrum = problem.spectrum.expand()
        self.dim = spectrum.dim
        self.rng = np.random.Generator(np.random.SFC64(seed))
        vectors = np.linalg.qr(self.rng.standard_normal((self.dim, self.dim)))[0]
        self.hessian = (vectors * spectrum.eigenvalues) @ vectors.T
        self.dominant = np.ascontiguousarray(vectors[:, : spectrum.num_dominant].T)
        self.theta = problem.initial * self.rng.standard_normal(self.dim)
        self.std, self.step_size = problem.noise.std, step_size


class DenseTuned(DenseProblem):
    """One product with H a step, shared by loss and gradient; projection by the k vectors."""

    def run(self, num_steps):
        """Advance and return loss and alignment before every step."""
        losses, alignments = np.empty((2, num_steps))
        gradient, noise = np.empty((2, self.dim))
        inside = np.empty(len(self.dominant))
        for t in range(num_steps):
            np.dot(self.hessian, self.theta, out=gradient)
            np.dot(self.dominant, gradient, out=inside)
            losses[t] = 0.5 * np.dot(self.theta, gradient)
            alignments[t] = np.dot(inside, inside) / np.dot(gradient, gradient)
            self.rng.standard_normal(out=noise)
            noise *= self.std
            gradient += noise
            gradient *= self.step_size
            self.theta -= gradient
        return losses, alignments


class DenseFormulas(DenseProblem):
    """The formulas as they stand in a paper: a d x d projector, loss and gradient on their own."""

    def __init__(self, problem, step_size, seed=0):
        super().__init__(problem, step_size, seed)
        self.projector = self.dominant.T @ self.dominant

    def run(self, num_steps):
        """Advance and return loss and alignment before every step."""
        losses, alignments = np.empty((2, num_steps))
        for t in range(num_steps):
            losses[t] = 0.5 * self.theta @ self.hessian @ self.theta
            gradient = self.hessian @ self.theta
            inside = np.linalg.norm(self.projector @ gradient) ** 2
            alignments[t] = inside / np.linalg.norm(gradient) ** 2
            noise = self.std * self.rng.standard_normal(self.dim)
            self.theta = self.theta - self.step_size * (gradient + noise)
        return losses, alignments
