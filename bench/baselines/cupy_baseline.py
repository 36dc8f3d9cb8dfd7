"""SGD in the eigenbasis in CuPy: normals of cuRAND, one kernel for the update, sums by cuBLAS."""

from functools import partial

import cupy
import numpy as np
from cupy import cublas

_move = cupy.ElementwiseKernel(
    "T c, T gradient, N noise, T lam, T step_size, T std",
    "T new_c, T new_gradient",
    "new_c = c - step_size * (gradient + std * T(noise)); new_gradient = lam * new_c;",
    "sgd_step",
)


class CupySimulation:
    """Loss and alignment of every step; the sums stay on the device until the end of a call.

    ``cupy.dot`` of two vectors writes their product first; ``cupy.cublas.dot`` does not.
    """

    def __init__(self, problem, step_size, dtype="float64", normals=None, host_api=False, seed=0):
        spectrum, normals = problem.spectrum.expand(), np.dtype(normals or dtype)
        self.draw = _normals(spectrum.dim, normals, host_api, seed)
        self.lam = cupy.asarray(spectrum.eigenvalues, dtype)
        self.c = problem.initial * self.draw().astype(dtype)
        self.gradient = self.lam * self.c
        self.k, self.std, self.step_size = spectrum.num_dominant, problem.noise.std, step_size

    def run(self, num_steps):
        """Advance and return loss and alignment before every step."""
        sums = cupy.empty((num_steps, 3), self.c.dtype)
        c, gradient, dot = self.c, self.gradient, cublas.dot
        dominant = gradient[: self.k]
        for row in sums:
            dot(gradient, c, out=row[0])
            dot(dominant, dominant, out=row[1])
            dot(gradient, gradient, out=row[2])
            _move(c, gradient, self.draw(), self.lam, self.step_size, self.std, c, gradient)
        twice_loss, dominant_sq, gradient_sq = sums.get().T  # waits for the device
        return twice_loss / 2, dominant_sq / gradient_sq


def _normals(dim, dtype, host_api, seed):
    """Return a function that draws normals: a kernel of CuPy with a state a thread, or cuRAND's."""
    if host_api:
        method = cupy.cuda.curand.CURAND_RNG_PSEUDO_PHILOX4_32_10
        return partial(cupy.random.RandomState(seed, method).standard_normal, dim, dtype)
    generator, out = cupy.random.Generator(cupy.random.XORWOW(seed)), cupy.empty(dim, dtype)
    return partial(generator.standard_normal, dtype=dtype, out=out)
