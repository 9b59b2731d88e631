"""LLaMA-Factory: the trainer."""
