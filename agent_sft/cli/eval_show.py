"""How the outcome of an evaluation looks in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_sft.stages.evaluating import Outcome


def outcome_lines(found: Outcome) -> list[str]:
    """Return what to show when an evaluation ended: how many succeeded, the floor, what could not be run."""
    evaluation = found.evaluation
    scored = [trial for trial in found.trials if trial.score is not None]
    total = len(evaluation.places)
    lines = [f"{evaluation.benchmark}: {found.folder}"]
    if evaluation.evaluator == "loss" and scored:
        figures = scored[0].detail
        lines.append(f"  loss          {figures['loss']:.4f} nats a token (perplexity {figures['perplexity']:.2f})")
        lines.append(f"  foreseen      {scored[0].score:.3f} of the tokens of {figures['examples']} examples")
    elif scored:
        succeeded = sum(trial.succeeded for trial in scored)
        mean = sum(trial.score or 0.0 for trial in scored) / len(scored)
        lines.append(f"  succeeded     {succeeded} of {len(scored)} trials (mean score {mean:.3f})")
    if evaluation.floor is not None:
        lines.append(f"  doing nothing {evaluation.floor:.3f} (the mean score of an agent that says and does nothing)")
    if found.failed:
        lines.append(f"  not run       {len(found.failed)} of {total}: {found.failed[0].error}")
    if found.missing:
        lines.append(f"  missing       {found.missing} of {total}")
    return lines


def outcome_line(found: Outcome) -> str:
    """Return an evaluation in one line."""
    evaluation = found.evaluation
    scored = len(found.trials) - len(found.failed)
    state = "finished" if scored == len(evaluation.places) else f"{scored} of {len(evaluation.places)} trials"
    return f"{found.folder}  {evaluation.evaluator}  {evaluation.benchmark}  {evaluation.model}  {state}"
