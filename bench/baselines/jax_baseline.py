"""SGD in the eigenbasis in JAX: one compiled scan over the steps, one shard a core."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from . import jax_setup  # noqa: F401  (one CPU device a core)

# The fastest generator of JAX on a CPU, by processor time for 2^20 float32 steps: threefry2x32 as
# set here 5.6 ms, partitionable threefry2x32 (the default) 11 ms, rbg and unsafe_rbg 54 ms.
# Box-Muller written in JAX is slower than the inverse error function of jax.random.normal.
jax.config.update("jax_threefry_partitionable", False)

_SPLIT, _SAME = PartitionSpec("core"), PartitionSpec()


class JaxSimulation:
    """State donated, noise drawn inside the scan, loss and alignment of every step."""

    def __init__(self, problem, step_size, dtype="float64", normals=None, seed=0):
        spectrum, cores = problem.spectrum.expand(), jax.devices("cpu")
        shards = _num_shards(spectrum.dim, spectrum.num_dominant, len(cores))
        mesh = jax.make_mesh((shards,), ("core",), devices=cores[:shards])
        split = NamedSharding(mesh, _SPLIT)
        with jax.default_device(cores[0]):
            key, first = jax.random.split(jax.random.key(seed, impl="threefry2x32"))
            c = problem.initial * jax.random.normal(first, (spectrum.dim,), dtype)
        self.c = jax.device_put(c.astype(dtype), split)
        self.lam = jax.device_put(spectrum.eigenvalues.astype(dtype), split)
        self.key, self.step = key, 0
        number = np.dtype(dtype).type
        local = partial(
            _advance, num_dominant=spectrum.num_dominant, normals=np.dtype(normals or dtype),
            step_size=number(step_size), std=number(problem.noise.std),
        )  # fmt: skip

        def whole(c, lam, key, start, num_steps):
            specs = {"in_specs": (_SPLIT, _SPLIT, _SAME, _SAME), "out_specs": (_SPLIT, _SAME)}
            advance = partial(local, num_steps=num_steps)
            sharded = jax.shard_map(advance, mesh=mesh, check_vma=False, **specs)
            c, sums = sharded(c, lam, key, start)
            return c, (sums[:, 0], sums[:, 1] / (sums[:, 1] + sums[:, 2]))

        self.advance = jax.jit(whole, static_argnums=4, donate_argnums=0)

    def run(self, num_steps):
        """Advance and return loss and alignment before every step."""
        self.c, rows = self.advance(self.c, self.lam, self.key, self.step, num_steps)
        self.step += num_steps
        jax.block_until_ready(self.c)
        return tuple(np.asarray(column) for column in rows)


def _num_shards(dim, num_dominant, most):
    """Most shards of equal size, the first of which holds the dominant directions."""
    sizes = range(1, most + 1)
    return max(n for n in sizes if dim % n == 0 and num_dominant <= dim // n)


def _advance(c, lam, key, start, *, num_steps, num_dominant, normals, step_size, std):
    """Scan one shard over the steps; return it and the sums over all shards."""
    shard = jax.lax.axis_index("core")
    key = jax.random.fold_in(key, shard)
    first = jnp.where(shard == 0, 1, 0).astype(c.dtype)

    def body(c, step):
        noise = jax.random.normal(jax.random.fold_in(key, step), c.shape, normals)
        # Without the barrier XLA merges the generator into loops that it does not vectorize.
        noise = jax.lax.optimization_barrier(noise).astype(c.dtype)
        gradient = lam * c
        head, tail = gradient[:num_dominant], gradient[num_dominant:]
        head_sq, tail_sq = jnp.dot(head, head), jnp.dot(tail, tail)
        dominant, bulk = first * head_sq, tail_sq + (1 - first) * head_sq
        sums = jnp.stack([jnp.dot(gradient, c) / 2, dominant, bulk])
        return c - step_size * (gradient + std * noise), sums

    c, sums = jax.lax.scan(body, c, start + jnp.arange(num_steps))
    return c, jax.lax.psum(sums, "core")
