"""What a plan trains and scores, as sweeps: the probe, the candidates, the final run beside the untrained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.config.planning import PlanConfig
from agent_sft.config.sweep import EvaluatorConfig, SweepConfig, VariantConfig
from agent_sft.planning.folder import PlanFolder
from agent_sft.planning.grid import names_batch, options_for, shared_out
from agent_sft.planning.inspection import CHOOSING, JUDGING, SEARCH, TRAINING
from agent_sft.report.plan.record import Candidate, ModelFacts
from agent_sft.runs.devices import Gpu
from agent_sft.sweep.graph import SweepPlan
from agent_sft.sweep.plan import build_plan
from agent_sft.sweep.resources import resources_of
from agent_sft.sweep.slots import Capacity

LOSS, DRAFTED = "loss", "drafted"
"""Names of evaluators: the held-out loss, which every model has, and the one made of the data."""
FINAL, BASE = "final", "untrained"
PROBE_STEPS = 20


@dataclass(frozen=True)
class Machine:
    """How a plan uses the machine."""

    gpus: int
    cores: int
    train: int
    """GPUs of a candidate's training; processors where there is no GPU."""
    at_once: int
    """Candidates that are trained at the same time."""
    known: tuple[Gpu, ...] = ()
    """The GPUs that a training may find, as the driver describes them."""
    cluster: Capacity | None = None
    """The machines of a cluster, where there is one."""

    @property
    def on_gpus(self) -> bool:
        """Whether GPUs are what counts."""
        return self.gpus > 0

    @property
    def processes(self) -> int:
        """Of a candidate's training."""
        return self.train if self.on_gpus else 1

    @property
    def capacity(self) -> Capacity:
        """What its sweeps have to share out."""
        return self.cluster or Capacity(tuple(range(self.gpus)), self.cores)

    @property
    def most(self) -> int:
        """The GPUs of one machine, the largest."""
        return max(len(gpus) for gpus, _ in self.capacity.machines)

    @property
    def words(self) -> str:
        """What there is, for people. A cluster is the same with a machine more or less: plans go on with it."""
        names = ", ".join(sorted({gpu.name for gpu in self.known}))
        if self.cluster is not None:
            return f"a Ray cluster, {names or ('GPUs' if self.on_gpus else 'no GPU')}"
        if self.on_gpus:
            return f"{self.gpus} × {names}"
        return f"{self.cores} processors, no GPU"


def machine_for(config: PlanConfig, candidates: int, *, fewest_gpus: int = 1) -> Machine:
    """Return how candidates share the machine: as many side by side as there may be and is room for.

    Args:
        config: the plan.
        candidates: how many there are.
        fewest_gpus: that a candidate's training needs for its memory.

    Raises:
        UserError: more is wanted than there is.
    """
    resources = resources_of(config.resources, "the plan")
    side_by_side = min(candidates, config.max_parallel, config.resources.jobs or candidates)
    capacity = resources.capacity
    gpus = [len(gpus) for gpus, _ in capacity.machines]
    cores = [cores for _, cores in capacity.machines]
    cluster = capacity if capacity.nodes is not None else None
    if any(gpus):
        train = config.resources.gpus_per_train or min(fewest_gpus, max(gpus))
        at_once = max(1, min(side_by_side, sum(has // train for has in gpus)))
        return Machine(sum(gpus), sum(cores), train, at_once, resources.gpus, cluster)
    train = config.resources.cores_per_train or min(max(cores), max(1, sum(cores) // side_by_side))
    at_once = max(1, min(side_by_side, sum(has // train for has in cores)))
    return Machine(0, sum(cores), train, at_once, cluster=cluster)


class Sweeps:
    """Makes the sweeps of a plan."""

    def __init__(self, config: PlanConfig, folder: PlanFolder, models: Sequence[ModelFacts], machine: Machine) -> None:
        """Make one for a plan whose models were looked at."""
        self._config, self._folder, self._machine = config, folder, machine
        self._models = {facts.name: facts for facts in models}

    def candidates(self, candidates: Sequence[Candidate], pauses: Mapping[str, int] | None = None) -> SweepPlan:
        """Return the sweep of the candidates, scored on the conversations that choose.

        Args:
            candidates: all of them.
            pauses: the step at which the training of some of them stops.
        """
        variants = []
        for one in candidates:
            options = self._options(one, self._machine.processes)
            if pauses is not None and one.name in pauses:
                options["pause_at"] = pauses[one.name]
            variants.append(VariantConfig(name=one.name, sft=options))
        return self._plan(
            self._folder.candidates, "candidates", SEARCH, variants, self._evaluators(CHOOSING), search=True
        )

    def probe(self, candidates: Sequence[Candidate]) -> SweepPlan:
        """Return the sweep that trains each model for a few steps, with the largest rank, and scores it.

        Of evaluators that decide only tasks are tried, a few, on the untrained model too, which may not know yet when
        to stop. Others may ask models that cost money, which nothing does before the approval.
        """
        variants: list[VariantConfig] = []
        for number, facts in enumerate(self._models.values(), start=1):
            one = max((one for one in candidates if one.model == facts.name), key=lambda one: one.rank or 0)
            options = {**self._options(one, self._machine.processes), "steps": PROBE_STEPS}
            variants.append(VariantConfig(name=f"m{number}", sft=options))
            if self.probes_decider:
                variants.append(VariantConfig(name=f"m{number}-{BASE}", model=facts.model))
        loss, *deciders = self._evaluators(CHOOSING)
        tried = [_in_one_go(one) for one in deciders if self.probes_decider]
        return self._plan(self._folder.probe, "probe", SEARCH, variants, [loss, *tried], search=True)

    @property
    def probes_decider(self) -> bool:
        """Whether the probe tries the evaluator that decides, too."""
        return any((one.model_extra or {}).get("evaluator") == "tasks" for one in self._evaluators(CHOOSING)[1:])

    def final(self, winner: Candidate, epochs: float, *, train: bool, score: bool = True) -> SweepPlan:
        """Return the sweep of the final model and the untrained one, scored on the conversations that judge.

        Args:
            winner: whose settings are taken.
            epochs: passes over all training data.
            train: whether to train it; else the winner itself is scored.
            score: whether to score at all.
        """
        facts = self._models[winner.model]
        evaluators = self._evaluators(JUDGING, facts.template) if score else []
        base = VariantConfig(name=BASE, model=facts.model)
        if not train:
            made = VariantConfig(name=FINAL, model=str(self.model_of(winner)))
            return self._plan(self._folder.final, "final", TRAINING, [base, made], evaluators, search=False)
        processes = self._final_processes(winner)
        made = VariantConfig(name=FINAL, sft=self._options(winner, processes, epochs=epochs))
        variants = [base, made] if score else [made]
        return self._plan(
            self._folder.final, "final", TRAINING, variants, evaluators, search=False, processes=processes
        )

    def model_of(self, candidate: Candidate) -> Path:
        """Return the folder of a candidate's model."""
        return self._folder.candidates / "variants" / candidate.name

    @property
    def decider(self) -> str | None:
        """The name of the evaluator that decides; None where the loss does."""
        return None if self._config.way == "loss" else self._evaluators(CHOOSING)[1].name

    def _final_processes(self, winner: Candidate) -> int:
        """Return the processes of the final training: all GPUs, as far as the batch stays what it was tried with."""
        if not self._machine.on_gpus:
            return 1
        if names_batch(self._config):
            return self._machine.processes
        most = self._config.resources.gpus_per_train or self._machine.most
        return shared_out(winner.batch, 1, most)[0]

    def _options(self, one: Candidate, processes: int, epochs: float | None = None) -> dict[str, Any]:
        facts = self._models[one.model]
        options = options_for(self._config, facts.model, facts.template)
        if not names_batch(self._config):
            # The batch is the same however many devices there are: the rate was chosen for it.
            options |= {"batch_size": 1, "grad_accum": shared_out(one.batch, 1, processes)[1]}
        if one.rank is not None:
            options["lora_rank"] = one.rank
        return {**options, "lr": one.rate, "epochs": epochs or one.epochs, "nproc_per_node": processes}

    def _evaluators(self, part: str, template: str | None = None) -> list[EvaluatorConfig]:
        cutoff = {name: self._config.sft[name] for name in ("cutoff_len",) if name in self._config.sft}
        params = {**cutoff, **({"template": template} if template is not None else {})}
        loss = {"evaluator": "loss", "task": str(self._folder.part(part)), "params": params}
        found = [EvaluatorConfig(name=LOSS, **loss)]
        if self._config.way == "drafted":
            task = {"evaluator": "tasks", "task": str(self._folder.evaluator(part))}
            found.append(EvaluatorConfig(name=DRAFTED, **task))
        elif self._config.evaluator is not None:
            found.append(EvaluatorConfig.model_validate({"name": "evaluator", **self._config.evaluator}))
        return found

    def _plan(
        self,
        out: Path,
        name: str,
        part: str,
        variants: list[VariantConfig],
        evaluators: list[EvaluatorConfig],
        *,
        search: bool,
        processes: int | None = None,
    ) -> SweepPlan:
        own, given = self._machine, self._config.resources
        if search:
            shares: dict[str, Any] = {"gpus_per_train": own.train} if own.on_gpus else {"cores_per_train": own.train}
            shares["jobs"] = min(given.jobs or self._config.max_parallel, self._config.max_parallel)
        else:
            # Small models gain little from more processors: the share is the one that was measured.
            shares = {"gpus_per_train": processes} if own.on_gpus and processes else {"cores_per_train": own.train}
        config = SweepConfig(
            name=f"{self._config.name}-{name}",
            out=out,
            sft={"input": (str(self._folder.part(part)),), "dataset_name": part},
            variants=tuple(variants),
            seeds=(self._config.seed,),
            evaluators=tuple(evaluators),
            serve=self._config.serve,
            resources=given.model_copy(update=shares),
            keep="last",
            gpu_price=self._config.gpu_price,
        )
        return build_plan(config)


def _in_one_go(evaluator: EvaluatorConfig) -> EvaluatorConfig:
    """Return an evaluator with as many of its tasks as are asked at the same time."""
    at_once = (evaluator.model_extra or {}).get("concurrency", EvaluationConfig.model_fields["concurrency"].default)
    return evaluator.model_copy(update={"limit": at_once, "trials": 1})
