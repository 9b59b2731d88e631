"""Benchmarks that are scored while a model trains."""
