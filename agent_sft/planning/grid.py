"""The candidates: which settings are tried, and how they follow from the data and the batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from agent_sft.config.planning import DATA_OPTIONS, PlanConfig
from agent_sft.report.plan.record import Candidate, ModelFacts
from agent_sft.sweep.servers import settings_of
from agent_sft.sweep.variants import training

LORA_RATES = {8: 1.5e-4, 16: 1.0e-4, 32: 5.0e-5}
"""Learning rates by LoRA rank, for a batch of `REFERENCE_BATCH` conversations."""
FULL_TO_LORA = 10
"""An adapter is trained with about ten times the rate of all weights."""
REFERENCE_BATCH = 16
FEWEST_STEPS = 8
"""Optimizer steps of a pass over the data below which the default batch is halved."""
MOST_EPOCHS, CONVERSATIONS_SEEN = 5, 2500


def default_epochs(rows: int) -> float:
    """Return the passes over so many conversations: 2,500 of them are seen, or as many as five passes show."""
    return float(min(MOST_EPOCHS, math.ceil(CONVERSATIONS_SEEN / rows)))


def default_batch(rows: int) -> int:
    """Return the conversations of an optimizer step: 16, halved until a pass has eight steps."""
    batch = REFERENCE_BATCH
    while batch > 1 and math.ceil(rows / batch) < FEWEST_STEPS:
        batch //= 2
    return batch


def default_rate(rank: int | None, batch: int) -> float:
    """Return the learning rate for a rank, None for all weights: it grows with the square root of the batch.

    Of ranks between those of the table, that of the nearest counts.
    """
    nearest = min(LORA_RATES, key=lambda known: abs(math.log2(known / (rank or 16))))
    rate = LORA_RATES[nearest] / (1 if rank is not None else FULL_TO_LORA) * math.sqrt(batch / REFERENCE_BATCH)
    return float(f"{rate:.2g}")


def names_batch(config: PlanConfig) -> bool:
    """Tell whether the user said how large a step is."""
    return any(name in config.sft for name in ("batch_size", "grad_accum", "config"))


def options_for(config: PlanConfig, model: str, template: str) -> dict[str, Any]:
    """Return the options of a run that all trainings on a model share."""
    own = {name: value for name, value in config.sft.items() if name not in DATA_OPTIONS}
    return {
        "finetuning_type": "lora",
        **own,
        "model": model,
        "template": template,
        "skip_process": True,
        "allow_rejects": bool(config.sft.get("allow_rejects")),
    }


def settings_for(config: PlanConfig, model: str, template: str) -> dict[str, Any]:
    """Return LLaMA-Factory's settings of a training on a model, without what candidates differ in."""
    return settings_of(training(options_for(config, model, template), {"input": ("-",)}, {}))


def batch_of(config: PlanConfig, settings: dict[str, Any], processes: int, rows: int) -> int:
    """Return the conversations of an optimizer step, over all devices.

    Args:
        config: the plan.
        settings: LLaMA-Factory's.
        processes: of a candidate's training.
        rows: that candidates are trained on.
    """
    if not names_batch(config):
        return default_batch(rows)
    return int(settings["per_device_train_batch_size"]) * int(settings["gradient_accumulation_steps"]) * processes


def shared_out(batch: int, per_device: int, processes: int) -> tuple[int, int]:
    """Return processes and forward passes of each, by which a step has exactly this batch.

    Args:
        batch: conversations of an optimizer step.
        per_device: conversations of a forward pass.
        processes: as many as there could be.
    """
    used = next(
        (count for count in range(max(1, processes), 0, -1) if batch % (count * per_device) == 0),
        1,
    )
    return used, max(1, batch // (used * per_device))


def steps_of(examples: int, batch: int, epochs: float) -> int:
    """Return the optimizer steps of a training."""
    return max(1, math.ceil(epochs * math.ceil(examples / batch)))


def warm_up_of(settings: Mapping[str, Any], steps: int) -> int:
    """Return the optimizer steps while the learning rate rises; the rule is that of transformers' trainer.

    Args:
        settings: LLaMA-Factory's.
        steps: of the training.
    """
    if settings.get("lr_scheduler_type") == "constant":
        return 0
    asked = settings["warmup_ratio"] if settings.get("warmup_ratio") is not None else settings.get("warmup_steps") or 0
    return int(asked) if asked >= 1 else math.ceil(asked * steps)


def candidates_of(config: PlanConfig, models: Sequence[ModelFacts], rows: int, processes: int) -> list[Candidate]:
    """Return the candidates, in their order: every model with every setting.

    Args:
        config: the plan.
        models: what is known of them.
        rows: conversations that candidates are trained on.
        processes: of a candidate's training.
    """
    found: list[Candidate] = []
    for facts in models:
        settings = settings_for(config, facts.model, facts.template)
        batch = batch_of(config, settings, processes, rows)
        for (rank, rate), epochs in itertools.product(_pairs(config, batch), config.epochs or (default_epochs(rows),)):
            number, steps = len(found) + 1, steps_of(rows, batch, epochs)
            words = [f"r{rank}"] if rank is not None else []
            words.append(f"lr{rate:g}".replace("+", ""))  # of 1e+06: it names a folder
            words += [f"e{epochs:g}"] if len(config.epochs) > 1 else []
            found.append(
                Candidate(
                    number=number,
                    name=f"c{number}-{'-'.join(words)}",
                    model=facts.name,
                    rank=rank,
                    rate=rate,
                    epochs=epochs,
                    batch=batch,
                    steps=steps,
                    warm_up=warm_up_of(settings, steps),
                )
            )
    return found


def _pairs(config: PlanConfig, batch: int) -> list[tuple[int | None, float]]:
    """Return ranks with their rates: the user's, each with each; or the table's."""
    if not config.is_lora:
        rates = config.rates or sorted({default_rate(None, batch) * by for by in (0.5, 1.0, 1.5)}, reverse=True)
        return [(None, float(f"{rate:.3g}")) for rate in rates]
    if config.rates:
        # The rate matters more than the rank: with rates alone, the largest rank of the table.
        return [(rank, rate) for rank in config.ranks or (max(LORA_RATES),) for rate in config.rates]
    return [(rank, default_rate(rank, batch)) for rank in config.ranks or LORA_RATES]
