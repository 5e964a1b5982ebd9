"""Implementations of `AbstractRenderer`: the float64 reference in torch, numba on the CPU, Triton on the GPU."""
