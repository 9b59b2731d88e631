"""Slurm: the scripts that are submitted to it, and submitting them."""
