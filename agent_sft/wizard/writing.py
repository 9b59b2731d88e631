"""The files that the wizard leaves: a script and its settings, to be read, changed and run without it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent_sft.files import write_atomic
from agent_sft.wizard.places import HERE, Place, place_of
from agent_sft.wizard.questions import Answers
from agent_sft.wizard.settings import Settings
from agent_sft.wizard.steps import DISTILL, data_of, model_of, settings_of, template_of

SCRIPT, SETTINGS, DISTILLATION = "sft_train.sh", "sft_train.yaml", "distill.yaml"
CLONE = Path(__file__).resolve().parents[2]
VERSION = "0.1.0"
"""Of the dataset that a distillation makes."""


@dataclass(frozen=True)
class Work:
    """What is to be done, and where."""

    name: str
    model: str
    template: str
    data: str
    """What is trained on: a file, or the dataset that a distillation makes."""
    settings: Settings
    place: Place
    distillation: dict[str, Any] | None
    """Options of `agent-sft distill`; None where the data is there."""
    less_memory: bool = False
    """Whether one conversation at a time goes through the model, which is spread over the GPUs and the machine."""

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return Path(self.name)

    @property
    def output(self) -> Path:
        """The run's directory, with the trained model."""
        return self.folder / "model"


def work_of(answers: Answers) -> Work:
    """Return what the answers ask for."""
    name, data = str(answers["name"]), data_of(answers)
    distillation = None
    if answers["scenario"] == DISTILL:
        asked = {
            "prompts": [data.path],
            "teacher": answers["teacher"],
            "key_variable": answers.get("key_variable"),
            "to": f"{name}@{VERSION}",
            "out": f"{name}/distilled",
            "samples": answers["samples"],
            "max_tokens_total": answers["max_tokens_total"],
            "allow_rejects": True if data.rejected else None,
        }
        distillation = {key: value for key, value in asked.items() if value is not None}
    return Work(
        name=name,
        model=model_of(answers),
        template=template_of(answers),
        data=data.path if distillation is None else str(distillation["to"]),
        settings=settings_of(answers),
        place=place_of(answers),
        distillation=distillation,
    )


def write(work: Work, *, rejected: bool) -> list[Path]:
    """Write the files; return them.

    Args:
        work: what they say.
        rejected: whether rows of the data cannot be used, and are left out.

    Raises:
        UserError: the place cannot be written.
    """
    contents = {SETTINGS: _settings(work), SCRIPT: _script(work, rejected=rejected)}
    if work.distillation is not None:
        head = f"# What the teacher is asked: options of `agent-sft distill` (docs/distill.md in {CLONE}).\n"
        contents[DISTILLATION] = head + yaml.safe_dump(work.distillation, sort_keys=False, allow_unicode=True)
    for name, content in contents.items():
        write_atomic(work.folder / name, content)
    (work.folder / SCRIPT).chmod(0o755)
    return [work.folder / name for name in contents]


def _settings(work: Work) -> str:
    settings = work.settings
    device = max(1, settings.batch_size // max(1, work.place.gpus))
    batch, passes = (1, device) if work.less_memory else (device, 1)
    values: dict[str, Any] = {"finetuning_type": settings.finetuning_type}
    if settings.finetuning_type == "lora":
        values["lora_rank"] = settings.lora_rank
    values |= {
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": passes,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup_steps,
        "cutoff_len": settings.cutoff_len,
    }
    head = (
        f"# Settings of the training '{work.name}', in LLaMA-Factory's own names; sft_train.sh reads them.\n"
        "# Change what you like: whatever LLaMA-Factory knows can stand here.\n"
    )
    return head + "".join(f"{name}: {_number(value)}\n" for name, value in values.items())


def _script(work: Work, *, rejected: bool) -> str:
    return "".join(f"{line}\n" for line in _script_lines(work, rejected=rejected))


def _script_lines(work: Work, *, rejected: bool) -> Iterator[str]:
    place = shlex.quote(str(CLONE))
    yield "#!/usr/bin/env bash"
    yield f"# Trains {work.model} on {work.data}. Run it again after whatever happened: what is done is skipped."
    yield "# Written by `agent-sft init`, and yours to change."
    yield "set -euo pipefail"
    yield ""
    yield "# Where agent-sft is, and the folder that the paths below begin in."
    yield f"agent_sft=${{AGENT_SFT_CLONE:-{place}}}"
    yield 'cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."'
    yield ""
    if work.distillation is not None or work.place.kind != HERE:
        yield 'python=$(bash "$agent_sft/scripts/env.sh" core)'
        yield ""
    if work.distillation is not None:
        yield "# The teacher's answers, as a dataset. None is paid for twice."
        yield f'"$python" -P -m agent_sft distill --config {work.name}/{DISTILLATION}'
        yield ""
    options = [
        shlex.quote(work.data),
        f"--model {shlex.quote(work.model)} --template {shlex.quote(work.template)}",
        f"--config {work.name}/{SETTINGS}",
        f"--output-dir {work.output}",
        f"--dataset-name {work.name.replace('-', '_')}",
    ]
    if work.place.gpus:
        options.append("--fast")
    if work.less_memory and work.place.gpus:
        options.append('--deepspeed "$agent_sft/ds_configs/ds_zero3.json"')
    if rejected and work.distillation is None:
        options.append("--allow-rejects")
    command = '"$python" -P -m agent_sft train sft' if work.place.kind != HERE else 'bash "$agent_sft/run_sft.sh"'
    yield f"{command} " + " \\\n    ".join([*options, *work.place.options])


def _number(value: Any) -> str:
    """Return a value as YAML 1.1 reads it back: 0.0002, not 2e-4, which is a text there."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:.12f}".rstrip("0")
    return str(value)
