"""One run: process, prepare, train. What is done already is skipped; what is half done goes on."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from agent_sft.data.ahead import Ahead
from agent_sft.engines.llamafactory.launch import shown_environment, training_command, training_environment
from agent_sft.engines.llamafactory.paths import plainly_named
from agent_sft.engines.llamafactory.results import TrainingResult, read_result, trainer_files
from agent_sft.errors import UserError
from agent_sft.files import write_atomic
from agent_sft.runs.directory import RunDirectory, Stamp
from agent_sft.runs.lock import run_lock
from agent_sft.runs.processes import catch_signals
from agent_sft.stages.base_model import make_base
from agent_sft.stages.doctor import refuse_what_cannot_work
from agent_sft.stages.fast import decide, decided
from agent_sft.stages.fit import fit, fit_stage, fitted
from agent_sft.stages.held_out import say_what_is_held_out, with_held_out
from agent_sft.stages.in_loop.plan import check_benchmarks, plan_loop
from agent_sft.stages.inputs import digests
from agent_sft.stages.ledger import ledger_stage, write_ledger
from agent_sft.stages.plan import TrainingPlan, settings_yaml
from agent_sft.stages.prepare import prepare, prepare_stage
from agent_sft.stages.process import process, process_stage
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.stage import Stage
from agent_sft.stages.train import (
    final_settings,
    finished_training,
    paused_at,
    refuse_what_others_made,
    train,
    train_stage,
)


@dataclass(frozen=True)
class SFTOutcome:
    """How a run ended."""

    result: TrainingResult
    ran: bool
    """False if it was finished already and nothing was done."""
    plan: TrainingPlan
    """What was carried out: the plan with all that was decided on the way."""
    paused: int | None = None
    """The step at which it was asked to stop; None if it was trained to its end."""


def run_sft(plan: TrainingPlan, reporter: Reporter) -> SFTOutcome:
    """Carry a plan out.

    Raises:
        UserError: the input or the machine does not allow it; a directory made for it is gone again, unless the
            trainer wrote into it.
        WorkFailed: rows were rejected, or the training failed.
        Interrupted: the user stopped the training.
    """
    if is_finished(plan):
        result = read_result(plan.output_dir)
        return SFTOutcome(result, ran=False, plan=plan, paused=None if result.steps else plan.config.pause_at)
    refuse_what_others_made(plan)
    with catch_signals() as stop, removed_if_refused(plan.run), run_lock(plan.run.path / ".lock") as lock:
        refuse_what_cannot_work(plan)
        check_benchmarks(plan.config.benchmarks)
        plan_loop(plan)
        plan.run.record("run started", options=plan.config.model_dump(mode="json"))
        processed = None
        with contextlib.closing(Ahead(plan.dataset, str(plan.arguments["template"]))) as ahead:
            if not plan.config.skip_process:
                processed = process(plan, reporter, ahead)
                stop.leave()
            plan = with_held_out(plan, processed)
            say_what_is_held_out(plan, processed, reporter)
            prepared = prepare(plan, reporter, ahead)
            stop.leave()
        make_base(plan, prepared, reporter)
        stop.leave()
        plan, prepared = fit(plan, prepared, reporter)
        if plan.trains_on_input:
            write_ledger(plan, reporter)
        stop.leave()
        with plainly_named(plan.dataset_dir) as data_dir:
            plan = decide(plan, prepared, final_settings(plan, prepared, data_dir), reporter)
        write_atomic(plan.run.path / "run.yaml", describe(plan))
        trained = train(plan, prepared, reporter, stop, lock)
        paused = plan.config.pause_at if trained is None else None
        return SFTOutcome(read_result(plan.output_dir), ran=True, plan=plan, paused=paused)


def is_finished(plan: TrainingPlan) -> bool:
    """Tell whether this run was carried out before, with the same inputs, and its result is whole.

    So it is where it was to stop at a step and has a whole checkpoint of it.
    """
    if plan.config.fresh or not plan.run.path.is_dir():
        return False
    if not plan.config.skip_process:
        if (processed := process_stage(plan).finished(plan.run)) is None:
            return False
        plan = with_held_out(plan, processed)
    prepared = prepare_stage(plan).finished(plan.run)
    if prepared is None or (known := fitted(plan, prepared)) is None:
        return False
    plan, data = known
    full = decided(plan, data)
    return full is not None and (finished_training(full, data) or paused_at(full, data)) is not None


def describe(plan: TrainingPlan) -> str:
    """Return the run's record: the options, every setting written out, and how it is launched."""
    record = {
        "options": plan.config.model_dump(mode="json", exclude={"dry_run", "fresh", "given"}),
        **({"capability": plan.capability.record} if plan.capability is not None else {}),
        "datasets": digests((*plan.inputs, *plan.eval_inputs)),
        "llamafactory": plan.arguments,
        "launch": vars(plan.launch),
        "versions": plan.versions,
    }
    return yaml.safe_dump(record, sort_keys=False, allow_unicode=True)


def dry_run(plan: TrainingPlan) -> Iterator[str]:
    """Return, line by line, all that carrying the plan out would do."""
    if is_finished(plan):
        yield f"finished already: {plan.output_dir}"
        return
    for one in (*plan.inputs, *plan.eval_inputs):
        what = "evaluation" if one in plan.eval_inputs else "rollouts" if one.is_rollouts else "input"
        yield f"{what}: {one.name} {one.digest}"
    undecided, data, stages = _stages(plan)
    plan = _decided(undecided, data) or undecided
    if plan.config.fast:
        known = _decided(undecided, data) is not None
        yield "fast: decided already" if known else "fast: decided when the data is prepared; shown without it"
    for stage in stages:
        done = stage.finished(plan.run) is not None
        yield f"{stage.name}: {'done already' if done else f'runs: {stage.why(plan.run)}'}"
    yield from shown_training(plan, data)


def why_runs(plan: TrainingPlan) -> Iterator[str]:
    """Return, for each stage that carrying the plan out would run, its name and the reason."""
    for stage in _stages(plan)[2]:
        if stage.finished(plan.run) is None:
            yield f"{stage.name}: {stage.why(plan.run)}"


def shown_training(plan: TrainingPlan, data: Stamp | None) -> Iterator[str]:
    """Return, line by line, the settings that a plan trains by, the variables and the command.

    Args:
        plan: with all that is decided already.
        data: of the data that is trained on, None if that is not there yet.
    """
    attempt = plan.run.path / "attempts" / "N"
    yield f"# {attempt / 'train.yaml'}"
    yield settings_yaml(final_settings(plan, data, plan.dataset_dir)).rstrip()
    python = plan.python or Path(".venvs/train/bin/python")
    environment = shown_environment(training_environment(python, plan.launch, gpus=len(plan.gpus)))
    for name, value in environment.items():
        shown = f"{shlex.quote(str(python.parent))}:$PATH" if name == "PATH" else shlex.quote(value)
        yield f"export {name}={shown}"
    command = training_command(
        python, plan.launch, attempt / "train.yaml", attempt, deepspeed=plan.deepspeed is not None
    )
    yield " ".join(map(shlex.quote, command))


def _stages(plan: TrainingPlan) -> tuple[TrainingPlan, Stamp | None, list[Stage]]:
    """Return the plan with what is held out, the stamp of its data if that is there, and its stages."""
    stages = [] if plan.config.skip_process else [process_stage(plan)]
    if stages:
        plan = with_held_out(plan, stages[0].finished(plan.run))
    data = prepared = plan.run.stamp("prepare")
    stages.append(prepare_stage(plan))
    if prepared is not None and plan.trains_on_input:
        stages.append(fit_stage(plan, prepared))
        plan, data = fitted(plan, prepared) or (plan, prepared)
        stages.append(ledger_stage(plan))
    return plan, data, [*stages, train_stage(_decided(plan, data) or plan, data)]


def _decided(plan: TrainingPlan, data: Stamp | None) -> TrainingPlan | None:
    return decided(plan, data) if data else None


@contextmanager
def removed_if_refused(run: RunDirectory) -> Iterator[None]:
    """Leave no trace of a run whose input turned out to be unusable."""
    made = next((place for place in reversed((run.path, *run.path.parents)) if not place.exists()), None)
    try:
        yield
    except UserError:
        # A disk can fill up after hours: what was trained until then is gone on from.
        if made is not None and not trainer_files(run.path):
            shutil.rmtree(made, ignore_errors=True)
        raise
