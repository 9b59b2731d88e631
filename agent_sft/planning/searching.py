"""The third phase: all candidates to their end, or rung by rung those that are among the best."""

from __future__ import annotations

from collections.abc import Callable

from agent_sft.planning.board import ranking
from agent_sft.planning.folder import PlanFolder
from agent_sft.planning.halving import Rung, rungs_of
from agent_sft.planning.inspection import Say
from agent_sft.planning.proposing import Proposal
from agent_sft.report.sweep.record import SweepRecord
from agent_sft.sweep.graph import SweepPlan


def search(
    proposal: Proposal, folder: PlanFolder, run: Callable[[SweepPlan], SweepRecord], say: Say
) -> tuple[SweepRecord, dict[str, Rung]]:
    """Train and score the candidates.

    Args:
        proposal: the plan.
        folder: of the plan.
        run: carries a sweep out.
        say: is told who goes on.

    Returns:
        The record of their sweep, and where candidates were stopped.
    """
    candidates, sweeps = proposal.candidates, proposal.sweeps
    if proposal.config.search == "grid":
        return run(sweeps.candidates(candidates)), {}
    stopped: dict[str, Rung] = {}
    rungs = rungs_of(candidates)
    for number, rung in enumerate(rungs):
        alive = [one for one in candidates if one.name not in stopped]
        at = {one.name: stopped.get(one.name, rung).step(one) for one in candidates}
        pauses = {name: step for name, step in at.items() if step is not None}
        record = run(sweeps.candidates(candidates, pauses))
        if rung.share is None:
            break
        best = ranking(record, folder.candidates, alive, sweeps.decider)[: rungs[number + 1].candidates]
        stopped |= {one.name: rung for one in alive if one.name not in best}
        left = ", ".join(str(one.number) for one in alive if one.name in best)
        say(f"candidates: after {rung.share:.0%} of the steps, of {len(alive)} these go on: {left or 'none'}")
    return record, {name: rung for name, rung in stopped.items() if not _failed(record, name)}


def _failed(record: SweepRecord, candidate: str) -> bool:
    return any(job.id == f"train/{candidate}" and job.state == "failed" for job in record.jobs)
