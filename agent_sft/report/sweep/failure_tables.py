"""The tables of where a sweep's variants fail."""

from __future__ import annotations

from collections.abc import Sequence

from agent_sft.report.sweep.failing import Attempts, by_family, by_reason
from agent_sft.report.tables import Table

SHOWN_REASONS = 12


def family_table(attempts: Sequence[Attempts]) -> Table | None:
    """Return how many trials failed by family."""
    rows = by_family(list(attempts))
    if not rows:
        return None
    return Table(
        title="Failed trials by family of tasks",
        columns=["family", *(one.group for one in attempts)],
        rows=[[name, *(f"{failed:,} of {total:,}" for failed, total in counts)] for name, counts in rows],
    )


def reason_table(attempts: Sequence[Attempts]) -> Table | None:
    """Return how many trials failed by reason."""
    rows = by_reason(list(attempts))
    if not rows:
        return None
    notes = ["a trial can fail for several reasons; … stands for what differs from task to task"]
    if len(rows) > SHOWN_REASONS:
        notes.append(f"{len(rows) - SHOWN_REASONS:,} rarer reasons are left out")
    return Table(
        title="Failed trials by reason",
        columns=["reason", *(one.group for one in attempts)],
        rows=[[name, *(f"{count:,}" for count in counts)] for name, counts in rows[:SHOWN_REASONS]],
        notes=notes,
    )
