"""Run directories: stamps, attempts, journal, lock and child processes."""
