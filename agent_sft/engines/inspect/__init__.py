"""Inspect: its tasks, its command line, what its logs say."""
