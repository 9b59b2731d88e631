"""What a sweep is asked to do: the keys of a sweep file, each with its default."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Value = float | str
"""What a variant has of the varied setting: a number where they can be ordered and a trend can be asked for."""


class PrepareConfig(BaseModel):
    """A command that makes files which the sweep needs, run before everything else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: tuple[str, ...] = Field(min_length=1)
    """Program and arguments, run in the folder that the sweep was started in; `python` is agent-sft's own."""

    makes: tuple[Path, ...] = Field(min_length=1)
    """The files that it makes."""

    reads: tuple[Path, ...] = ()
    """Files and folders that it is made of: when their content changes, it runs again."""


class VariantConfig(BaseModel):
    """One variant in a list of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Unique; names its folder."""

    sft: dict[str, Any] = Field(default_factory=dict)
    """Options of `run_sft.sh` that differ from the sweep's own."""

    value: Value | None = None
    """What it has of the varied setting."""

    model: str | None = None
    """A finished model (a run's folder, any model's folder, a hub name): nothing is trained."""


class EvaluatorConfig(BaseModel):
    """One evaluation that every model goes through: options of `agent-sft eval run`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str | None = None
    """Names its folder and its column; the task's name when not given."""

    config: Path | None = None
    """A file with the options; keys beside it override those in the file."""


class ResourcesConfig(BaseModel):
    """What the sweep may use, and what a stage of each kind takes of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    executor: Literal["local", "ray"] = "local"
    """Where stages run: on this machine, or on the machines of a Ray cluster."""

    ray_address: str | None = None
    """HOST:PORT of the Ray cluster; RAY_ADDRESS, or the one that runs on this machine, when not given."""

    jobs: int | None = Field(None, gt=0)
    """Stages at the same time; as many as the slots allow when not given."""

    gpus: tuple[int, ...] | None = Field(None, min_length=1)
    """GPUs to use, by nvidia-smi's numbers; all that are visible when not given."""

    gpus_per_train: int | None = Field(None, gt=0)
    """GPUs of a training; all of them when not given."""

    nodes_per_train: int = Field(1, gt=0)
    """Machines of a cluster on which each training runs, with `gpus_per_train` or `cores_per_train` of each."""

    gpus_per_serve: int | None = Field(None, gt=0)
    """GPUs of a server; one when not given."""

    cores: int | None = Field(None, gt=0)
    """Processors to share out where there is no GPU; all that this process may use when not given."""

    cores_per_train: int | None = Field(None, gt=0)
    """Processors of a training without a GPU; all but those of a server when not given."""

    cores_per_serve: int | None = Field(None, gt=0)
    """Processors of a server without a GPU; one when not given."""

    @model_validator(mode="after")
    def _check_executor(self) -> ResourcesConfig:
        if self.executor == "local" and self.ray_address is not None:
            raise ValueError("ray_address is of a cluster: give executor: ray (--executor ray) with it")
        if self.executor == "local" and self.nodes_per_train > 1:
            raise ValueError("nodes_per_train are machines of a cluster: give executor: ray (--executor ray) with it")
        if self.executor != "local" and self.gpus is not None:
            raise ValueError("gpus are those of this machine; a cluster chooses its own: leave them out")
        if self.executor != "local" and self.cores is not None:
            raise ValueError("cores are those of this machine; a cluster says how many it has: leave them out")
        return self


class SweepConfig(BaseModel):
    """A sweep: variants that are trained, served, scored and compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Names the sweep and, by default, its folder."""

    question: str | None = None
    """What it is to find out, in a sentence; shown on the report."""

    takes: str | None = None
    """How long it took whom, in words: said at the start, as long as this machine has no times of its own."""

    out: Path | None = None
    """The sweep's folder; `sweeps/NAME` when not given."""

    prepare: tuple[PrepareConfig, ...] = ()
    """Commands that make the data."""

    base: dict[str, Any] | None = None
    """Options of `run_sft.sh` for a model that is trained once and from which every variant starts."""

    sft: dict[str, Any] = Field(default_factory=dict)
    """Options of `run_sft.sh` for every variant; `config` names a LLaMA-Factory YAML."""

    data: tuple[str, ...] = ()
    """A variant for each file: globs and brace patterns; the part that varies is the variant's value."""

    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """Values of options of `run_sft.sh`, `set.KEY` for a LLaMA-Factory key: a variant for each combination, times those
    of `data` or `variants`."""

    variants: tuple[VariantConfig, ...] = ()
    """Variants one by one."""

    models: tuple[str, ...] = ()
    """Finished models to score beside them."""

    varied: str | None = None
    """What varies, with its unit, as the figure's axis says it; the option's name when not given."""

    seeds: tuple[int, ...] = (42,)
    """Training seeds: each variant is trained once with each."""

    checkpoints: Literal["final", "best", "every"] = "final"
    """Which of a training's models are scored: the last, the one with the lowest evaluation loss, every one saved."""

    evaluators: tuple[EvaluatorConfig, ...] = ()
    """What every model is scored on."""

    serve: dict[str, Any] = Field(default_factory=dict)
    """Options of `agent-sft serve`."""

    share_server: bool = True
    """Let one server take the next model's weights where architecture, tokenizer and chat template are the same;
    adapters of one base always share one."""

    baseline: str | None = None
    """The variant that the others are compared with; the first when not given."""

    resources: ResourcesConfig = ResourcesConfig()

    retries: int = Field(2, ge=0)
    """How often a stage is tried again that failed for a passing reason."""

    keep: Literal["last", "scored", "all"] = "scored"
    """Checkpoints that stay when a variant is finished: the last alone, those that were scored, all."""

    gpu_price: float | None = Field(None, ge=0)
    """Price of one GPU for an hour, in any currency: the report then says what it cost."""

    @field_validator("data", "models", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given
