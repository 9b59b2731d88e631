"""A command as it is run within an allocation: the same, without what is said about its submission."""

from __future__ import annotations

from collections.abc import Sequence

OF_THE_SUBMISSION = {"--executor": 1, "--slurm": 1, "--slurm-array": 0, "--dry-run": 0}
"""Options, and how many words follow each."""


def within(words: Sequence[str]) -> list[str]:
    """Return the words of a command line without those that are for who submits it."""
    kept: list[str] = []
    left_out = 0
    for number, word in enumerate(words):
        if left_out:
            left_out -= 1
            continue
        if word == "--":
            return [*kept, *words[number:]]
        name, equals, _ = word.partition("=")
        if name in OF_THE_SUBMISSION:
            left_out = 0 if equals else OF_THE_SUBMISSION[name]
        else:
            kept.append(word)
    return kept
