"""From nothing to a training: one question after the other, then files that can be read and run without it."""
