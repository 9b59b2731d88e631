"""A trained model as a folder that stands by itself: whole weights, tokenizer, the trained chat template, a card."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from agent_sft.engines.environments import engine_python
from agent_sft.engines.llamafactory.checkpoints import weights_fault
from agent_sft.engines.llamafactory.export import export_command, export_environment, export_settings
from agent_sft.engines.llamafactory.failures import remedy
from agent_sft.engines.llamafactory.launch import SHARED
from agent_sft.engines.model_files import SMALL_FILES, WEIGHTS, ModelFiles
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import unwritable, write_atomic
from agent_sft.runs.processes import Child, StopSignal
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.serving_plan import local_model

CARD = "README.md"
COPIED = (
    *SMALL_FILES,
    *WEIGHTS,
    *("*.safetensors.index.json", "*.bin.index.json"),
    *("vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "*.model", "*.py"),
)
"""What makes a folder a model: patterns of names. The rest of a run's directory is its record."""
NOT_WEIGHTS = ("training_args.bin",)
POLL_SECONDS = 0.1


def export_model(
    reference: str, target: Path, *, card: Callable[[ModelFiles], str], reporter: Reporter, stop: StopSignal
) -> ModelFiles:
    """Write a model's folder that needs nothing else; an adapter is merged into its base.

    Args:
        reference: a run's directory, a checkpoint, an adapter or a model's folder.
        target: the folder to make.
        card: makes the text of its README of what is exported.
        reporter: is told what is done.
        stop: signals that end it.

    Raises:
        UserError: there is no such model, or the target holds something already.
        WorkFailed: the merge failed.
        Interrupted: the user stopped it; nothing is left.
    """
    model = local_model(reference)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError("exists already", where=str(target), fix="choose another folder for --export")
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            if model.adapter is None:
                reporter.say(f"export: copying {model.reference}")
                _copy(model.folder, part)
            else:
                _merge(model, part, target.with_name(f"{target.name}.export.log"), reporter, stop)
            if model.chat_template is not None:
                write_atomic(part / "chat_template.jinja", model.chat_template)
            write_atomic(part / CARD, card(model))
            if target.is_dir():
                target.rmdir()
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise unwritable(target, error) from error
    return local_model(str(target))


def _copy(source: Path, target: Path) -> None:
    names = {path for pattern in COPIED for path in source.glob(pattern)}
    for path in sorted(names):
        if path.name not in NOT_WEIGHTS:
            shutil.copyfile(path, target / path.name)


def _merge(model: ModelFiles, target: Path, log: Path, reporter: Reporter, stop: StopSignal) -> None:
    """Let LLaMA-Factory merge an adapter into its base."""
    if not model.base:
        raise UserError("adapter_config.json does not name the base model", where=model.reference)
    python = engine_python("train")
    settings = target / "merge.yaml"
    write_atomic(settings, export_settings(model.folder.absolute(), model.base, model.settings, target.absolute()))
    reporter.say(f"export: merging {model.reference} into {model.base}; log in {log}")
    log.unlink(missing_ok=True)
    child = Child(SHARED.forked(export_command(python, settings.absolute())), log=log, env=export_environment(python))
    try:
        while (code := child.poll()) is None:
            stop.pause(POLL_SECONDS)
    finally:
        child.kill()
    if code != 0 or (fault := weights_fault(target)) is not None:
        what = f"the merge failed (exit code {code})" if code else f"the merge left {fault} missing or damaged"
        raise WorkFailed(what, log=log, fix=remedy(log, code))
    settings.unlink()
    log.unlink()
