"""Experiments: a question, a training, scores, and what they say."""
