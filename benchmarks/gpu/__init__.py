"""Benchmarks that need an NVIDIA GPU; their logic runs on a CPU at small size."""
