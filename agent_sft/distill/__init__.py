"""From prompts and a teacher to a dataset: asked once, judged, kept or listed with the reason."""
