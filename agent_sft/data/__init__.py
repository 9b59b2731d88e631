"""Conversations: reading, merging, checking and writing training data."""
