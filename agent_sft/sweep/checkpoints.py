"""Which of a training's models are scored: the last, the best, or all that were saved."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.config.sweep import SweepConfig
from agent_sft.engines.llamafactory.checkpoints import find_checkpoints, weights_fault
from agent_sft.errors import UserError
from agent_sft.evals.results import EVALUATION
from agent_sft.files import read_json
from agent_sft.runs.directory import RunDirectory
from agent_sft.sweep.evaluations import EVALUATIONS
from agent_sft.sweep.graph import Variant
from agent_sft.sweep.servers import settings_of


@dataclass(frozen=True)
class Scored:
    """One of a training's models."""

    checkpoint: str
    """`final`, `best` or `step-N`."""
    step: int | None
    model: str
    """Its folder."""


def check_saved(config: SweepConfig, variant: Variant, source: str) -> None:
    """Refuse to score models that the training does not keep, or cannot tell the best of.

    Raises:
        UserError: saying which option is missing.
    """
    if config.checkpoints == "final" or variant.sft is None:
        return
    settings = settings_of(variant.sft)
    where = f"{source}, checkpoints: {config.checkpoints}"
    limit = settings.get("save_total_limit")
    if str(settings.get("save_strategy", "steps")) in ("no", "False") or (isinstance(limit, int) and limit < 2):
        what = f"the training of {variant.name} keeps no checkpoint beside the last"
        raise UserError(what, where=where, fix="give sft.checkpoint_interval, the optimizer steps between two")
    if config.checkpoints == "best" and str(settings.get("eval_strategy", "no")) in ("no", "False"):
        what = f"the training of {variant.name} has no evaluation data to tell the best by"
        raise UserError(what, where=where, fix="give sft.eval_dataset, or sft.val_size")


def scored_models(config: SweepConfig, variant: Variant, out: Path) -> list[Scored] | None:
    """Return the models of a variant that are scored, by rising step; None while its training has not ended.

    A checkpoint that is gone counts where it was scored after the training: what it said stays.

    Raises:
        UserError: the best is asked for, and the training recorded no evaluation loss.
    """
    run = Path(variant.model)
    if variant.sft is not None and (step := variant.sft.pause_at) is not None:
        return [Scored(f"step-{step}", step, str(run / f"checkpoint-{step}"))]
    if config.checkpoints == "final" or (not run.is_dir() and variant.sft is None):
        return [Scored("final", last_step(run), variant.model)]
    stamp = RunDirectory(run).stamp("train")
    if variant.sft is not None and stamp is None:
        return None
    last = last_step(run)
    steps = _steps(run) | _evaluated(out / EVALUATIONS / variant.name, stamp.finished if stamp is not None else "")
    if config.checkpoints == "every":
        found = [Scored(f"step-{step}", step, str(run / f"checkpoint-{step}")) for step in sorted(steps - {last})]
        return [*found, Scored("final", last, variant.model)]
    best = _best_step(run, steps, last, variant.name)
    return [Scored("best", best, variant.model if best == last else str(run / f"checkpoint-{best}"))]


def last_step(run: Path) -> int | None:
    """Return the optimizer step at which a training ended; None where nothing tells."""
    state = read_json(run / "trainer_state.json")
    return int(state["global_step"]) if isinstance(state, dict) and "global_step" in state else None


def _steps(run: Path) -> set[int]:
    """Return the steps of the checkpoints whose weights are whole: a pruned one may have lost its optimizer."""
    return {known.step for known in find_checkpoints(run, 1) if weights_fault(known.path) is None}


def _evaluated(folder: Path, since: str) -> set[int]:
    """Return the steps of the checkpoints that were scored since the training ended, though they may be gone."""
    found = set()
    for path in folder.glob(f"*/*/{EVALUATION}"):
        evaluation = read_json(path) or {}
        step = re.search(r"checkpoint-(\d+)/?$", str(evaluation.get("model")))
        if step is not None and str(evaluation.get("started", "")) >= since:
            found.add(int(step[1]))
    return found


def _best_step(run: Path, steps: set[int], last: int | None, variant: str) -> int | None:
    """Return the step with the lowest evaluation loss among those whose model is there; the earlier one of two."""
    state: dict[str, Any] = read_json(run / "trainer_state.json") or {}
    losses = [
        (float(entry["eval_loss"]), int(entry["step"]))
        for entry in state.get("log_history", ())
        if "eval_loss" in entry and int(entry["step"]) in {*steps, last}
    ]
    if not losses:
        what = "the training recorded no evaluation loss of a checkpoint that is there"
        raise UserError(what, where=variant, fix="give sft.eval_dataset, or checkpoints: every")
    return min(losses)[1]
