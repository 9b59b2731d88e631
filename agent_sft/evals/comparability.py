"""Whether evaluations can be compared: the same tasks under the same conditions."""

from __future__ import annotations

from collections.abc import Sequence

from agent_sft.errors import UserError, nearest
from agent_sft.evals.results import Evaluation, Trial

MUST_AGREE = ("evaluator", "benchmark", "user_model", "limits")
"""What changes scores by itself, so that a comparison across it says nothing about the models."""
SHOULD_AGREE = ("trials", "settings", "versions")


def disagreements(names: list[str], evaluations: list[Evaluation], despite: bool) -> list[str]:
    """Return in words what the evaluations do not agree in.

    Raises:
        UserError: they differ in what decides the score, and `despite` does not allow that.
    """
    notes = []
    head = evaluations[0]
    for name, other in zip(names[1:], evaluations[1:], strict=True):
        for field in (*MUST_AGREE, *SHOULD_AGREE):
            mine, its = getattr(head, field), getattr(other, field)
            if mine == its:
                continue
            label = field.replace("_", " ")
            what = f"{label}: {_shown(mine, its)} in {names[0]}, {_shown(its, mine)} in {name}"
            if field in MUST_AGREE and not despite:
                fix = "run both alike; --despite-differences compares them all the same, and says so"
                raise UserError(f"the evaluations differ in their {what}", fix=fix)
            notes.append(f"they differ in their {what}")
        if head.model_digest is not None and head.model_digest == other.model_digest:
            notes.append(f"{names[0]} and {name} are of the same weights")
    return notes


def _shown(value: object, other: object) -> str:
    """Return a value in words; of two mappings what is not the same."""
    if isinstance(value, dict) and isinstance(other, dict):
        own = {key: item for key, item in value.items() if key not in other or other[key] != item}
        return ", ".join(f"{key} {item}" for key, item in own.items()) or "none"
    return "none" if value is None else str(value)


def tasks_of(names: list[str], evaluations: list[Evaluation], common: bool, notes: list[str]) -> list[str]:
    """Return the tasks to compare on; what is left out because of `common` is added to the notes.

    Raises:
        UserError: they do not have the same tasks, and `common` does not allow that.
    """
    shared = set(evaluations[0].tasks).intersection(*(evaluation.tasks for evaluation in evaluations[1:]))
    for name, evaluation in zip(names, evaluations, strict=True):
        further = [task for task in evaluation.tasks if task not in shared]
        if not further:
            continue
        what = f"{name} has {len(further):,} tasks that are not in all of the others, such as '{further[0]}'"
        if not common or not shared:
            fix = f"--common-tasks compares on the {len(shared):,} that all have" if shared else "they share none"
            raise UserError(what, fix=fix)
        notes.append(f"{what}: they are left out")
    return [task for task in evaluations[0].tasks if task in shared]


def of_family(tasks: list[str], family: str, read: Sequence[tuple[Evaluation, list[Trial]]]) -> list[str]:
    """Return the tasks that are of a family.

    Raises:
        UserError: none is.
    """
    families = {trial.task: trial.family for _, trials in read for trial in trials}
    found = [task for task in tasks if families.get(task) == family]
    if not found:
        known = sorted({name for name in families.values() if name is not None})
        fix = nearest(family, known) or (f"there are {', '.join(known)}" if known else "their tasks have no family")
        raise UserError(f"no task is of the family '{family}'", where="--family", fix=fix)
    return found
