"""Benchmarks: what a model is worth, with intervals."""
