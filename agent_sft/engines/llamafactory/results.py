"""What a training writes while it runs and when it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.engines.lines import LineFollower
from agent_sft.files import read_json

TRAINER_FILES = (
    *(
        "checkpoint-*",
        "*.safetensors",
        "*.safetensors.index.json",
        "pytorch_model*",
        "adapter_*",
        "training_args.bin",
    ),
    *("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *(
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "trainer_log.jsonl",
        "trainer_state.json",
        "README.md",
    ),
    *("all_results.json", "train_results.json", "eval_results.json", "training_*.png", "runs", "Modelfile"),
)
"""Names, as patterns, of what LLaMA-Factory writes into its output directory."""


def trainer_files(output_dir: Path) -> list[Path]:
    """Return what is in `output_dir` of the things that LLaMA-Factory writes there."""
    return sorted({path for pattern in TRAINER_FILES for path in output_dir.glob(pattern)})


@dataclass
class TrainerLog:
    """Follows `trainer_log.jsonl` from where it ended when the follower was made."""

    path: Path

    def __post_init__(self) -> None:
        self._lines = LineFollower(self.path, from_end=True)
        self._first: tuple[float, int] | None = None

    def new_lines(self) -> list[dict[str, Any]]:
        """Return the whole lines that were added since the last call."""
        return self._lines.new_lines()

    def rate(self, step: int) -> float | None:
        """Return steps per second since the first step seen.

        The trainer's own figure divides the steps of all attempts by the time of this one.
        """
        if self._first is None:
            self._first = (time.monotonic(), step)
            return None
        seconds = time.monotonic() - self._first[0]
        return (step - self._first[1]) / seconds if seconds > 0 and step > self._first[1] else None


@dataclass(frozen=True)
class TrainingResult:
    """The figures of a finished training."""

    steps: int
    train_loss: float | None
    eval_loss: float | None
    tokens: int | None
    """Tokens that went through the model, padding included; None where they were not counted."""
    seconds: float | None
    """Wall time of the last attempt's training loop."""
    loss_plot: Path | None


def read_result(output_dir: Path) -> TrainingResult:
    """Read the figures that the trainer left in its output directory."""
    state = read_json(output_dir / "trainer_state.json") or {}
    train = read_json(output_dir / "train_results.json") or {}
    evaluation = read_json(output_dir / "eval_results.json") or {}
    plot = output_dir / "training_loss.png"
    return TrainingResult(
        steps=int(state.get("global_step", 0)),
        train_loss=_last_loss(state.get("log_history", []), "loss"),
        eval_loss=evaluation.get("eval_loss", _last_loss(state.get("log_history", []), "eval_loss")),
        tokens=int(state["num_input_tokens_seen"]) if state.get("num_input_tokens_seen") else None,
        seconds=train.get("train_runtime"),
        loss_plot=plot if plot.is_file() else None,
    )


def _last_loss(history: list[dict[str, Any]], key: str) -> float | None:
    return next((entry[key] for entry in reversed(history) if key in entry), None)
