"""Evaluations on disk for tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent_sft.evals.results import RESULTS, Evaluation, Trial, write_evaluation


def evaluation(**changes: Any) -> Evaluation:
    """An evaluation of two tasks in two trials."""
    values: dict[str, Any] = {
        "evaluator": "tasks",
        "benchmark": "sums",
        "model": "tiny",
        "model_digest": None,
        "trials": 2,
        "tasks": ["a", "b"],
        "limits": {"max_messages": 20},
        "settings": {},
        "user_model": None,
        "floor": None,
        "versions": {"agent-sft": "0.1.0"},
        "started": "2026-01-01T00:00:00Z",
        "finished": None,
    }
    return Evaluation(**{**values, **changes})


def trial(task: str, number: int, score: float | None = 1.0, **changes: Any) -> Trial:
    """A trial; without a score one that the infrastructure failed."""
    error = "the server is gone" if score is None else None
    return Trial(task=task, trial=number, score=score, ended="error" if error else "done", error=error, **changes)


def written(
    folder: Path,
    scores: Mapping[str, Sequence[float | None]],
    *,
    families: Mapping[str, str] | None = None,
    **changes: Any,
) -> Path:
    """Write an evaluation with these scores of each task; a task with fewer than the most is unfinished."""
    trials = max(map(len, scores.values()))
    write_evaluation(folder, evaluation(**{"tasks": list(scores), "trials": trials, **changes}))
    lines = [
        msgspec.json.encode(trial(task, number, score, family=(families or {}).get(task)))
        for task, found in scores.items()
        for number, score in enumerate(found)
    ]
    (folder / RESULTS).write_bytes(b"".join(line + b"\n" for line in lines))
    return folder
