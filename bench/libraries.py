"""The baselines by name, imported only where they are asked for."""

import os
from importlib import import_module

#: Module, class and options of every baseline in the eigenbasis.
EIGENBASIS = {
    "NumPy float64": ("numpy_baseline", "NumPySimulation", {}),
    "NumPy float32": ("numpy_baseline", "NumPySimulation", {"dtype": "float32"}),
    "NumPy float64, a thread a core": (
        "numpy_baseline", "NumPySimulation", {"threads": os.cpu_count()}),
    "JAX float32": ("jax_baseline", "JaxSimulation", {"dtype": "float32"}),
    "JAX float64": ("jax_baseline", "JaxSimulation", {}),
    "JAX float64, float32 normals": (
        "jax_baseline", "JaxSimulation", {"normals": "float32"}),
    "PyTorch float32": ("torch_baseline", "TorchSimulation", {"dtype": "float32"}),
    "PyTorch float64": ("torch_baseline", "TorchSimulation", {}),
    "PyTorch float64, float32 normals": (
        "torch_baseline", "TorchSimulation", {"normals": "float32"}),
    "PyTorch compiled float32": (
        "torch_baseline", "TorchSimulation", {"dtype": "float32", "compiled": True}),
    "PyTorch compiled float64": ("torch_baseline", "TorchSimulation", {"compiled": True}),
    "PyTorch compiled float64, float32 normals": (
        "torch_baseline", "TorchSimulation", {"normals": "float32", "compiled": True}),
}  # fmt: skip
#: The same for a dense Hessian.
DENSE = {
    "dense NumPy, tuned": ("dense_numpy", "DenseTuned", {}),
    "dense NumPy, plain formulas": ("dense_numpy", "DenseFormulas", {}),
}


def build(name, problem, step_size):
    """Return the simulation of a baseline; raises where its library is missing or fails."""
    module, kind, options = (EIGENBASIS | DENSE)[name]
    return getattr(import_module(f"baselines.{module}"), kind)(problem, step_size, **options)


def reason(error):
    """Return the first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
