"""Configuration models: one place, every field documented."""
