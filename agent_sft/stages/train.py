"""Training: resumed from the newest whole checkpoint, watched, stopped well, and judged by its outcome."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from agent_sft.engines.deepspeed.extensions import held_extensions
from agent_sft.engines.llamafactory.arguments import fingerprinted
from agent_sft.engines.llamafactory.checkpoints import find_checkpoints, weights_fault
from agent_sft.engines.llamafactory.failures import remedy
from agent_sft.engines.llamafactory.launch import (
    LEFT_OUT,
    SHARED,
    SHARED_DEEPSPEED,
    training_command,
    training_environment,
)
from agent_sft.engines.llamafactory.paths import plainly_named
from agent_sft.engines.llamafactory.results import TrainerLog, trainer_files
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import digest_file, read_json, write_atomic, write_json
from agent_sft.runs.directory import RunDirectory, Stamp, now
from agent_sft.runs.processes import Child, Interrupted, StopSignal
from agent_sft.stages.base_model import model_identity
from agent_sft.stages.in_loop.loop import InLoop, in_loop
from agent_sft.stages.in_loop.plan import TRAINERS, best_metric, loop_inputs
from agent_sft.stages.parity import ParityCheck
from agent_sft.stages.plan import TrainingPlan, settings_yaml
from agent_sft.stages.reporting import Reporter, TrainingProgress
from agent_sft.stages.stage import Stage, example_digests

POLL_SECONDS = 0.1
MANY_ROWS = 2000
"""From here on, tokenising in several processes is worth starting them."""
MOST_WORKERS = 16


def refuse_what_others_made(plan: TrainingPlan) -> None:
    """Refuse an output directory with a model in it that no run of ours trained, unless it is to be set aside.

    Raises:
        UserError: naming what is there.
    """
    present = trainer_files(plan.output_dir)
    if present and not plan.config.fresh and not _begun_path(plan).is_file() and plan.launch.node_rank == 0:
        names = ", ".join(path.name for path in present[:3])
        raise UserError(
            f"holds files that this command did not make ({names}{', …' if len(present) > 3 else ''})",
            where=str(plan.output_dir),
            fix="choose another --output-dir, or give --fresh to set them aside",
        )


def train_stage(plan: TrainingPlan, prepared: Stamp | None) -> Stage:
    """Return the training and all that its outcome depends on."""
    base = plan.run.stamp("base") if plan.is_tiny else None
    inputs: dict[str, Any] = {
        "data": example_digests(prepared) if prepared else {},
        "settings": fingerprinted(plan.arguments),
        "model": model_identity(plan, base),
        "processes": plan.launch.world_size,
        "versions": {name: version for name, version in plan.versions.items() if version},
        **loop_inputs(plan.config, plan.arguments),
    }
    if plan.deepspeed is not None:
        inputs["deepspeed"] = digest_file(plan.deepspeed)
        inputs["settings"].pop("deepspeed", None)
    if best_metric(plan.config, plan.arguments) is not None:
        for name in TRAINERS:
            inputs["settings"].pop(name, None)
    return Stage("train", inputs)


def finished_training(plan: TrainingPlan, prepared: Stamp) -> Stamp | None:
    """Return the stamp of a training that is finished and whose weights are whole.

    Of several machines none is finished before machine 0 is, which would wait for it in vain.
    """
    stamp = train_stage(plan, prepared).finished(plan.run)
    if plan.launch.node_rank != 0:
        return stamp if RunDirectory(plan.output_dir).stamp("train") is not None else None
    return stamp if stamp and not weights_fault(plan.output_dir) else None


def paused_at(plan: TrainingPlan, prepared: Stamp) -> int | None:
    """Return the step at which the training waits, where it was asked to go no further; None where it has to run."""
    begun = read_json(_begun_path(plan))
    if plan.config.pause_at is None or begun is None:
        return None
    if begun["fingerprint"] != train_stage(plan, prepared).fingerprint:
        return None
    found = find_checkpoints(plan.output_dir, plan.launch.world_size)
    steps = [one.step for one in found if one.missing is None and one.step >= plan.config.pause_at]
    return max(steps, default=None)


def train(plan: TrainingPlan, prepared: Stamp, reporter: Reporter, stop: StopSignal, lock: int) -> Stamp | None:
    """Train, going on from an earlier attempt where there is one.

    Returns:
        The stamp; None where the training stopped at the step that was asked for.

    Raises:
        Interrupted: the user stopped it.
        WorkFailed: the trainer failed, or trained on something else than was promised or will be served.
    """
    stage = train_stage(plan, prepared)
    started = now()
    parity = ParityCheck(plan, prepared, reporter)
    resume = _clear_the_way(plan, stage, reporter)
    plan.run.drop_stamp("train")
    write_json(_begun_path(plan), {"fingerprint": stage.fingerprint, "inputs": stage.inputs})
    attempt = plan.run.new_attempt()
    with plainly_named(plan.dataset_dir) as data_dir:
        settings = final_settings(plan, prepared, data_dir, resume)
        write_atomic(attempt / "train.yaml", settings_yaml(settings))
        rows = prepared.outputs["rows"].get(plan.dataset) if plan.trains_on_input else None
        parity.order(attempt)
        if plan.config.pause_at is not None:
            write_atomic(attempt / "pause", str(plan.config.pause_at))
        with in_loop(plan, attempt, resume, reporter, stop) as loop:
            _run_trainer(plan, attempt, reporter, stop, lock, _promised(settings, rows), parity, loop)
            outcome = read_json(attempt / "outcome.json") or {}
            if outcome.get("stopped") and outcome["global_step"] == plan.config.pause_at:
                plan.run.record("training paused", step=outcome["global_step"])
                return None
            _judge(plan, outcome, settings, attempt / "train.log")
            if loop is not None:
                loop.finish(plan.output_dir)
    begun = read_json(attempt / "training.json") or {}
    files = {str(path.name): {"size": path.stat().st_size} for path in plan.output_dir.glob("*.safetensors")}
    outputs = {
        "files": {},
        "weights": files,
        "steps": outcome["global_step"],
        "attempt": attempt.name,
        "examples": begun.get("examples"),
        "tokens": begun.get("tokens"),
        "parity": parity.outcome,
    }
    stamp = Stamp("train", stage.fingerprint, dict(stage.inputs), outputs, started, now())
    plan.run.write_stamp(stamp)
    plan.run.record("stage finished", stage="train", steps=outcome["global_step"])
    return stamp


def final_settings(
    plan: TrainingPlan, prepared: Stamp | None, data_dir: Path, resume: Path | None = None
) -> dict[str, Any]:
    """Return LLaMA-Factory's settings as the attempt's YAML holds them.

    Args:
        plan: the run.
        prepared: its prepared data, None if that is not there yet.
        data_dir: the path by which LLaMA-Factory reaches the data.
        resume: the checkpoint to go on from.
    """
    settings = dict(plan.arguments)
    if plan.is_tiny:
        settings["model_name_or_path"] = str(plan.base_dir)
    settings["dataset_dir"] = str(data_dir)
    if best_metric(plan.config, plan.arguments) is not None:
        for name in TRAINERS:
            settings.pop(name, None)  # a callback chooses by the benchmark: the trainer knows nothing of it
    if plan.trains_on_input:
        rows = max(prepared.outputs["rows"].values()) if prepared else 0
        if rows >= MANY_ROWS:
            settings.setdefault("preprocessing_num_workers", min(MOST_WORKERS, os.cpu_count() or 1))
    if resume is not None:
        settings["resume_from_checkpoint"] = str(resume)
    return settings


def _clear_the_way(plan: TrainingPlan, stage: Stage, reporter: Reporter) -> Path | None:
    """Set aside what cannot be used; return the checkpoint to go on from."""
    begun = read_json(_begun_path(plan))
    if plan.launch.node_rank != 0:
        # Machine 0 clears the way for all; the others come to the same choice by the same rule.
        same = begun is not None and begun["fingerprint"] == stage.fingerprint and not plan.config.fresh
        found = find_checkpoints(plan.output_dir, plan.launch.world_size) if same else []
        return next((checkpoint.path for checkpoint in reversed(found) if checkpoint.missing is None), None)
    present = trainer_files(plan.output_dir)
    if begun is None:
        why = "--fresh" if plan.config.fresh else "the record of what it was made from is damaged"
        _set_aside(plan, present, why, reporter)
        return None
    if plan.config.fresh or begun["fingerprint"] != stage.fingerprint:
        before = Stamp("train", begun["fingerprint"], begun["inputs"], {}, "", "")
        why = "--fresh" if plan.config.fresh else before.difference(dict(stage.inputs))
        _set_aside(plan, present, f"trained before with other inputs: {why}" if why != "--fresh" else why, reporter)
        return None
    checkpoints = find_checkpoints(plan.output_dir, plan.launch.world_size)
    for checkpoint in checkpoints:
        if checkpoint.missing is not None:
            reason = f"{checkpoint.path.name} is incomplete: {checkpoint.missing} is missing"
            _set_aside(plan, [checkpoint.path], reason, reporter)
    whole = [checkpoint for checkpoint in checkpoints if checkpoint.missing is None]
    if not whole:
        # What a killed attempt left would keep LLaMA-Factory from starting.
        _set_aside(
            plan,
            trainer_files(plan.output_dir),
            "an earlier attempt ended before its first checkpoint",
            reporter,
        )
        return None
    reporter.say(f"train: going on from {whole[-1].path.name}")
    return whole[-1].path


def _begun_path(plan: TrainingPlan) -> Path:
    """Return the file that tells by which inputs the checkpoints in the output directory were made."""
    return plan.run.path / "stages" / "train.begun.json"


def _set_aside(plan: TrainingPlan, paths: list[Path], reason: str, reporter: Reporter) -> None:
    if (folder := plan.run.set_aside(paths, reason)) is not None:
        reporter.say(f"train: {reason}; set aside in {folder}")


def _promised(settings: Mapping[str, Any], rows: int | None) -> int | None:
    """Return how many examples LLaMA-Factory must train on, or None where that is not known beforehand."""
    reshaped = ("packing", "neat_packing", "max_samples", "streaming", "mix_strategy", "tokenized_path")
    if rows is None or any(settings.get(key) for key in reshaped):
        return None
    held_out = float(settings.get("val_size") or 0)
    return rows - (int(held_out) if held_out > 1 else math.ceil(rows * held_out))


def _run_trainer(
    plan: TrainingPlan,
    attempt: Path,
    reporter: Reporter,
    stop: StopSignal,
    lock: int,
    promised: int | None,
    parity: ParityCheck,
    loop: InLoop | None,
) -> None:
    python = plan.python
    assert python is not None
    log = attempt / "train.log"
    command = partial(
        training_command, python, plan.launch, attempt / "train.yaml", attempt, deepspeed=plan.deepspeed is not None
    )
    plan.run.record("trainer started", attempt=attempt.name, command=command())
    several = f"{plan.launch.world_size} processes, " if plan.launch.world_size > 1 else ""
    reporter.say(f"train: {several}log in {log}")
    follower = TrainerLog(plan.output_dir / "trainer_log.jsonl")
    with _place_to_compile(plan, python) as (environment, hold):
        environment |= loop.variables() if loop is not None else {}
        child = Child(command(started=_started(plan)), log=log, env=environment, hold=[lock, *hold])
        try:
            checked = False
            while (code := child.poll()) is None:
                if stop.count:
                    _ask_to_stop(child, attempt, stop, reporter)
                parity.look()
                if not checked and (begun := read_json(attempt / "training.json")) is not None:
                    checked = True
                    _check_promise(begun, promised, log)
                    known = promised_tokens(plan) if promised is not None else None
                    reporter.say(f"train: {_said_of_tokens(begun, known)}")
                _report(follower, reporter, loop)
                time.sleep(POLL_SECONDS)
            parity.look()
            _report(follower, reporter, loop)
        finally:
            child.kill()
            reporter.progress_ended()
    plan.run.record("trainer ended", attempt=attempt.name, exit_code=code)
    if stop.count:
        outcome = read_json(attempt / "outcome.json") or {}
        made = outcome.get("ended") or outcome.get("global_step") == outcome.get("max_steps")
        finished = made and not outcome.get("stopped") and code == 0
        if not (outcome and finished):
            raise Interrupted(stop.exit_code, outcome.get("global_step") if outcome.get("stopped") else None)
    if code != 0:
        raise WorkFailed(f"the training failed (exit code {code})", log=log, fix=remedy(log, code))


def _started(plan: TrainingPlan) -> Callable[[Sequence[str]], list[str]]:
    """Return how its processes are started: forked from one that has the engine imported, where they can be."""
    asked = plan.arguments.get("report_to", "all")
    trackers = {asked} if isinstance(asked, str) else set(asked or ())
    if plan.gpus or trackers & {"all", *LEFT_OUT}:
        return list
    return (SHARED if plan.deepspeed is None else SHARED_DEEPSPEED).forked


@contextmanager
def _place_to_compile(plan: TrainingPlan, python: Path) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Yield the trainer's environment, and what it must hold beside the run's lock: where DeepSpeed compiles."""
    environment = training_environment(python, plan.launch, gpus=len(plan.gpus))
    if plan.deepspeed is None:
        yield environment, []
        return
    with held_extensions(python, plan.versions) as (variables, hold):
        yield {**environment, **variables}, hold


def _ask_to_stop(child: Child, attempt: Path, stop: StopSignal, reporter: Reporter) -> None:
    """First signal: save after this step. Second one, or nothing to save yet: end at once."""
    request = attempt / "stop"
    training = (attempt / "training.json").exists() and not (attempt / "outcome.json").exists()
    if not request.exists():
        request.touch()
        if training:
            reporter.say("train: stopping; the trainer saves a checkpoint after this step (once more to end at once)")
    if stop.count > 1 or (not training and not _saving_after_stop(attempt)):
        child.kill()


def _saving_after_stop(attempt: Path) -> bool:
    return bool((read_json(attempt / "outcome.json") or {}).get("stopped"))


def _check_promise(begun: Mapping[str, Any], promised: int | None, log: Path) -> None:
    examples = begun["examples"].get("train")
    if promised is not None and examples != promised:
        raise WorkFailed(
            f"LLaMA-Factory trains on {examples} examples, {promised} were prepared: stopped before the first step",
            log=log,
        )


def promised_tokens(plan: TrainingPlan) -> int | None:
    """Return the tokens of all examples as the ledger has them; None where it counted only some."""
    ledger = plan.run.stamp("ledger")
    return None if ledger is None else ledger.outputs["tokens"]["trained on"]


def _said_of_tokens(begun: Mapping[str, Any], promised: int | None) -> str:
    """Say what LLaMA-Factory trains on by its own count, and whether the ledger says so too."""
    examples, tokens = begun["examples"].get("train"), begun.get("tokens", {}).get("train")
    said = f"LLaMA-Factory has {examples:,} examples" if examples is not None else "LLaMA-Factory streams its examples"
    if tokens is None:
        return said
    agrees = "" if promised is None else ", as counted" if promised == tokens else f"; {promised:,} were counted"
    return f"{said} of {tokens:,} tokens{agrees}"


def _report(follower: TrainerLog, reporter: Reporter, loop: InLoop | None) -> None:
    lines = follower.new_lines()
    if loop is not None:
        loop.saw(lines)
        loop.look()
    for line in lines:
        if not line.get("total_steps") or not {"loss", "eval_loss"} & set(line):
            continue
        step, total = int(line["current_steps"]), int(line["total_steps"])
        rate = follower.rate(step)
        remaining = (total - step) / rate if rate else None
        reporter.progress(TrainingProgress(step, total, line.get("loss"), line.get("eval_loss"), rate, remaining))


def _judge(plan: TrainingPlan, outcome: Mapping[str, Any], settings: Mapping[str, Any], log: Path) -> None:
    """A training is done when it made its last step and its weights are whole, not when a file exists."""
    steps, wanted = outcome.get("global_step"), outcome.get("max_steps")
    early = outcome.get("ended") or settings.get("early_stopping_steps")
    if steps is None or (steps != wanted and not early):
        raise WorkFailed(f"the trainer ended after {steps or 0} of {wanted or 'its'} steps", log=log)
    if plan.launch.node_rank == 0 and (fault := weights_fault(plan.output_dir)) is not None:
        raise WorkFailed(f"the trained model is not whole: {fault} is missing or damaged", log=log)
