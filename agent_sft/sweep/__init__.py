"""Sweeps: variants trained, served, scored and compared; planned as a graph, scheduled on slots, never broken."""
