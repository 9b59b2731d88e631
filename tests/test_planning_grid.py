"""The candidates of a plan, and how they follow from the data, the batch and what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_sft.config.planning import PlanConfig, read_plan_config
from agent_sft.errors import UserError
from agent_sft.planning.grid import (
    candidates_of,
    default_batch,
    default_epochs,
    default_rate,
    shared_out,
    warm_up_of,
)
from agent_sft.report.plan.record import ModelFacts


def asked(**options: Any) -> PlanConfig:
    given = {"data": "d.jsonl", "name": "d", "out": Path("plans/d"), "models": ("tiny",), **options}
    return read_plan_config(given)


def facts(name: str = "tiny") -> ModelFacts:
    return ModelFacts(
        name=name,
        model=name,
        template="qwen",
        tokens=1000,
        loss_tokens=100,
        longest=50,
        median=40,
        longer=0,
        examples=100,
        parameters=900_000,
    )


@pytest.mark.parametrize(("rows", "epochs"), [(50, 5), (625, 4), (1000, 3), (2500, 1), (90_000, 1)])
def test_about_2500_conversations_are_seen(rows: int, epochs: int) -> None:
    assert default_epochs(rows) == epochs


def test_three_ranks_with_a_rate_each_at_the_usual_batch() -> None:
    found = candidates_of(asked(), [facts()], 1000, 1)
    assert [(one.rank, one.rate) for one in found] == [(8, 1.5e-4), (16, 1e-4), (32, 5e-5)]
    assert {(one.batch, one.epochs, one.steps) for one in found} == {(16, 3.0, 189)}


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"warmup_steps": 0.1}, 10),
        ({"warmup_steps": 25}, 25),
        ({"warmup_steps": 25, "warmup_ratio": 0.03}, 3),
        ({"warmup_steps": 0.1, "lr_scheduler_type": "constant"}, 0),
        ({}, 0),
    ],
)
def test_the_warm_up_is_a_share_of_the_steps_or_a_number_of_them(settings: dict[str, Any], steps: int) -> None:
    assert warm_up_of(settings, 98) == steps


def test_rates_shrink_with_the_square_root_of_the_batch() -> None:
    assert [default_batch(rows) for rows in (38, 100, 113, 1000)] == [4, 8, 16, 16]
    assert default_rate(16, 4) == 5e-5
    found = candidates_of(asked(sft={"batch_size": 2, "grad_accum": 32}), [facts()], 1000, 1)
    assert [(one.batch, one.rate) for one in found] == [(64, 3e-4), (64, 2e-4), (64, 1e-4)]


def test_what_is_asked_for_is_tried_each_with_each() -> None:
    config = asked(ranks=(16, 32), rates=(1e-4, 5e-5), epochs=(3,), models=("tiny", "other.yaml"))
    found = candidates_of(config, [facts(), facts("other.yaml")], 1000, 1)
    assert len(found) == 8
    assert [(one.rank, one.rate) for one in found[:4]] == [(16, 1e-4), (16, 5e-5), (32, 1e-4), (32, 5e-5)]
    assert [one.number for one in found] == [*range(1, 9)]
    assert len({one.name for one in found}) == 8
    assert {one.epochs for one in found} == {3}


def test_a_rate_however_large_names_a_folder() -> None:
    assert candidates_of(asked(rates=(1e6,)), [facts()], 1000, 1)[0].name == "c1-r32-lr1e06"


def test_rates_alone_are_tried_at_the_largest_rank() -> None:
    assert {one.rank for one in candidates_of(asked(rates=(1e-4, 5e-5)), [facts()], 1000, 1)} == {32}


def test_all_weights_are_trained_with_a_tenth_of_the_rate() -> None:
    found = candidates_of(asked(sft={"finetuning_type": "full"}), [facts()], 1000, 1)
    assert [(one.rank, one.rate) for one in found] == [(None, 1.5e-5), (None, 1e-5), (None, 5e-6)]


@pytest.mark.parametrize(
    ("batch", "gpus", "shares"), [(16, 8, (8, 2)), (4, 8, (4, 1)), (12, 8, (6, 2)), (5, 1, (1, 5))]
)
def test_a_step_has_the_same_batch_on_any_number_of_gpus(batch: int, gpus: int, shares: tuple[int, int]) -> None:
    assert shared_out(batch, 1, gpus) == shares


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"draft": True, "evaluator": {"evaluator": "loss"}}, "two ways to judge"),
        ({"budget": "20"}, "give --gpu-price too, or hours"),
        ({"budget": "much"}, "neither an amount of money, such as 20, nor hours"),
        ({"ranks": (8, 8)}, "the same is given twice"),
        ({"rates": (0.0,)}, "must be greater than 0"),
        ({"ranks": (8,), "sft": {"finetuning_type": "full"}}, "--ranks are of LoRA adapters"),
        ({"sft": {"lr": 1e-4}}, "a plan decides this itself"),
        ({"sft": {"cutoff": 5}}, "did you mean 'cutoff_len'?"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        asked(**options)
    assert said in str(refused.value)


def test_a_budget_is_money_or_hours() -> None:
    assert asked(budget="3h").budget_hours == 3
    assert asked(budget="5", gpu_price=2.5).budget_hours == 2
    assert asked().budget_hours is None
