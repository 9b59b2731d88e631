"""The whole of a sweep, line by line: what runs and why, by which commands, on what, for how long."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from functools import cache

from pydantic import ValidationError

from agent_sft.config.serve import ServeRequest
from agent_sft.config.tiny import is_made_here
from agent_sft.engines.llamafactory.shape import local_folder
from agent_sft.errors import UserError, WorkFailed, wrong_value
from agent_sft.report.numbers import counted, duration, plain
from agent_sft.stages.doctor_fit import gib
from agent_sft.stages.evaluating import shown_commands
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.serving import shown_launch
from agent_sft.stages.serving_plan import plan_serving
from agent_sft.stages.sft import dry_run as dry_run_training
from agent_sft.stages.sft import shown_training
from agent_sft.sweep.checkpoints import scored_models
from agent_sft.sweep.doneness import Doneness, training_plan
from agent_sft.sweep.estimate import Times, disk_needed
from agent_sft.sweep.graph import Job, Slots, SweepPlan
from agent_sft.sweep.jobs import base_training
from agent_sft.sweep.plan import maker_of, with_checkpoints
from agent_sft.sweep.resources import Resources, resources_of
from agent_sft.sweep.servers import settings_of

INDENT = "    "
NEWLINE = "\n"


def dry_run(plan: SweepPlan) -> Iterator[str]:
    """Return, line by line, all that a sweep would do; it touches nothing."""
    plan = with_known_checkpoints(plan)
    yield from _Shown(plan).lines()


def with_known_checkpoints(plan: SweepPlan) -> SweepPlan:
    """Return the plan with the checkpoints of all variants that are trained already."""
    maker = cache(lambda: maker_of(plan))
    for variant in plan.variants:
        if variant.sft is not None and scored_models(plan.config, variant, plan.out) is not None:
            plan = with_checkpoints(plan, variant.name, maker)
    return plan


class _Shown:
    def __init__(self, plan: SweepPlan) -> None:
        self._plan = plan
        self._resources: Resources = resources_of(plan.config.resources, plan.config.name)
        self._doneness = Doneness(plan)
        self._reasons = self._doneness.reasons()
        self._times = Times(plan.out)
        self._trainings: dict[str, TrainingPlan] = {}
        self._servers: set[str] = set()

    def lines(self) -> Iterator[str]:
        yield from self._head()
        for job in self._plan.jobs:
            yield ""
            reason = self._reasons[job.id]
            if reason is None:
                yield f"{job.id}: done already"
                continue
            yield f"{job.id}: runs: {reason}"
            yield f"  takes {self._share(job.slots)}; {self._time(job)}"
            yield f"  $ {' '.join(map(shlex.quote, job.command))}"
            if job.kind == "train":
                yield from _indented(self._training(job))
            elif job.evaluation is not None:
                yield from _indented(self._evaluation(job))
        yield ""
        yield from self._sums()

    def _head(self) -> Iterator[str]:
        plan = self._plan
        yield f"sweep {plan.config.name} in {plan.out}"
        if plan.config.question:
            yield f"  {plan.config.question}"
        yield from (f"  note: {note}" for note in plan.notes)
        if plan.config.varied:
            yield f"  varied: {plan.config.varied}"
        for variant in plan.variants:
            parts = [] if variant.value is None else [f"value {plain(variant.value)}"]
            parts += [] if variant.seed is None else [f"seed {variant.seed}"]
            parts += [f"finished model {variant.model}"] if variant.sft is None else []
            parts += ["baseline"] if variant.group == plan.baseline else []
            yield f"  variant {variant.name}: {', '.join(parts)}"
        yield f"  evaluators: {', '.join(plan.evaluators)}; checkpoints: {plan.config.checkpoints}"
        capacity = self._resources.capacity
        names = ", ".join(map(str, capacity.gpus))
        there = f"GPUs {names}" if names else counted(capacity.cores, "processor")
        if capacity.nodes is not None:
            what = counted(len(capacity.gpus), "GPU") if names else there
            there = f"{what} on {counted(len(capacity.nodes), 'machine')} of a Ray cluster"
        jobs = f", {plan.config.resources.jobs} jobs at a time at most" if plan.config.resources.jobs else ""
        yield f"  machine: {there}{jobs}; failed for a passing reason: tried again {plan.config.retries} times"

    def _share(self, slots: Slots) -> str:
        each = f" on each of {slots.nodes} machines" if slots.nodes > 1 else ""
        if slots.gpus:
            return f"{counted(slots.gpus, 'GPU')}{each}"
        if slots.cores:
            return f"{counted(slots.cores, 'processor')}{each}"
        return "no GPU"

    def _time(self, job: Job) -> str:
        seconds = self._times.seconds(job)
        return "how long is not known before the first of its kind" if seconds is None else f"about {duration(seconds)}"

    def _training(self, job: Job) -> Iterator[str]:
        sft, gpus = self._doneness.training(job), self._resources.gpus
        try:
            plan = training_plan(sft, gpus)
            lines = list(dry_run_training(plan))
        except UserError as error:
            try:
                plan = training_plan(sft, gpus, data_comes_later=True)
            except UserError:
                yield f"would be refused: {str(error).partition(NEWLINE)[0]}"
                return
            made = any(name.startswith("prepare/") for name in job.after)
            lines = [] if made else [f"would be refused: {str(error).partition(NEWLINE)[0]}"]
            lines += [*plan.notes, *shown_training(plan, None)]
        self._trainings[job.id] = plan
        yield from lines

    def _evaluation(self, job: Job) -> Iterator[str]:
        assert job.evaluation is not None
        if job.checkpoint == self._plan.config.checkpoints == "every":
            yield "# so for each checkpoint that the training saves, and for the last model"
        if job.server in self._servers:
            yield f"# server {job.server}, as above"
        elif job.server is not None:
            self._servers.add(job.server)
            users = [one.id for one in self._plan.jobs if one.server == job.server and self._reasons[one.id]]
            yield f"# server {job.server}, for {counted(len(users), 'evaluation')}"
            yield from self._server(job)
        try:
            commands = shown_commands(job.evaluation)
        except (UserError, WorkFailed) as error:
            yield f"would be refused: {str(error).partition(NEWLINE)[0]}"
            return
        yield from (" ".join(map(shlex.quote, command)) for command in commands)

    def _server(self, job: Job) -> Iterator[str]:
        """Return what the server is started with: on the model, or while that is not there, on what it starts from."""
        assert job.evaluation is not None
        variant = self._plan.variant(str(job.variant))
        model, options = job.evaluation.model, job.evaluation.serve
        if variant.sft is not None and self._reasons[f"train/{variant.name}"] is not None:
            settings = settings_of(variant.sft)
            start = str(settings["model_name_or_path"])
            yield f"# agent-sft serve {shlex.quote(model)}, when it is trained"
            if is_made_here(start) or local_folder(start) is None:
                yield f"# vLLM's flags follow from {start}, which is not on this machine yet"
                return
            if settings.get("finetuning_type", "lora") == "lora":
                yield f"# started before, on {start}: adapters are loaded while it runs"
                options = {"lora_later": int(settings.get("lora_rank", 8)), **options}
            else:
                yield f"# with the flags of {start}, whose weights it replaces"
            model = start
        try:
            request = ServeRequest.model_validate({"model": model, **options})
            yield from shown_launch(plan_serving(request, dry_run=True))
        except (UserError, WorkFailed) as error:
            yield f"# cannot be served as it is now: {str(error).partition(NEWLINE)[0]}"
        except ValidationError as error:
            yield f"would be refused: serve: {wrong_value(error.errors()[0])}"

    def _sums(self) -> Iterator[str]:
        left = [job for job in self._plan.jobs if self._reasons[job.id] is not None]
        yield f"{len(left)} of {len(self._plan.jobs)} jobs run, {len(self._plan.jobs) - len(left)} are done already"
        times = [self._times.seconds(job) for job in left]
        known = [seconds for seconds in times if seconds is not None]
        if left and not known:
            yield "time: not known before the first training and evaluation; they tell the rest"
        elif left:
            unknown = f", {len(times) - len(known)} jobs not known" if len(known) < len(times) else ""
            yield f"time: about {duration(sum(known))} if nothing overlapped, as measured in this sweep{unknown}"
        base = base_training(self._plan.config, self._plan.out, self._resources.launch)
        disk = disk_needed(self._plan, self._trainings, base)
        if self._trainings:
            size = f"up to {gib(disk.bytes)}" if disk.bytes else "not known"
            yield f"disk: {size} for {counted(len(self._trainings), 'training')}, {gib(disk.free)} free"
            yield from (f"  not known: {why}" for why in disk.unknown)


def _indented(lines: Iterable[str]) -> Iterator[str]:
    yield from (f"{INDENT}{line}" for text in lines for line in text.splitlines())
