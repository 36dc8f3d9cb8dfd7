"""Streaming least squares sample by sample in JAX: a compiled scan whose steps draw their batch."""

import jax
import jax.numpy as jnp
import numpy as np

from . import jax_setup  # noqa: F401  (one CPU device a core)

# As in jax_baseline: the fastest generator on a CPU.
jax.config.update("jax_threefry_partitionable", False)


class JaxBatches:
    """State donated, a fresh batch drawn inside the scan, loss and alignment of every step.

    On one core: a batch is a matrix whose products with the state couple all coordinates, and
    sharding it over two cores was slower at a dimension of 4,096.
    """

    def __init__(self, problem, step_size, dtype="float32", seed=0):
        spectrum, noise = problem.spectrum, problem.noise
        key, first = jax.random.split(jax.random.key(seed, impl="threefry2x32"))
        lam = jnp.asarray(spectrum.eigenvalues, dtype)
        self.c = problem.initial * jax.random.normal(first, (spectrum.dim,), dtype)
        self.key, self.step = key, 0
        root, k = jnp.sqrt(lam), spectrum.num_dominant
        eta = np.dtype(dtype).type(step_size / noise.batch_size)
        tau = np.dtype(dtype).type(noise.label_std)

        def body(c, step):
            x_key, y_key = jax.random.split(jax.random.fold_in(key, step))
            x = jax.random.normal(x_key, (noise.batch_size, c.size), dtype)
            x = jax.lax.optimization_barrier(x)
            rest = x @ (root * c) - tau * jax.random.normal(y_key, (noise.batch_size,), dtype)
            gradient = lam * c
            sums = jnp.stack(
                [
                    jnp.dot(gradient, c) / 2,
                    jnp.dot(gradient[:k], gradient[:k]),
                    jnp.dot(gradient[k:], gradient[k:]),
                ]
            )
            return c - eta * root * (rest @ x), sums

        def advance(c, start, num_steps):
            c, sums = jax.lax.scan(body, c, start + jnp.arange(num_steps))
            return c, (sums[:, 0], sums[:, 1] / (sums[:, 1] + sums[:, 2]))

        self.advance = jax.jit(advance, static_argnums=2, donate_argnums=0)

    def run(self, num_steps):
        """Advance and return loss and alignment before every step."""
        self.c, rows = self.advance(self.c, self.step, num_steps)
        self.step += num_steps
        jax.block_until_ready(self.c)
        return tuple(np.asarray(column) for column in rows)
