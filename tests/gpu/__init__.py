"""Kernels on a GPU, simulated where there is none."""
