"""What a plan took so far, and whether there is enough for the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from agent_sft.config.planning import PlanConfig
from agent_sft.files import read_json, write_json
from agent_sft.planning.costs import spent_hours
from agent_sft.planning.folder import PlanFolder
from agent_sft.planning.outcome import Halt
from agent_sft.planning.proposing import FINAL_RUN, PROBE, SEARCHING
from agent_sft.planning.sweeps import Machine
from agent_sft.report.numbers import money
from agent_sft.report.plan.telling import Spent

SPENT = "spent.json"


@contextmanager
def timed(folder: PlanFolder, phase: str) -> Iterator[None]:
    """Add the time of a block to what a phase took, whatever becomes of it."""
    begun = time.monotonic()
    try:
        yield
    finally:
        known = read_json(folder.path / SPENT) or {}
        known[phase] = known.get(phase, 0.0) + time.monotonic() - begun
        write_json(folder.path / SPENT, known)


def spent_so_far(folder: PlanFolder, machine: Machine) -> dict[str, Spent]:
    """Return what each phase took, by its name."""
    known = read_json(folder.path / SPENT) or {}
    folders = {PROBE: folder.probe, SEARCHING: folder.candidates, FINAL_RUN: folder.final}
    return {
        phase: Spent(seconds, spent_hours([folders[phase]], machine) if phase in folders else seconds / 3600)
        for phase, seconds in known.items()
    }


def refuse_too_dear(config: PlanConfig, hours: float, what: str) -> None:
    """Refuse what costs more than the budget.

    Raises:
        Halt: it does.
    """
    budget, price = config.budget_hours, config.gpu_price
    if budget is None or hours <= budget:
        return
    amounts = f" ({money(hours * price)} of {money(budget * price)})" if price is not None else ""
    reason = f"{what} {hours:.3g} hours, the budget is {budget:.3g}{amounts}: fewer candidates, epochs or --search-rows"
    raise Halt("over budget", reason)
