"""Results of several evaluations beside each other, on the tasks that all of them have one of."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from agent_sft.errors import UserError
from agent_sft.evals.comparability import disagreements, of_family, tasks_of
from agent_sft.evals.outcomes import FIRST, Measure, outcomes, parse_measure
from agent_sft.evals.results import Evaluation, failed, missing, read_results


class Paired(NamedTuple):
    """Results of several evaluations on the same tasks."""

    evaluations: list[Evaluation]
    tasks: list[str]
    table: list[list[Fraction | float]]
    """For each task, the measure's value in each evaluation."""
    measure: Measure
    notes: list[str]


def paired(
    folders: Sequence[str],
    *,
    measure: str = FIRST,
    family: str | None = None,
    common_tasks: bool = False,
    despite_differences: bool = False,
) -> Paired:
    """Return the results of evaluations on the tasks that have one in all of them. Arguments are those of `compare`.

    Raises:
        UserError: the evaluations cannot be compared, or no task has a result in all of them.
    """
    names = list(folders)
    read = [read_results(name) for name in names]
    evaluations = [evaluation for evaluation, _ in read]
    notes = disagreements(names, evaluations, despite_differences)
    tasks = tasks_of(names, evaluations, common_tasks, notes)
    if family is not None:
        tasks = of_family(tasks, family, read)
    what = parse_measure(measure)
    fewest = min(evaluation.trials for evaluation in evaluations)
    if what.k > fewest:
        fix = f"choose K up to {fewest}, or run more trials"
        raise UserError(
            f"{what} needs {what.k} trials of each task, and there are {fewest}", where="--measure", fix=fix
        )
    for name, (evaluation, trials) in zip(names, read, strict=True):
        lacking = len(missing(evaluation, trials)) + len(failed(trials))
        if lacking:
            notes.append(f"{lacking:,} of the {len(evaluation.places):,} trials of {name} have no score")
    values = [{one.task: what.of(one) for one in outcomes(*pair)} for pair in read]
    rows = [[found[task] for found in values] for task in tasks]
    whole = [(task, row) for task, row in zip(tasks, rows, strict=True) if None not in row]
    if len(whole) < len(tasks):
        count = f"{len(tasks) - len(whole):,} of {len(tasks):,} tasks are"
        notes.append(f"{count} left out: in one evaluation or another too few of their trials have a score")
    if not whole:
        raise UserError("no task has a score in all of the evaluations", fix="finish them: the same command again")
    table = [[value for value in row if value is not None] for _, row in whole]
    return Paired(evaluations, [task for task, _ in whole], table, what, notes)
