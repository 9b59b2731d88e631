"""Jobs: trainings that go on by themselves, and what else runs, seen in one place."""
