"""Verifiers: each tells whether an answer is right."""
