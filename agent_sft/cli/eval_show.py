"""Running an evaluation on a terminal, and how its outcome looks in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent_sft.cli.show import TerminalReporter, say

if TYPE_CHECKING:
    from agent_sft.config.evaluation import EvaluationConfig
    from agent_sft.stages.evaluating import Outcome


def run_and_show(
    context: click.Context, config: EvaluationConfig, *, only_failed: bool = False, fresh: bool = False
) -> None:
    """Run an evaluation and show its outcome; the arguments are those of `evaluate`.

    Raises:
        UserError: the request is wrong.
        WorkFailed: trials have no score.
    """
    from agent_sft.runs.processes import Interrupted, catch_signals
    from agent_sft.stages.evaluating import check_complete, evaluate

    with catch_signals() as stop:
        try:
            found = evaluate(config, reporter=TerminalReporter(), stop=stop, only_failed=only_failed, fresh=fresh)
        except Interrupted as stopped:
            say(f"stopped; the same command goes on: {config.out}")
            context.exit(stopped.exit_code)
    for line in outcome_lines(found):
        click.echo(line)
    check_complete(found)


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
