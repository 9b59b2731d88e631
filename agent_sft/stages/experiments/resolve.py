"""From an experiment file to the options of its training."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import ValidationError

from agent_sft.config.callbacks import CallbackConfig
from agent_sft.config.experiment import ExperimentConfig, SFTParams, read_experiment, read_params
from agent_sft.config.process import ProcessConfig, TransformConfig
from agent_sft.config.sft import SFTConfig
from agent_sft.config.tiny import is_made_here
from agent_sft.data.pipeline import make_pipeline, with_paths
from agent_sft.engines.environments import engine_python, engine_versions
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS, load_facts
from agent_sft.engines.llamafactory.templates import expected_template
from agent_sft.errors import UserError, nearest, wrong_value
from agent_sft.files import write_atomic
from agent_sft.stages.callbacks.contract import Callback
from agent_sft.stages.callbacks.registry import make_callbacks
from agent_sft.stages.in_loop.best import EVAL, metric_key
from agent_sft.stages.in_loop.plan import LOCAL_LOGGER, late_benchmarks

PIPELINE, ROWS = "pipeline.yaml", "rows.jsonl"
"""Made of the experiment file, in the run's directory."""
BACKEND_PARAMS = ("deepspeed", "nproc_per_node")
LLAMAFACTORY = ("adam_beta1", "adam_beta2", "enable_thinking")
"""Parameters that LLaMA-Factory knows by the same name."""


@dataclass(frozen=True)
class Resolved:
    """An experiment whose every kind and parameter was checked."""

    config: ExperimentConfig
    params: SFTParams
    source: str
    """The file, as messages say it."""
    folder: Path
    """To which files that kinds name are relative."""
    callbacks: tuple[CallbackConfig, ...]

    @property
    def run_dir(self) -> Path:
        """Where the run goes."""
        return self.config.output_dir / self.config.run_name

    @property
    def transforms(self) -> tuple[TransformConfig, ...]:
        """The transforms, with files by whole paths."""
        found = []
        for one in self.config.run.data.transforms:
            params = with_paths(one.kind, one.params, self.folder.absolute())
            plain = {name: str(value) if isinstance(value, Path) else value for name, value in params.items()}
            found.append(TransformConfig(kind=_whole(one.kind, self.folder), params=plain))
        return tuple(found)

    def notes(self) -> list[str]:
        """Return what is worth knowing of it before anything runs."""
        steps = self.params.max_steps
        return late_benchmarks(self.config.all_benchmarks, steps) if steps is not None else []

    def sft(self, folder: Path, *, template: str) -> SFTConfig:
        """Return the options of the training.

        Args:
            folder: of the files that `write_inputs` makes.
            template: LLaMA-Factory's chat template.

        Raises:
            UserError: values contradict each other.
        """
        config, params, data = self.config, self.params, self.config.run.data
        made = make_callbacks(self.callbacks, where=f"{self.source}, callbacks")
        if params.batch_size % params.grad_accum:
            what = f"batch_size {params.batch_size} cannot be spread over {params.grad_accum} equal forward passes"
            raise UserError(what, where=f"{self.source}, run.algorithm.params.grad_accum")
        options: dict[str, Any] = {
            "input": (str(folder / ROWS),) if data.rows else _names(data.source_kind, data.path),
            "process": folder / PIPELINE if data.transforms else None,
            "model": config.run.model.name,
            "template": template,
            "output_dir": self.run_dir,
            "dataset_name": re.sub(r"[^\w-]+", "_", config.run_name),
            "epochs": params.num_epochs,
            "steps": params.max_steps,
            "lr": params.learning_rate,
            "batch_size": params.batch_size // params.grad_accum,
            "cutoff_len": params.max_seq_len,
            "checkpoint_interval": params.save_every or None,
            "save_at": () if params.save_every else params.save_at_fractions,
            "eval_dataset": data.eval_path,
            "benchmark": config.all_benchmarks,
            "callbacks": self.callbacks,
            "report_to": tuple(dict.fromkeys(one.report_to for one in made if one.report_to)),
            "set": self._settings(made),
            **config.run.backend.params,
        }
        for name in (
            *("grad_accum", "finetuning_type", "lora_rank", "lora_alpha", "lora_target", "on_overflow", "supervise"),
            *("best_by", "val_size", "allow_rejects", "fast", "seed"),
        ):
            options[name] = getattr(params, name)
        try:
            return SFTConfig.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise UserError(f"{place}: {wrong_value(first)}".removeprefix(": "), where=self.source) from error

    def write_inputs(self, folder: Path) -> None:
        """Write what the training reads of the experiment file: the pipeline, and rows that stand in it."""
        data = self.config.run.data
        if data.transforms:
            listed = [one.model_dump(mode="json") for one in self.transforms]
            text = yaml.safe_dump({"transforms": listed}, sort_keys=False, allow_unicode=True)
            _write_new(folder / PIPELINE, text.encode())
        if data.rows:
            lines = [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in data.rows]
            _write_new(folder / ROWS, b"".join(lines))

    def _settings(self, made: Iterable[Callback]) -> dict[str, Any]:
        found = {name: getattr(self.params, name) for name in LLAMAFACTORY}
        found["adam_epsilon"] = self.params.adam_eps
        found["run_name"] = self.params.wandb_name
        settings = {name: value for name, value in found.items() if value is not None}
        for callback in made:
            settings |= callback.settings()
        return {**settings, **self.params.set}


def resolve(path: Path) -> Resolved:
    """Read an experiment file and check every kind and every parameter, touching nothing else.

    Raises:
        UserError: a key, kind, parameter or value is wrong, with the nearest known name.
    """
    return resolved(read_experiment(path), source=str(path), folder=path.parent)


def resolved(config: ExperimentConfig, *, source: str, folder: Path) -> Resolved:
    """Check an experiment that was read already; as `resolve`."""
    params = read_params(config, source)
    data = config.run.data
    if data.transforms:
        make_pipeline(
            ProcessConfig.model_construct(transforms=data.transforms), where=f"{source}, run.data", folder=folder
        )
    for name in config.run.backend.params:
        if name not in BACKEND_PARAMS:
            where = f"{source}, run.backend.params"
            hint = nearest(name, BACKEND_PARAMS) or f"there are {', '.join(BACKEND_PARAMS)}"
            raise UserError(f"the backend 'local' has no parameter '{name}'", where=where, fix=hint)
    found = Resolved(config, params, source, folder, _callbacks(config, params, folder))
    make_callbacks(found.callbacks, where=f"{source}, callbacks")
    if params.best_by not in (None, EVAL):
        metric_key(str(params.best_by), config.all_benchmarks, where=f"{source}, run.algorithm.params.best_by")
    for one in found.callbacks:
        if one.kind == "early_stopping" and (metric := one.params.get("metric")) not in (None, EVAL):
            metric_key(str(metric), config.all_benchmarks, where=f"{source}, callbacks, early_stopping")
    found.sft(found.run_dir, template="qwen")
    return found


def template_of(found: Resolved) -> str:
    """Return the chat template that the experiment's model wants.

    Raises:
        UserError: nothing tells which.
    """
    given, model = found.config.run.model.template, found.config.run.model.name
    if given is not None:
        return given
    if is_made_here(model):
        return "qwen"
    python = engine_python("train")
    expected = expected_template(model, load_facts(python, engine_versions(python, DISTRIBUTIONS)))
    if expected is None:
        fix = "name LLaMA-Factory's template for it, such as qwen or llama3"
        raise UserError(f"nothing tells which chat template {model} has", where="run.model.template", fix=fix)
    return expected


def _callbacks(config: ExperimentConfig, params: SFTParams, folder: Path) -> tuple[CallbackConfig, ...]:
    given = [*config.callbacks, *params.callbacks]
    if params.wandb_project is not None:
        given.append(CallbackConfig(kind="wandb", params={"project": params.wandb_project}))
    if all(one.kind != LOCAL_LOGGER.kind for one in given):
        given.append(LOCAL_LOGGER)
    return tuple(one.model_copy(update={"kind": _whole(one.kind, folder)}) for one in given)


def _whole(kind: str, folder: Path) -> str:
    """Return a kind with its file, if it names one, by the whole path."""
    if ".py:" not in kind:
        return kind
    name, _, class_name = kind.rpartition(":")
    return f"{(folder / name).absolute()}:{class_name}"


def _write_new(path: Path, content: bytes) -> None:
    """Write a file unless it holds just that."""
    if not path.is_file() or path.read_bytes() != content:
        write_atomic(path, content)


def _names(source_kind: str, paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"hf:{path.removeprefix('hf:')}" for path in paths) if source_kind == "hub" else paths
