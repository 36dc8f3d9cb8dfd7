"""Compiled kernels: explicit vectors, counter-based normals and the SGD update."""
