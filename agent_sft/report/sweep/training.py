"""What a variant's training left in its folder: losses, tokens, data, settings, versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent_sft.config.yaml_files import read_mapping
from agent_sft.engines.lines import LineFollower
from agent_sft.engines.llamafactory.results import read_result
from agent_sft.files import read_json
from agent_sft.runs.directory import RunDirectory

Curve = list[tuple[int, float]]
"""Optimizer steps and what was measured there, in order."""

FATES = ("read", "trained on", "evaluated on", "held out", "left out", "rejected", "dropped")
"""What becomes of a training's rows, as its ledger calls it."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """A training, finished or not."""

    steps: int
    """Optimizer steps that were done."""
    planned: int | None
    """Optimizer steps that it has in all."""
    loss: float | None
    """The last one logged."""
    eval_loss: float | None
    tokens: int | None
    """That went through the model, padding included; None where they were not counted."""
    seconds: float | None
    """Of the last attempt's training loop."""
    losses: Curve
    eval_losses: Curve
    inputs: dict[str, str]
    """Digests of the data, by name."""
    rows: dict[str, int]
    """What became of the rows of the data."""
    done: dict[str, dict[str, Any]]
    """What each step did to the rows: transforms, `prepare`, `fit`."""
    loss_tokens: dict[str, Any]
    """Tokens by dataset, as the ledger has them."""
    options: dict[str, Any]
    """Of `run_sft.sh`, every default written out."""
    arguments: dict[str, Any]
    """LLaMA-Factory's."""
    versions: dict[str, str]
    stages: dict[str, str]
    """Stages with a stamp, and when each ended."""


def read_training(folder: Path) -> Training | None:
    """Return what a training left in its folder; None where it did not begin."""
    if not folder.is_dir():
        return None
    result = read_result(folder)
    losses, eval_losses, seen, planned = _log(folder / "trainer_log.jsonl")
    run = read_mapping(folder / "run.yaml", "the settings of a run") if (folder / "run.yaml").is_file() else {}
    ledger = _mapping(read_json(folder / "data_report.json"))
    return Training(
        steps=max(result.steps, seen),
        planned=planned,
        loss=losses[-1][1] if losses else result.train_loss,
        eval_loss=eval_losses[-1][1] if eval_losses else result.eval_loss,
        tokens=result.tokens,
        seconds=result.seconds,
        losses=losses,
        eval_losses=eval_losses,
        inputs=_mapping(ledger.get("inputs")),
        rows={fate: ledger["rows"][fate] for fate in FATES if fate in _mapping(ledger.get("rows"))},
        done={name: step for name, step in _mapping(ledger.get("steps")).items() if step.get("rows")},
        loss_tokens={name: one for name, one in _mapping(ledger.get("tokens")).items() if isinstance(one, dict)},
        options=_mapping(run.get("options")),
        arguments=_mapping(run.get("llamafactory")),
        versions=_mapping(run.get("versions")),
        stages=_stages(folder),
    )


def _log(path: Path) -> tuple[Curve, Curve, int, int | None]:
    """Return both losses, the last step and the steps planned; of a step that was done again, the last time counts."""
    losses: dict[int, float] = {}
    evaluated: dict[int, float] = {}
    last, planned = 0, None
    for line in LineFollower(path).new_lines():
        step = line.get("current_steps")
        if not isinstance(step, int):
            continue
        last, planned = step, line.get("total_steps", planned)
        for key, curve in (("loss", losses), ("eval_loss", evaluated)):
            if isinstance(line.get(key), int | float):
                curve[step] = float(line[key])
    return sorted(losses.items()), sorted(evaluated.items()), last, planned


def _stages(folder: Path) -> dict[str, str]:
    run = RunDirectory(folder)
    stamps = (run.stamp(path.stem) for path in sorted((folder / "stages").glob("*.json")))
    return {stamp.stage: stamp.finished for stamp in sorted(filter(None, stamps), key=lambda one: one.finished)}


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
