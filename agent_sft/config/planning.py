"""What a plan is asked to do: the options of `agent-sft plan`, each with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from agent_sft.config.sft import SFTConfig
from agent_sft.config.sweep import ResourcesConfig
from agent_sft.config.yaml_files import read_mapping
from agent_sft.errors import UserError, nearest, wrong_value

Way = Literal["loss", "evaluator", "drafted"]
"""How models are judged: by the loss on held-out conversations, by an evaluator of the user's, or by one that is made
of the data."""

DECIDED = (
    *("input", "dataset", "output_dir", "dataset_name", "model", "template", "lr", "lora_rank", "epochs", "seed"),
    *("eval_dataset", "val_size", "checkpoint_interval", "pause_at", "data_from", "nnodes", "node_rank", "master_addr"),
    *("master_port", "nproc_per_node", "steps", "dry_run", "fresh", "given"),
)
"""Options of a run that a plan decides itself, or has options of its own for."""

DATA_OPTIONS = ("format", "min_reward", "process", "skip_process", "trajectory_dataset", "allow_rejects")
"""Options of a run that say what becomes of the data, which a plan processes once for all of its runs."""

_BUDGET = re.compile(r"(\d+(?:\.\d+)?)(h?)")


class PlanConfig(BaseModel):
    """A plan: from data to a deployed model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    """The conversations: a file, a glob, NAME@VERSION or hf:NAME."""

    name: str
    """Names the plan, its folder and what it deploys."""

    out: Path
    """The plan's folder."""

    models: tuple[str, ...] = Field(("Qwen/Qwen2.5-7B-Instruct",), min_length=1)
    """Models to start from, as `run_sft.sh --model` takes them: the candidates are tried on each."""

    template: str | None = None
    """LLaMA-Factory's chat template; each model's own when not given."""

    ranks: tuple[int, ...] = ()
    """LoRA ranks of the candidates; 8, 16 and 32 with a learning rate each when neither ranks nor rates are given."""

    rates: tuple[float, ...] = ()
    """Learning rates of the candidates, each with each rank."""

    epochs: tuple[float, ...] = ()
    """Passes over the data; min(5, ceil(2500 / conversations)) when not given."""

    seed: int = 42
    """Of the parts of the data, and of the trainings."""

    eval_data: str | None = None
    """Conversations of your own to choose and judge by; a part of the data is held out when not given."""

    group_by: str | None = None
    """The place in a row that names its group, such as `metadata.task_id`: its rows stay on one side."""

    search_rows: int = Field(1000, gt=9)
    """Candidates are tried on so many conversations of larger data."""

    evaluator: dict[str, Any] | None = None
    """Options of `agent-sft eval run`, for an evaluator of your own."""

    draft: bool = False
    """Make an evaluator of the data, as `agent-sft eval draft` does."""

    search: Literal["grid", "asha"] = "grid"
    """Train every candidate to its end, or stop those that fall behind."""

    max_parallel: int = Field(6, gt=0)
    """Candidates at the same time."""

    skip_final: bool = False
    """Deploy the winning candidate, without training it on all data."""

    deploy: bool = True
    """Serve the final model at the end."""

    probe: bool = True
    """Measure twenty steps of each model before the costs are told."""

    gpu_price: float | None = Field(None, ge=0)
    """Price of one GPU for an hour, in any currency; of this machine where there is no GPU."""

    budget: str | None = None
    """What it may cost: an amount of money, or hours of GPUs as `3h`."""

    sft: dict[str, Any] = Field(default_factory=dict)
    """Options of `run_sft.sh` for every training."""

    serve: dict[str, Any] = Field(default_factory=dict)
    """Options of `agent-sft serve`, for evaluations and the deployment."""

    resources: ResourcesConfig = ResourcesConfig()

    @field_validator("ranks")
    @classmethod
    def _positive(cls, ranks: tuple[int, ...]) -> tuple[int, ...]:
        if any(rank < 1 for rank in ranks):
            raise ValueError("ranks are whole numbers from 1")
        return ranks

    @field_validator("rates", "epochs")
    @classmethod
    def _above_zero(cls, given: tuple[float, ...]) -> tuple[float, ...]:
        if any(value <= 0 for value in given):
            raise ValueError("must be greater than 0")
        return given

    @field_validator("models", "ranks", "rates", "epochs")
    @classmethod
    def _once(cls, given: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(given)) < len(given):
            raise ValueError("the same is given twice")
        return given

    @field_validator("budget")
    @classmethod
    def _amount(cls, budget: str | None) -> str | None:
        if budget is not None and not _BUDGET.fullmatch(budget):
            raise ValueError("neither an amount of money, such as 20, nor hours, such as 3h")
        return budget

    @model_validator(mode="after")
    def _fitting(self) -> PlanConfig:
        if self.draft and self.evaluator is not None:
            raise ValueError("--draft and an evaluator are two ways to judge: give one of them")
        if self.budget is not None and not self.budget.endswith("h") and self.gpu_price is None:
            raise ValueError("--budget is money: give --gpu-price too, or hours, such as --budget 3h")
        if self.ranks and self.sft.get("finetuning_type", "lora") != "lora":
            raise ValueError("--ranks are of LoRA adapters: leave them out with --finetuning-type full")
        return self

    @property
    def way(self) -> Way:
        """How models are judged."""
        return "drafted" if self.draft else "evaluator" if self.evaluator is not None else "loss"

    @property
    def is_lora(self) -> bool:
        """Whether adapters are trained."""
        return bool(self.sft.get("finetuning_type", "lora") == "lora")

    @property
    def budget_hours(self) -> float | None:
        """The budget in hours of a device; None where there is none."""
        if self.budget is None:
            return None
        match = _BUDGET.fullmatch(self.budget)
        assert match is not None
        if match[2]:
            return float(match[1])
        assert self.gpu_price is not None
        return float(match[1]) / self.gpu_price if self.gpu_price else float("inf")


def read_plan_config(given: dict[str, Any]) -> PlanConfig:
    """Validate the options of a plan.

    Raises:
        UserError: naming the option and what is wrong with it.
    """
    sft = dict(given.get("sft", {}))
    given = {**given, "sft": sft}
    for name in sft:
        if name not in SFTConfig.model_fields:
            raise UserError("run_sft.sh has no such option", where=name, fix=nearest(name, SFTConfig.model_fields))
        if name in DECIDED:
            raise UserError("a plan decides this itself", where=f"--{name.replace('_', '-')}", fix="leave it out")
    if "config" in sft and "finetuning_type" not in sft:
        theirs = read_mapping(Path(sft["config"]), "LLaMA-Factory's settings")
        sft["finetuning_type"] = theirs.get("finetuning_type", "lora")
    try:
        SFTConfig.model_validate({"input": "-", **sft})
        return PlanConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        flag = _flag(str(first["loc"][0])) if first["loc"] else None
        raise UserError(wrong_value(first), where=flag) from error


def _flag(name: str) -> str:
    return "--model" if name == "models" else f"--{name.replace('_', '-')}"
