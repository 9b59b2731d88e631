"""The second phase: candidates, what judges them, and what it all takes, put into a plan that can be approved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from agent_sft import __version__
from agent_sft.config.planning import PlanConfig
from agent_sft.engines.deepspeed.config import read_config
from agent_sft.engines.llamafactory.memory import RUNTIME_BYTES, estimate_memory
from agent_sft.engines.llamafactory.shape import model_shape
from agent_sft.errors import UserError
from agent_sft.evals.comparison import SURE
from agent_sft.evals.power import detectable
from agent_sft.planning.costs import CostModel, Measured
from agent_sft.planning.folder import PlanFolder
from agent_sft.planning.grid import (
    REFERENCE_BATCH,
    candidates_of,
    default_epochs,
    names_batch,
    settings_for,
)
from agent_sft.planning.halving import rungs_of
from agent_sft.planning.inspection import CHOOSING, JUDGING, SEARCH, TRAINING
from agent_sft.planning.sweeps import Machine, Sweeps, machine_for
from agent_sft.report.numbers import counted, duration
from agent_sft.report.plan.record import Candidate, Cost, Inspection, ModelFacts, PlanRecord
from agent_sft.runs.directory import now
from agent_sft.stages.doctor_case import Finding
from agent_sft.stages.doctor_fit import fit_memory, sharding_of
from agent_sft.stages.stage import Stage
from agent_sft.sweep.resources import resources_of

PROBE, SEARCHING, FINAL_RUN, DEPLOYMENT = "probe", "candidates", "final run", "deployment"
"""Phases that take time, as costs and reports call them."""
SPREAD = 0.5
"""Standard deviation of the differences between two models' successes, where half of the tasks are solved."""


@dataclass(frozen=True)
class Proposal:
    """A plan, and all that carries it out."""

    config: PlanConfig
    inspection: Inspection
    models: list[ModelFacts]
    candidates: list[Candidate]
    machine: Machine
    sweeps: Sweeps

    @property
    def final_epochs(self) -> float | None:
        """Passes of the final run; None where those of the winner count."""
        return None if self.config.epochs else default_epochs(self.inspection.part(TRAINING).rows)

    def stage(self) -> Stage:
        """Return the stage and all that the plan depends on."""
        asked = self.config.model_dump(mode="json", exclude={"out", "budget", "gpu_price", "probe"})
        parts = {part.name: part.rows for part in self.inspection.parts}
        return Stage(
            "plan",
            {
                "options": asked,
                "data": self.inspection.sources,
                "parts": parts,
                "candidates": [one.name for one in self.candidates],
                "machine": self.machine.words,
                "agent-sft": __version__,
            },
        )


def propose(config: PlanConfig, folder: PlanFolder, inspection: Inspection, models: list[ModelFacts]) -> Proposal:
    """Put the candidates together.

    Raises:
        UserError: a setting or an evaluator is wrong, or a model does not fit into the memory there is.
    """
    rows = inspection.part(SEARCH).rows
    count = len(candidates_of(config, models, rows, 1))
    machine = machine_for(config, count, fewest_gpus=_fewest_gpus(config, models))
    candidates = candidates_of(config, models, rows, machine.processes)
    return Proposal(config, inspection, models, candidates, machine, Sweeps(config, folder, models, machine))


def record_of(proposal: Proposal, measured: dict[str, Measured]) -> PlanRecord:
    """Return the plan with its costs, as it is shown.

    Args:
        proposal: the plan.
        measured: what a probe found of the models, by their names.
    """
    config, sweeps = proposal.config, proposal.sweeps
    memory = _memory(proposal)
    return PlanRecord(
        name=config.name,
        created=now(),
        fingerprint=proposal.stage().fingerprint,
        way=config.way,
        judged_by=_judged_by(proposal),
        evaluator=sweeps.decider,
        models=proposal.models,
        candidates=proposal.candidates,
        final_epochs=proposal.final_epochs or max(one.epochs for one in proposal.candidates),
        skip_final=config.skip_final,
        deploy=config.deploy,
        at_once=proposal.machine.at_once,
        search=_search_words(proposal),
        costs=_costs(proposal, measured),
        measured=is_probed(proposal, measured),
        memory=[finding.message for finding in memory],
        notes=_notes(proposal, memory),
        machine=proposal.machine.words,
        on_gpus=proposal.machine.on_gpus,
        gpu_price=config.gpu_price,
        budget_hours=config.budget_hours,
    )


def is_probed(proposal: Proposal, measured: Mapping[str, Measured]) -> bool:
    """Tell whether the probe has measured all that it measures."""
    trials = [one.trial is not None and one.untrained is not None for one in measured.values()]
    return len(measured) == len(proposal.models) and (all(trials) or not proposal.sweeps.probes_decider)


def cost_model(proposal: Proposal, measured: dict[str, Measured]) -> CostModel:
    """Return what tells how long each job takes."""
    return CostModel(proposal.machine, proposal.inspection, proposal.models, proposal.config.is_lora, measured)


def _costs(proposal: Proposal, measured: dict[str, Measured]) -> list[Cost]:
    config, sweeps, candidates = proposal.config, proposal.sweeps, proposal.candidates
    model = cost_model(proposal, measured)
    costs = []
    if config.probe and not measured:
        costs.append(model.sweep(sweeps.probe(candidates), probe_candidates(proposal), PROBE))
    search = model.sweep(sweeps.candidates(candidates), candidates, SEARCHING)
    costs.append(search if config.search == "grid" else model.halved(search, candidates, rungs_of(candidates)))
    # Which model wins is not known: each is as likely as another, with its longest training.
    longest = {one.model: one for one in sorted(candidates, key=lambda one: one.epochs)}.values()
    costs.append(_mean([_final_cost(proposal, model, one) for one in longest]))
    if config.deploy:
        seconds = fmean(model.deployment(one.model) for one in longest)
        costs.append(Cost(phase=DEPLOYMENT, seconds=seconds, device_hours=seconds / 3600, detail="until it answers"))
    return costs


def _mean(costs: Sequence[Cost]) -> Cost:
    """Return the mean of what a phase may take, and between what and what it lies."""
    seconds = [one.seconds for one in costs]
    between = f"; {duration(min(seconds))} to {duration(max(seconds))} by the model that wins" if len(costs) > 1 else ""
    return Cost(
        phase=costs[0].phase,
        seconds=fmean(seconds),
        device_hours=fmean(one.device_hours for one in costs),
        detail=f"{costs[0].detail}{between}",
    )


def _final_cost(proposal: Proposal, model: CostModel, last: Candidate) -> Cost:
    """Return what the final run takes by a candidate's settings: first it trains, then both models are scored."""
    epochs = proposal.final_epochs or last.epochs
    whole = proposal.sweeps.final(last, epochs, train=True)
    scored = tuple(replace(job, after=()) for job in whole.jobs if job.kind != "train")
    trained = () if proposal.config.skip_final else tuple(job for job in whole.jobs if job.kind == "train")
    parts = [
        model.sweep(replace(whole, jobs=jobs), [last], FINAL_RUN, final_epochs=epochs)
        for jobs in (trained, scored)
        if jobs
    ]
    return Cost(
        phase=FINAL_RUN,
        seconds=sum(one.seconds for one in parts),
        device_hours=sum(one.device_hours for one in parts),
        detail=f"{len(trained) or 'nothing'} trained, {counted(len(scored), 'evaluation')}",
    )


def _search_words(proposal: Proposal) -> str:
    if proposal.config.search == "grid":
        return "each is trained to its end"
    rungs = [(rung.candidates, rung.share) for rung in rungs_of(proposal.candidates)]
    words = [f"{count} to {share:.0%} of the steps" if share else f"{count} to the end" for count, share in rungs]
    return f"those that fall behind are stopped: {', '.join(words)}"


def probe_candidates(proposal: Proposal) -> list[Candidate]:
    """Return, for each model, what the probe trains, by the names of its variants."""
    found = []
    for number, facts in enumerate(proposal.models, start=1):
        own = [one for one in proposal.candidates if one.model == facts.name]
        largest = max(own, key=lambda one: one.rank or 0)
        fields = {name: getattr(largest, name) for name in largest.__struct_fields__}
        found.append(Candidate(**{**fields, "name": f"m{number}", "steps": min(20, largest.steps)}))
    return found


def _judged_by(proposal: Proposal) -> str:
    config, inspection = proposal.config, proposal.inspection
    choosing, judging = inspection.part(CHOOSING).rows, inspection.part(JUDGING).rows
    loss = f"the loss on {choosing:,} conversations held out for the choice, and on {judging:,} others at the end"
    if config.way == "loss":
        return loss
    if config.way == "drafted":
        return f"an evaluator made of the data ({inspection.checkable}), beside {loss}"
    assert config.evaluator is not None
    named = " ".join(str(config.evaluator[key]) for key in ("evaluator", "task") if key in config.evaluator)
    return f"your evaluator ({named}), the same for the choice and at the end, beside {loss}"


def _fewest_gpus(config: PlanConfig, models: Sequence[ModelFacts]) -> int:
    """Return the GPUs that a training needs for its memory: one, or all where one is too small."""
    gpus = resources_of(config.resources, "the plan").gpus
    smallest = min((gpu.total_bytes for gpu in gpus if gpu.total_bytes is not None), default=None)
    if smallest is None:
        return 1
    for facts in models:
        shape = model_shape(facts.model)
        settings = settings_for(config, facts.model, facts.template)
        estimate = estimate_memory(shape, settings, sharding_of(None, processes=1, nodes=1)) if shape else None
        if "deepspeed" in config.sft or (estimate is not None and estimate.states + RUNTIME_BYTES > smallest):
            return len(gpus)
    return 1


def _memory(proposal: Proposal) -> list[Finding]:
    """Return what each model needs of memory against what is there.

    Raises:
        UserError: one cannot fit.
    """
    config, machine = proposal.config, proposal.machine
    found = []
    for facts in proposal.models:
        shape = model_shape(facts.model)
        if shape is None:
            found.append(Finding("warn", "memory", f"{facts.name}: the memory is not estimated: its size is not known"))
            continue
        settings = settings_for(config, facts.model, facts.template)
        ranks = [one.rank for one in proposal.candidates if one.model == facts.name and one.rank is not None]
        settings |= {"lora_rank": max(ranks)} if ranks else {}
        if not names_batch(config):
            settings["per_device_train_batch_size"] = 1
        deepspeed = read_config(config.sft["deepspeed"]) if "deepspeed" in config.sft else None
        sharding = sharding_of(deepspeed, processes=machine.processes, nodes=1)
        for finding in fit_memory(shape, settings, sharding, machine.known):
            if finding.level == "fail":
                raise UserError(finding.message, where=f"--model {facts.name}", fix=finding.fix)
            found.append(Finding(finding.level, finding.name, f"{facts.name}: {finding.message}"))
    return found


def _notes(proposal: Proposal, memory: Sequence[Finding]) -> list[str]:
    config, inspection = proposal.config, proposal.inspection
    several = len(proposal.candidates) - 1
    notes = []
    for part, what, tests in (
        (CHOOSING, "candidates", max(1, several)),
        (JUDGING, "the final and the untrained model", 1),
    ):
        rows = inspection.part(part).rows
        if 2 ** (1 - rows) * tests >= SURE:
            notes.append(f"{counted(rows, 'conversation')} to compare {what} by: too few to tell any difference")
        elif config.way == "loss" and (seen := detectable(1.0, rows)) is not None:
            notes.append(
                f"{rows:,} conversations to compare {what} by tell a difference of {seen:.2f} times its standard "
                "deviation between conversations, four times in five"
            )
    if config.probe and config.way != "loss" and not proposal.sweeps.probes_decider:
        notes.append("your evaluator is not tried before the approval, since that may cost money: its time is guessed")
    if config.way == "drafted":
        for part in (CHOOSING, JUDGING):
            seen = detectable(SPREAD, inspection.part(part).rows)
            if seen is not None:
                notes.append(
                    f"the drafted tasks of {part} tell successes apart that differ by about {seen:.2f} or more"
                )
    if inspection.part(TRAINING).rows > config.search_rows:
        notes.append(f"candidates are tried on {inspection.part(SEARCH).rows:,} conversations, the final run has all")
    batches = {one.batch for one in proposal.candidates}
    if not config.rates and batches != {REFERENCE_BATCH} and config.is_lora:
        told = ", ".join(map(str, sorted(batches)))
        notes.append(
            f"the usual rates are of {REFERENCE_BATCH} conversations a step: for {told} they are scaled by the square "
            "root of the batch"
        )
    if len({facts.template for facts in proposal.models}) > 1 or len(proposal.models) > 1:
        notes.append("models with other tokenizers are compared by the loss for each character")
    if inspection.rejected and not config.sft.get("allow_rejects"):
        notes.append(f"{counted(inspection.rejected, 'row')} that cannot be used are left out")
    notes += [finding.message for finding in memory if finding.level == "warn"]
    return notes
