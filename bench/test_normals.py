"""Float32 normals per core: tuned libraries and the generator of the step engine."""

import time
from functools import partial

import numpy as np
import pytest
from comparison import Comparison
from in_turn import Members, measure

from suspalign_fast.kernels.normals import BATCH, GROUP, only_normals, seed_key

#: Normals of one array: 256 KiB, which stay in cache.
SIZE = 2**16
REPEATS = 64


def repeated(work):
    """Return a function that does the work a number of times."""

    def loop():
        for _ in range(REPEATS):
            work()

    return loop


def from_numpy(bits):
    """NumPy's ziggurat."""
    rng, out = np.random.Generator(bits(0)), np.empty(SIZE, np.float32)
    return repeated(partial(rng.standard_normal, out=out, dtype=np.float32))


def from_torch():
    """PyTorch's vectorized Box-Muller."""
    import torch

    out, generator = torch.empty(SIZE), torch.Generator().manual_seed(0)

    def loop():
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        for _ in range(REPEATS):
            out.normal_(generator=generator)
        torch.set_num_threads(before)

    return loop


def from_jax():
    """JAX with its fastest generator."""
    import baselines.jax_baseline  # noqa: F401  (chooses the generator)
    import jax

    def body(state, step):
        key, total = state
        z = jax.random.normal(jax.random.fold_in(key, step), (SIZE,), "float32")
        return (key, total + jax.lax.optimization_barrier(z)[0]), None

    def loop():
        with jax.default_device(jax.devices("cpu")[0]):
            scan().block_until_ready()

    @jax.jit
    def scan():
        key = jax.random.key(0, impl="threefry2x32")
        return jax.lax.scan(body, (key, np.float32(0)), np.arange(REPEATS))[0][1]

    loop()
    return loop


@pytest.mark.benchmark(group="normals")
def test_normals(benchmark):
    """Processor time, not wall time: JAX cannot be told to use one thread."""
    members, total = Members(), SIZE * REPEATS
    ours = partial(only_normals, SIZE // (BATCH * GROUP), REPEATS, *seed_key(0))
    ours()
    members.add("suspalign_fast", ours, total)
    members.try_add("NumPy SFC64", lambda: from_numpy(np.random.SFC64), total)
    members.try_add("NumPy PCG64", lambda: from_numpy(np.random.PCG64), total)
    members.try_add("PyTorch normal_", from_torch, total)
    members.try_add("JAX random.normal", from_jax, total)
    comparison = Comparison(
        "normals", "float32 normals, processor time of one core", "normal",
        reference="suspalign_fast",
    )  # fmt: skip
    measure(benchmark, members, comparison, rounds=15, clock=time.process_time)
