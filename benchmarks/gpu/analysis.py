"""From measured runs to what is reported: rates, the share of the card's speed, ratios. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Model:
    """What the operations of a training step depend on."""

    parameters: int
    """All of them; a tied embedding counts once, as the output matrix that it is multiplied with."""
    layers: int
    hidden: int


def dense_operations(model: Model, tokens: float) -> float:
    """Return 6·N·T: a multiplication and an addition for each weight, forward once and backward twice.

    Kaplan et al., "Scaling Laws for Neural Language Models" (2020), section 2.1. What gradient checkpointing
    computes a second time does not count: it is no work that the training asks for.
    """
    return 6.0 * model.parameters * tokens


def attention_operations(model: Model, tokens: float, lengths: Sequence[int]) -> float:
    """Return the operations of causal attention over so many tokens of conversations with these lengths.

    For a conversation of s tokens 6·layers·hidden·s², which is half of Chowdhery et al., "PaLM" (2022),
    appendix B, since under a causal mask a token sees on average half of the others.
    """
    per_token = sum(length**2 for length in lengths) / sum(lengths)
    return 6.0 * model.layers * model.hidden * per_token * tokens


def summarise(runs: Sequence[dict[str, Any]], model: Model, lengths: Sequence[int], rate: float) -> dict[str, Any]:
    """Summarise the repeats of one kind of settings, each figure the median over them.

    Args:
        runs: results of `measure_training`.
        model: what was trained.
        lengths: tokens of each conversation.
        rate: operations per second of a large matrix product on the same device.
    """
    speeds = [run["tokens"] / run["seconds"] for run in runs]
    dense = [dense_operations(model, speed) / rate for speed in speeds]
    attention = attention_operations(model, 1, lengths) / rate
    whole = [share + attention * speed for share, speed in zip(dense, speeds, strict=True)]
    return {
        "tokens_per_second": median(speeds),
        "tokens_per_second_of_each": speeds,
        "loss_tokens_per_second": median(run["loss_tokens"] / run["seconds"] for run in runs),
        "tokens_per_step": median(run["tokens"] / run["steps"] for run in runs),
        "seconds_per_step": median(run["seconds"] / run["steps"] for run in runs),
        "peak_bytes": max(run["peak_bytes"] for run in runs),
        "mfu": median(dense),
        "mfu_with_attention": median(whole),
        "attention": runs[0]["attention"],
        "final_loss": median(mean_of_last(run["losses"]) for run in runs),
    }


def mean_of_last(losses: Sequence[float], share: float = 0.25) -> float:
    """Return the mean of the last part of a loss curve: single steps vary with their conversations."""
    last = losses[-max(1, round(len(losses) * share)) :]
    return sum(last) / len(last)


def ratio(seed: dict[str, Any], fast: dict[str, Any]) -> dict[str, float]:
    """Return how many times faster the fast settings are: of the medians, and the range over neighbouring runs."""
    pairs = [
        quick / slow
        for slow, quick in zip(seed["tokens_per_second_of_each"], fast["tokens_per_second_of_each"], strict=True)
    ]
    return {
        "ratio": fast["tokens_per_second"] / seed["tokens_per_second"],
        "lowest": min(pairs),
        "highest": max(pairs),
    }
