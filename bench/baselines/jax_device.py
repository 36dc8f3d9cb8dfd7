"""SGD in the eigenbasis in JAX on one device, a GPU: one compiled scan over the steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from . import jax_setup  # noqa: F401  (leaves the memory of a GPU to others, too)


class JaxDeviceSimulation:
    """State donated, noise drawn inside the scan, loss and alignment of every step.

    Unlike on a CPU, XLA may merge the generator with the update, and sums are not calls of BLAS:
    a GPU gains where an array is passed over once. threefry2x32 is partitionable, element by
    element, as it is by default.
    """

    def __init__(
        self, problem, step_size, dtype="float64", normals=None, generator="threefry2x32",
        unroll=1, device="cuda", seed=0,
    ):  # fmt: skip
        spectrum, target = problem.spectrum.expand(), jax.devices(device)[0]
        with jax.default_device(target), jax.threefry_partitionable(True):
            self.key, first = jax.random.split(jax.random.key(seed, impl=generator))
            c = problem.initial * jax.random.normal(first, (spectrum.dim,), dtype)
        self.c = jax.device_put(c.astype(dtype), target)
        self.lam = jax.device_put(spectrum.eigenvalues.astype(dtype), target)
        self.step, number = 0, np.dtype(dtype).type
        advance = partial(
            _advance, num_dominant=spectrum.num_dominant, normals=np.dtype(normals or dtype),
            step_size=number(step_size), std=number(problem.noise.std), unroll=unroll,
        )  # fmt: skip
        self.advance = jax.jit(advance, static_argnames="num_steps", donate_argnums=0)

    def run(self, num_steps):
        """Advance and return loss and alignment before every step."""
        with jax.threefry_partitionable(True):
            self.c, rows = self.advance(self.c, self.lam, self.key, self.step, num_steps=num_steps)
        self.step += num_steps
        jax.block_until_ready(self.c)
        return tuple(np.asarray(column) for column in rows)


def _advance(c, lam, key, start, *, num_steps, num_dominant, normals, step_size, std, unroll):
    def body(c, key):
        noise = jax.random.normal(key, c.shape, normals).astype(c.dtype)
        gradient = lam * c
        squares = gradient * gradient
        sums = (gradient * c).sum() / 2, squares[:num_dominant].sum(), squares.sum()
        return c - step_size * (gradient + std * noise), jnp.stack(sums)

    keys = jax.random.split(jax.random.fold_in(key, start), num_steps)
    c, sums = jax.lax.scan(body, c, keys, unroll=unroll)
    return c, (sums[:, 0], sums[:, 1] / sums[:, 2])
