"""The scheduler's hold on a scorer: the process that has a server and scores one model after the other on it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.engines.lines import LineFollower
from agent_sft.sweep.executor import Executor, Handle
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.orders import OUTCOMES, QUEUE, Answer, Order, write_line
from agent_sft.sweep.servers import settings_of
from agent_sft.sweep.slots import Share


class Scorer:
    """A running scorer and what it was last asked for."""

    def __init__(
        self, server: str, folder: Path, share: Share, executor: Executor, environment: Mapping[str, str]
    ) -> None:
        """Start it; it serves nothing yet.

        Args:
            server: name that its jobs have in common.
            folder: for its orders, its answers and its logs.
            share: of the machine, which it holds until it has ended.
            executor: where it runs.
            environment: variables beside those of this process.

        Raises:
            OSError: it cannot be started.
        """
        self.server = server
        self.share = share
        self.job: Job | None = None
        """What it scores now."""
        self.ending = False
        folder.mkdir(parents=True, exist_ok=True)
        for name in (QUEUE, OUTCOMES):
            (folder / name).unlink(missing_ok=True)
        self.folder = folder
        self._answers = LineFollower(folder / OUTCOMES)
        self.log = folder / "scorer.log"
        command = [sys.executable, "-P", "-m", "agent_sft.sweep.scoring", str(folder)]
        self.handle: Handle = executor.submit(f"serve/{server}", command, share, environment, self.log)

    @property
    def idle(self) -> bool:
        """Whether it could be given a job now."""
        return self.job is None and not self.ending

    def warm(self, evaluation: EvaluationConfig, lora_rank: int | None) -> None:
        """Have it serve the model of an evaluation, before there is one to score."""
        self._order(Order(what="warm", evaluation=evaluation.model_dump(mode="json"), lora_rank=lora_rank))

    def score(self, job: Job, lora_rank: int | None, log: Path) -> None:
        """Have it carry out a job of kind `score`."""
        assert job.evaluation is not None
        self.job = job
        log.parent.mkdir(parents=True, exist_ok=True)
        evaluation = job.evaluation.model_dump(mode="json")
        self._order(Order(what="score", job=job.id, evaluation=evaluation, lora_rank=lora_rank, log=str(log)))

    def end(self) -> None:
        """Tell it that nothing comes any more; it ends its server and itself."""
        self.ending = True
        self._order(Order(what="end"))

    def answer(self) -> Answer | None:
        """Return the answer to the job it was given, once."""
        for line in self._answers.new_lines():
            answer = msgspec.convert(line, Answer)
            if self.job is not None and answer.job == self.job.id:
                return answer
        return None

    def _order(self, order: Order) -> None:
        write_line(self.folder / QUEUE, order)


def lora_rank(plan: SweepPlan, server: str) -> int | None:
    """Return the highest rank of the adapters that are trained for a server; None where none is."""
    variants = [plan.variant(name) for name in {job.variant for job in plan.of_server[server]} if name is not None]
    trained = [settings_of(one.sft) for one in variants if one.sft is not None]
    ranks = [int(one.get("lora_rank") or 8) for one in trained if one.get("finetuning_type", "lora") == "lora"]
    return max(ranks, default=None)


def first_model(plan: SweepPlan, server: str) -> EvaluationConfig | None:
    """Return an evaluation whose model can be served before any of a server's own models is trained: their base.

    None where they have no base that is there, or only a name.
    """
    job = next((job for job in plan.of_server[server] if job.evaluation is not None and job.variant is not None), None)
    if job is None or job.evaluation is None or (variant := plan.variant(str(job.variant))).sft is None:
        return None
    base = Path(str(settings_of(variant.sft)["model_name_or_path"]))
    if not (base / "config.json").is_file():
        return None
    return job.evaluation.model_copy(update={"model": str(base)})
