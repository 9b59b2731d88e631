"""The jobs of a sweep, each after those that make what it needs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from agent_sft.config.sft import SFTConfig
from agent_sft.config.sweep import SweepConfig
from agent_sft.stages.evaluators.customer import is_address
from agent_sft.sweep.checkpoints import Scored, scored_models
from agent_sft.sweep.commands import evaluation_command, training_command
from agent_sft.sweep.evaluations import SweepEvaluator, evaluation_folder
from agent_sft.sweep.graph import Job, Kind, Variant
from agent_sft.sweep.resources import Resources
from agent_sft.sweep.servers import ServerNames
from agent_sft.sweep.variants import BASE, training

BASE_JOB = "train/base"


class JobMaker:
    """Makes the jobs of one sweep."""

    def __init__(
        self,
        config: SweepConfig,
        out: Path,
        resources: Resources,
        variants: Sequence[Variant],
        evaluators: Sequence[SweepEvaluator],
    ) -> None:
        """Make one for a sweep whose parts are resolved already."""
        self._config, self._out, self._resources = config, out, resources
        self._variants, self._evaluators = variants, evaluators
        self._servers = self._named_servers()
        self._base = base_training(config, out, resources.launch)
        named = {place for variant in variants for place in _named(variant.sft)} | _named(self._base)
        named |= {Path(variant.model) for variant in variants if variant.sft is None}
        named |= {Path(one.asked("-", Path("-"), {}).task.partition("@")[0]) for one in evaluators}
        self._for_all = [
            number
            for number, command in enumerate(config.prepare)
            if not any(covers(made, place) for made in command.makes for place in named)
        ]

    def jobs(self) -> tuple[Job, ...]:
        """Return all jobs, in an order in which they could be done."""
        made = [self._prepare(number) for number in range(len(self._config.prepare))]
        if self._base is not None:
            made.append(self._train(BASE_JOB, self._base, None))
        for variant in self._variants:
            if variant.sft is not None:
                made.append(self._train(f"train/{variant.name}", variant.sft, variant.name))
            made += self.evaluations(variant, trained=variant.sft is None)
        return tuple(made)

    def evaluations(self, variant: Variant, *, trained: bool) -> list[Job]:
        """Return the evaluations of a variant.

        Args:
            variant: one of the sweep's.
            trained: whether its checkpoints can be looked up; else something stands in their place.
        """
        scored = scored_models(self._config, variant, self._out) if trained else None
        if scored is None:
            scored = [Scored(self._config.checkpoints, None, variant.model)]
        return [self._evaluate(variant, one, evaluator) for one in scored for evaluator in self._evaluators]

    def _named_servers(self) -> ServerNames:
        """Return the servers' names, given in one order, so that they are the same whichever jobs are asked for."""
        names = ServerNames(share=self._config.share_server)
        for variant in self._variants:
            for evaluator in self._evaluators:
                if evaluator.serves and not is_address(variant.model):
                    asked = evaluator.asked(variant.model, self._out, self._config.serve)
                    names.name(variant, self._config.checkpoints, asked.serve)
        return names

    def _prepare(self, number: int) -> Job:
        command = self._config.prepare[number].command
        # One after the other: a later command may read what an earlier one made.
        after = (f"prepare/{number - 1}",) if number else ()
        return Job(f"prepare/{number}", "prepare", after, self._resources.prepare, command)

    def _train(self, job: str, sft: SFTConfig, variant: str | None) -> Job:
        after = self._makers(_named(sft))
        if variant is not None and self._base is not None:
            after = (*after, BASE_JOB)
        return Job(job, "train", after, self._resources.train, training_command(sft), variant=variant)

    def _evaluate(self, variant: Variant, scored: Scored, evaluator: SweepEvaluator) -> Job:
        folder = evaluation_folder(self._out, variant.name, scored.checkpoint, evaluator.name)
        asked = evaluator.asked(scored.model, folder, self._config.serve)
        own = evaluator.serves and not is_address(scored.model)
        after = self._makers({Path(asked.task.partition("@")[0]), Path(scored.model)})
        if variant.sft is not None:
            after = (*after, f"train/{variant.name}")
        kind: Kind = "score" if own else "evaluate"
        return Job(
            id=f"{kind}/{variant.name}/{scored.checkpoint}/{evaluator.name}",
            kind=kind,
            after=after,
            slots=self._resources.prepare if is_address(scored.model) else self._resources.serve,
            command=evaluation_command(asked),
            variant=variant.name,
            checkpoint=scored.checkpoint,
            evaluator=evaluator.name,
            evaluation=asked,
            server=self._servers.name(variant, scored.checkpoint, asked.serve) if own else None,
        )

    def _makers(self, needed: Iterable[Path]) -> tuple[str, ...]:
        """Return the commands that make what is needed; those that nobody names what they make come before all."""
        places = set(needed)
        return tuple(
            f"prepare/{number}"
            for number, command in enumerate(self._config.prepare)
            if number in self._for_all or any(covers(made, place) for made in command.makes for place in places)
        )


def base_training(config: SweepConfig, out: Path, launch: Mapping[str, int]) -> SFTConfig | None:
    """Return the options of the training that all variants start from; None where they start from a model as it is."""
    if config.base is None:
        return None
    named = {} if "dataset_name" in config.base else {"dataset_name": BASE}
    return training(config.base, {**named, "output_dir": out / BASE}, launch)


def _named(sft: SFTConfig | None) -> set[Path]:
    """Return the files that a training names, made or not."""
    if sft is None:
        return set()
    names = [*sft.input, *sft.dataset, *sft.trajectory_dataset, sft.eval_dataset, sft.model]
    return {Path(name) for name in (*names, sft.config, sft.process, sft.deepspeed) if name is not None}


def covers(made: Path, place: Path) -> bool:
    """Tell whether making `made` makes `place`: the same, or a folder around it, or something inside it."""
    one, other = Path(os.path.normpath(made.absolute())), Path(os.path.normpath(place.absolute()))
    return one == other or one in other.parents or other in one.parents
