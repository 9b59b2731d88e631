"""Resolves the options of a run into all that it will do, touching nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from agent_sft.config.sft import SFTConfig
from agent_sft.config.tiny import TinyModel, is_made_here, read_tiny
from agent_sft.data.capabilities import Capability, resolve_capability
from agent_sft.data.dataset_info import check_dataset_name
from agent_sft.data.rewards import Rewards
from agent_sft.engines.deepspeed.config import read_config, validate
from agent_sft.engines.environments import engine_python, engine_versions, given_python, is_made
from agent_sft.engines.llamafactory.arguments import (
    Override,
    merge_user_yaml,
    option_arguments,
    read_user_yaml,
)
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS, REPORTERS, Facts, load_facts
from agent_sft.engines.llamafactory.launch import Launch
from agent_sft.engines.llamafactory.templates import check_template, check_template_name
from agent_sft.errors import UserError
from agent_sft.runs.devices import Gpu, visible_gpus
from agent_sft.runs.directory import RunDirectory, check_is_directory
from agent_sft.stages.inputs import Input, resolve_inputs, rewards_of

BF16_CAPABILITY = 8.0
"""The first compute capability (Ampere) with bfloat16 arithmetic."""


@dataclass(frozen=True)
class TrainingPlan:
    """Everything a run will do."""

    config: SFTConfig
    arguments: dict[str, Any]
    """LLaMA-Factory's settings: defaults, the user's YAML, flags."""
    overrides: tuple[Override, ...]
    """Settings of ours that the user's YAML replaced."""
    launch: Launch
    gpus: tuple[Gpu, ...]
    output_dir: Path
    """Where the trained model goes."""
    python: Path | None
    """The train environment's Python; None in a dry run where there is none yet."""
    versions: dict[str, str | None]
    notes: tuple[str, ...]
    """What the user should know before it starts."""
    inputs: tuple[Input, ...] = ()
    """What is trained on, in order."""
    eval_inputs: tuple[Input, ...] = ()
    """What `--eval-dataset` names."""
    held_out: bool = False
    """Whether the rows that the pipeline held out are the evaluation data."""
    capability: Capability | None = None
    """What is put before every conversation."""
    fitted: bool = False
    """Whether training reads examples made of the prepared data, instead of these."""

    @property
    def run(self) -> RunDirectory:
        """The record of this machine's part in the run."""
        if self.launch.node_rank == 0:
            return RunDirectory(self.output_dir)
        return RunDirectory(self.output_dir / "nodes" / str(self.launch.node_rank))

    @property
    def elsewhere(self) -> tuple[RunDirectory, ...]:
        """Runs whose data stages are taken over where they did the same."""
        return tuple(RunDirectory(path) for path in self.config.data_from)

    @property
    def rewards(self) -> Rewards:
        """What is asked of the rewards of the input's rows."""
        return rewards_of(self.inputs, self.config.min_reward)

    @property
    def data_dir(self) -> Path:
        """Where the prepared data goes."""
        return self.run.path / "data"

    @property
    def fitted_dir(self) -> Path:
        """Where examples made of the prepared data go, where they have to be made."""
        return self.run.path / "fitted"

    @property
    def examples_dir(self) -> Path:
        """Where the examples are that the input became."""
        return self.fitted_dir if self.fitted else self.data_dir

    @property
    def dataset_dir(self) -> Path:
        """The folder whose `dataset_info.json` training reads."""
        return self.examples_dir if self.trains_on_input else Path(str(self.arguments["dataset_dir"]))

    @property
    def dataset(self) -> str:
        """Name that the prepared data gets."""
        return str(self.arguments["dataset"]) if self.trains_on_input else self.config.dataset_name

    @property
    def trains_on_input(self) -> bool:
        """Whether training reads the input; a user's YAML can name other data."""
        return "dataset_dir" not in self.arguments

    @property
    def is_tiny(self) -> bool:
        """Whether the base model is made on the spot."""
        return is_made_here(str(self.arguments["model_name_or_path"]))

    @property
    def tiny(self) -> TinyModel:
        """What a base model that is made on the spot is like."""
        return read_tiny(str(self.arguments["model_name_or_path"]))

    @property
    def base_dir(self) -> Path:
        """Where a model that is made on the spot goes."""
        return self.run.path / "base"

    @property
    def deepspeed(self) -> Path | None:
        """The DeepSpeed configuration, if any."""
        value = self.arguments.get("deepspeed")
        return Path(value) if isinstance(value, str) else None


def build_plan(
    config: SFTConfig, *, gpus: tuple[Gpu, ...] | None = None, data_comes_later: bool = False
) -> TrainingPlan:
    """Resolve a run's options and check all that can be checked without starting an engine.

    Args:
        config: the options.
        gpus: those that it will see; None for those that are visible now.
        data_comes_later: whether another command makes the data first: it is not looked at then.

    Raises:
        UserError: a setting is unknown, contradicts another, or cannot work.
    """
    inputs: tuple[Input, ...] = ()
    held_out: tuple[Input, ...] = ()
    if not data_comes_later:
        inputs = resolve_inputs([*config.input, *config.dataset], config.trajectory_dataset)
        held_out = resolve_inputs([config.eval_dataset]) if config.eval_dataset is not None else ()
    theirs = read_user_yaml(config.config) if config.config else {}
    gpus = visible_gpus() if gpus is None else gpus
    arguments, overrides = merge_user_yaml(config, option_arguments(config, precision=_precision(gpus)), theirs)
    output_dir = Path(str(arguments["output_dir"]))
    check_is_directory(output_dir)
    plan = TrainingPlan(
        config=config,
        arguments=arguments,
        overrides=overrides,
        launch=_launch(config, gpus),
        gpus=gpus,
        output_dir=output_dir,
        python=_existing_python() if config.dry_run else engine_python("train"),
        versions={},
        notes=(),
        inputs=inputs,
        eval_inputs=held_out,
        capability=resolve_capability(config.capability) if config.capability is not None else None,
    )
    if plan.capability is not None and not plan.trains_on_input:
        what = f"{config.config} names its own dataset_dir, whose data is trained on as it is"
        raise UserError(what, where="--capability", fix="leave one of the two out")
    check_dataset_name(plan.dataset)
    if plan.deepspeed is not None:
        read_config(plan.deepspeed)
    if plan.is_tiny:
        read_tiny(str(arguments["model_name_or_path"]))
    if plan.python is None:
        note = "the train environment is not installed (`agent-sft setup train`): settings and template are unchecked"
        return replace(plan, notes=(note,))
    versions = engine_versions(plan.python, DISTRIBUTIONS)
    if versions.get("llamafactory") is None:
        raise UserError(
            "LLaMA-Factory is not installed there",
            where=str(plan.python),
            fix="point AGENT_SFT_TRAIN_PYTHON to a Python that has it",
        )
    _check_reporters(plan)
    facts = load_facts(plan.python, versions)
    _check_against(facts, plan, theirs)
    return replace(plan, versions=versions)


def settings_yaml(arguments: dict[str, Any]) -> str:
    """Return LLaMA-Factory settings as the YAML file that it reads."""
    return yaml.safe_dump(arguments, sort_keys=False, allow_unicode=True)


def _check_against(facts: Facts, plan: TrainingPlan, theirs: dict[str, Any]) -> None:
    config = plan.config
    facts.check_keys(theirs, str(config.config))
    facts.check_keys(config.set, "--set")
    facts.check_keys(plan.arguments, "settings")
    template = str(plan.arguments["template"])
    check_template_name(template, facts)
    if plan.is_tiny and template != "qwen":
        raise UserError("the tiny model is made for the template 'qwen'", where="--template")
    if not config.force_template and not plan.is_tiny:
        check_template(template, str(plan.arguments["model_name_or_path"]), facts)
    if plan.deepspeed is not None and plan.python is not None:
        validate(plan.deepspeed, plan.python)


def _existing_python() -> Path | None:
    """Return the train environment's Python without making one."""
    return engine_python("train") if given_python("train") or is_made("train") else None


def _precision(gpus: tuple[Gpu, ...]) -> Literal["bf16", "fp16"] | None:
    """Return the half precision that all the GPUs compute in; a driver that does not tell is a recent one."""
    if not gpus:
        return None
    return (
        "fp16" if any(gpu.compute_capability and gpu.compute_capability < BF16_CAPABILITY for gpu in gpus) else "bf16"
    )


def _check_reporters(plan: TrainingPlan) -> None:
    """Refuse a tracker that is not installed: the trainer would find out after loading the model."""
    assert plan.python is not None
    for name in plan.config.report_to:
        installed = engine_versions(plan.python, REPORTERS[name])
        if not any(installed.values()):
            raise UserError(
                f"{name} is not installed in the train environment",
                where="--report-to",
                fix=f"point AGENT_SFT_TRAIN_PYTHON to an installation of LLaMA-Factory that has {name}",
            )


def _launch(config: SFTConfig, gpus: tuple[Gpu, ...]) -> Launch:
    return Launch(
        processes=config.nproc_per_node or max(1, len(gpus)),
        nodes=config.nnodes,
        node_rank=config.node_rank,
        master_addr=config.master_addr,
        master_port=config.master_port,
    )
