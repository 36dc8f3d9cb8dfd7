"""Settings that every use of JAX here shares; they have to be made before it starts."""

import os

import jax

# One CPU device a core: XLA also splits a loop over cores by itself, but whole shards took a tenth
# less time.
jax.config.update("jax_num_cpu_devices", os.cpu_count())
jax.config.update("jax_enable_x64", True)
# Otherwise JAX takes three quarters of a GPU's memory for itself, also where only its CPU is used.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
