"""Evaluators: given a served model and a folder, each produces results in one schema."""
