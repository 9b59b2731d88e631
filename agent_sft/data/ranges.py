"""Row numbers by file, in the little space that runs of them need."""

from __future__ import annotations

from collections.abc import Iterator


class Ranges:
    """Numbers that mostly rise by one, kept as first and last of each run."""

    def __init__(self) -> None:
        self._runs: list[list[int]] = []

    def add(self, number: int) -> None:
        """Take in a number."""
        self.add_run(number, number)

    def add_run(self, first: int, last: int) -> None:
        """Take in numbers that follow each other."""
        if self._runs and self._runs[-1][1] == first - 1:
            self._runs[-1][1] = last
        else:
            self._runs.append([first, last])

    def add_all(self, others: Ranges) -> None:
        """Take in the numbers of others."""
        for first, last in others._runs:
            self.add_run(first, last)

    def __str__(self) -> str:
        """Return the numbers as people write them: `1-4, 7`."""
        return ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in self._runs)

    def __iter__(self) -> Iterator[int]:
        for first, last in self._runs:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        """Return how many numbers there are."""
        return sum(last - first + 1 for first, last in self._runs)


class RowRanges:
    """Rows by file."""

    def __init__(self) -> None:
        self._files: dict[str, Ranges] = {}

    def add(self, file: str, row: int) -> None:
        """Take in a row."""
        self._files.setdefault(file, Ranges()).add(row)

    def add_all(self, others: RowRanges) -> None:
        """Take in the rows of others."""
        for file, rows in others._files.items():
            self._files.setdefault(file, Ranges()).add_all(rows)

    def as_json(self) -> dict[str, str]:
        """Return the rows of each file."""
        return {file: str(rows) for file, rows in self._files.items()}


def parse_ranges(text: str) -> Iterator[int]:
    """Yield the numbers that a text of ranges names."""
    for run in filter(None, text.split(", ")):
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)
