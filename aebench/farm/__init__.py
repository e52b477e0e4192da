"""Stale chains of runs and seeds on other machines: Dask carries them, DVC computes them."""
