"""The baselines by name, imported only where they are asked for."""

import os
from functools import partial
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
_TORCH_GRAPH = {"device": "cuda", "graph": True}
#: The baselines in the eigenbasis on a GPU.
GPU = {
    "JAX float32, threefry": ("jax_device", "JaxDeviceSimulation", {"dtype": "float32"}),
    "JAX float32, threefry, four steps a loop": (
        "jax_device", "JaxDeviceSimulation", {"dtype": "float32", "unroll": 4}),
    "JAX float32, rbg": (
        "jax_device", "JaxDeviceSimulation", {"dtype": "float32", "generator": "rbg"}),
    "JAX float32, unsafe_rbg": (
        "jax_device", "JaxDeviceSimulation", {"dtype": "float32", "generator": "unsafe_rbg"}),
    "JAX float64, threefry": ("jax_device", "JaxDeviceSimulation", {}),
    "JAX float64, rbg": ("jax_device", "JaxDeviceSimulation", {"generator": "rbg"}),
    "JAX float64, float32 normals, rbg": (
        "jax_device", "JaxDeviceSimulation", {"normals": "float32", "generator": "rbg"}),
    "CuPy float32": ("cupy_baseline", "CupySimulation", {"dtype": "float32"}),
    "CuPy float32, host API of cuRAND": (
        "cupy_baseline", "CupySimulation", {"dtype": "float32", "host_api": True}),
    "CuPy float64": ("cupy_baseline", "CupySimulation", {}),
    "CuPy float64, float32 normals": ("cupy_baseline", "CupySimulation", {"normals": "float32"}),
    "PyTorch eager float32": (
        "torch_baseline", "TorchSimulation", {"device": "cuda", "dtype": "float32"}),
    "PyTorch eager float64": ("torch_baseline", "TorchSimulation", {"device": "cuda"}),
    "PyTorch graph float32": (
        "torch_baseline", "TorchSimulation", _TORCH_GRAPH | {"dtype": "float32"}),
    "PyTorch graph float64": ("torch_baseline", "TorchSimulation", _TORCH_GRAPH),
    "PyTorch graph float64, float32 normals": (
        "torch_baseline", "TorchSimulation", _TORCH_GRAPH | {"normals": "float32"}),
    "PyTorch graph, compiled float32": (
        "torch_baseline", "TorchSimulation",
        _TORCH_GRAPH | {"dtype": "float32", "compiled": True}),
    "PyTorch graph, compiled float32, own normals": (
        "torch_baseline", "TorchSimulation",
        _TORCH_GRAPH | {"dtype": "float32", "compiled": True, "draws": True}),
}  # fmt: skip
#: What makes the GPU baselines of a module run on a CPU.
ON_CPU = {
    "jax_device": {"device": "cpu"},
    "torch_baseline": {"device": "cpu", "graph": False},
}


def build(name, problem, step_size, *, on_cpu=False):
    """Return the simulation of a baseline; raises where its library is missing or fails."""
    module, kind, options = (EIGENBASIS | DENSE | GPU)[name]
    if on_cpu:
        options = options | ON_CPU[module]
    return getattr(import_module(f"baselines.{module}"), kind)(problem, step_size, **options)


def running(name, problem, step_size, num_steps):
    """Return a function that does steps of a baseline, compiled."""
    simulation = build(name, problem, step_size)
    simulation.run(num_steps)
    return partial(simulation.run, num_steps)


def reason(error):
    """Return the first line of an error."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
