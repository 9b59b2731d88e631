"""What runs now: jobs in processes of their own, and scorers that work evaluations off."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.errors import UserError, WorkFailed
from agent_sft.runs.processes import StopSignal
from agent_sft.sweep.cleaning import scored_steps
from agent_sft.sweep.commands import runnable
from agent_sft.sweep.doneness import make_room
from agent_sft.sweep.executor import Executor, Handle
from agent_sft.sweep.forking import Forking
from agent_sft.sweep.graph import Job
from agent_sft.sweep.journal import Journal
from agent_sft.sweep.judging import Judge
from agent_sft.sweep.outside import Outside
from agent_sft.sweep.pruning import prune, size_of
from agent_sft.sweep.scorers import Scorer, first_model, lora_rank
from agent_sft.sweep.slots import Pool, Share
from agent_sft.sweep.standing import Standing

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Process:
    """A job that runs in a process of its own."""

    job: Job
    handle: Handle
    share: Share
    needed: int | None = None
    """Bytes that a training will write; None where nothing tells."""


class Working:
    """Starts what may start and takes note of what ends."""

    def __init__(
        self,
        standing: Standing,
        executor: Executor,
        journal: Journal,
        outside: Outside,
        say: Callable[[str], None],
        retry_seconds: float,
    ) -> None:
        """Get ready; nothing is started yet.

        Raises:
            UserError: a job wants more than there is.
        """
        config = standing.plan.config
        self.pool = Pool(executor.capacity(), config.resources.jobs)
        self.pool.check(standing.plan.jobs)
        self._standing = standing
        self._executor = executor
        self._journal = journal
        self._outside = outside
        self._say = say
        self._forking = Forking(executor, standing)
        self._judge = Judge(standing, journal, outside.note_done, say, retry_seconds)
        self._processes: list[Process] = []
        self._scorers: list[Scorer] = []
        self._first: dict[str, EvaluationConfig | None] = {}
        self._ranks: dict[str, int | None] = {}
        """What each server could begin with, and the highest rank of its adapters, as far as was asked."""

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        return bool(self._processes or self._scorers)

    def collect(self) -> None:
        """Take note of what has ended, and give its share back; of machines that came and went before that."""
        self.pool.refresh(self._executor.capacity())
        for process in list(self._processes):
            if (status := process.handle.poll()) is not None:
                self._processes.remove(process)
                self.pool.give_back(process.share)
                lost = process.handle.lost()
                self._judge.ended(process.job, status, len(process.share.gpus), lost=lost)
        for job, handle in self._running():
            if (devices := handle.where()) is not None:
                self._journal.placed(job.id, devices)
        for scorer in list(self._scorers):
            status = scorer.handle.poll()  # before its answers are read: the last one is not missed
            if scorer.job is not None and (answer := scorer.answer()) is not None:
                job, scorer.job = scorer.job, None
                self._judge.ended(job, answer.status, len(scorer.share.gpus), answer.reason, final=answer.final)
            if status is not None:
                self._scorers.remove(scorer)
                self.pool.give_back(scorer.share)
                if scorer.job is not None:
                    lost, gpus = scorer.handle.lost(), len(scorer.share.gpus)
                    self._judge.ended(scorer.job, status or 1, gpus, more=[scorer.log], lost=lost)
        self._forking.end_if_over()

    def start(self) -> None:
        """Start what may start, as far as there is room; make room where only an idle server is in the way."""
        short = False
        idle: dict[str, list[Scorer]] = {}
        for scorer in self._scorers:
            idle.setdefault(scorer.server, []).extend([scorer] if scorer.idle else [])
        for job in self._standing.startable():
            if job.kind == "score":
                short |= not self._score(job, idle)
            elif (share := self.pool.take(job.slots)) is None:
                short = True
            else:
                self._launch(job, share)
        for scorer in self._scorers:
            if scorer.idle and (short or not self._standing.comes(scorer.server)):
                scorer.end()
        if not short:
            self._widen()
            self._warm()

    def stop(self, stop: StopSignal) -> None:
        """Ask all that runs to save and end, and wait; a second signal ends it at once."""
        handles = [*(one.handle for one in self._processes), *(one.handle for one in self._scorers)]
        for handle in handles:
            handle.terminate()
        while any(handle.poll() is None for handle in handles):
            if stop.count > 1:
                break
            time.sleep(POLL_SECONDS)
        self._put_back()

    def kill(self) -> None:
        """End all that still runs, at once."""
        self._put_back()

    def prune(self, variant: str) -> None:
        """Delete the checkpoints of a finished variant that the rule does not keep."""
        config = self._standing.plan.config
        one = self._journal.variant(self._standing.plan, variant)
        if one.run is not None:
            names, freed = prune(self._standing.plan.out / one.run, config.keep, scored_steps(one))
            if names:
                self._say(f"{variant}: pruned {len(names)} checkpoints, {freed / 1e9:.1f} GB")

    def _running(self) -> Iterator[tuple[Job, Handle]]:
        yield from ((one.job, one.handle) for one in self._processes)
        yield from ((one.job, one.handle) for one in self._scorers if one.job is not None)

    def _put_back(self) -> None:
        running: list[tuple[Job | None, Handle, Share]] = [
            *((one.job, one.handle, one.share) for one in self._processes),
            *((one.job, one.handle, one.share) for one in self._scorers),
        ]
        self._processes, self._scorers = [], []
        for job, handle, share in running:
            handle.kill()
            self.pool.give_back(share)
            if job is not None:
                self._journal.ends(job.id, handle.poll() or 0, len(share.gpus))
                self._standing.again(job, "stopped")
        self._forking.end()

    def _launch(self, job: Job, share: Share) -> None:
        """Start a job in a process of its own."""
        needed = self._outside.needed_bytes(self._standing.plan, job) if job.kind == "train" else None
        if needed is not None and (refusal := self._no_room(job, needed)) is not None:
            self.pool.give_back(share)
            self._judge.failed(job, refusal)
            return
        if job.evaluation is not None and (other := self._other_evaluation(job.evaluation)) is not None:
            self._say(f"{job.id}: set aside what {job.evaluation.out} held: {other}")
        log = self._begin(job, share)
        environment = {**job.environment, **self._forking.variables([job], share)}
        try:
            handle = self._executor.submit(job.id, runnable(job.command), share, environment, log)
        except OSError as error:
            self.pool.give_back(share)
            self._journal.ends(job.id, 1, 0)
            self._judge.failed(job, f"cannot be started: {error.strerror} ({error.filename or log})")
            return
        self._processes.append(Process(job, handle, share, needed))

    def _other_evaluation(self, config: EvaluationConfig) -> str | None:
        """Set aside what an evaluation's folder holds of another model or with other settings; tell what differs."""
        try:
            return make_room(config)
        except (UserError, WorkFailed):
            return None  # the job itself says what is wrong

    def _score(self, job: Job, idle: dict[str, list[Scorer]]) -> bool:
        """Give a job to a scorer of its server, or start one; return False where there is no room for one.

        Args:
            job: of kind `score`.
            idle: the scorers of each server that has one, those that could be given a job; kept up to date.
        """
        assert job.server is not None
        if job.server not in idle:
            scorer = self._new_scorer(job.server, job)
            if scorer is None:
                return False
            idle[job.server] = [scorer]
        if idle[job.server]:
            self._hand_over(job, idle[job.server].pop(0))
        return True  # or it waits for its turn

    def _hand_over(self, job: Job, scorer: Scorer) -> None:
        log = self._begin(job, scorer.share)
        try:
            scorer.score(job, self._rank(scorer.server), log)
        except OSError as error:
            scorer.job = None
            self._journal.ends(job.id, 1, 0)
            self._judge.failed(job, f"cannot be started: {error.strerror} ({error.filename or log})")

    def _widen(self) -> None:
        """Start further servers for evaluations that wait, on GPUs that nobody else wants.

        Processors are too few for that: a server takes longer to start there than most evaluations take.
        """
        for job in self._standing.startable() if self.pool.on_gpus else ():
            if job.kind == "score" and job.server is not None and (scorer := self._new_scorer(job.server, job)):
                self._hand_over(job, scorer)

    def _rank(self, server: str) -> int | None:
        if server not in self._ranks:
            self._ranks[server] = lora_rank(self._standing.plan, server)
        return self._ranks[server]

    def _new_scorer(self, server: str, job: Job) -> Scorer | None:
        share = self.pool.take(job.slots)
        if share is None:
            return None
        used = {scorer.folder for scorer in self._scorers}
        names = (server if number == 1 else f"{server}-{number}" for number in range(1, len(used) + 2))
        folder = next(place for name in names if (place := self._standing.plan.out / "servers" / name) not in used)
        mine = [one for one in self._standing.plan.jobs if one.server == server]
        environment = self._forking.variables(mine, share)
        try:
            scorer = Scorer(server, folder, share, self._executor, environment)
        except OSError as error:
            self.pool.give_back(share)
            self._judge.failed(job, f"its server cannot be started: {error.strerror} ({error.filename})")
            return None
        self._scorers.append(scorer)
        return scorer

    def _warm(self) -> None:
        """Start a server that will be needed while there is room that nobody else wants."""
        plan = self._standing.plan
        shared = plan.of_variant.get(None, ())
        if not self._processes or any(self._standing.state(job.id) != "done" for job in shared):
            return
        there = {scorer.server for scorer in self._scorers}
        for server, jobs in plan.of_server.items():
            if server in there or not self._standing.comes(server) or not self.pool.fits(jobs[0].slots):
                continue
            if server not in self._first:
                self._first[server] = first_model(plan, server)
            if (first := self._first[server]) is None:
                continue
            scorer = self._new_scorer(server, jobs[0])
            if scorer is not None:
                self._say(f"server {server}: starting on {first.model} while others train")
                scorer.warm(first, self._rank(server))

    def _begin(self, job: Job, share: Share) -> Path:
        log = self._journal.new_log(job.id)
        reason = self._standing.ready.pop(job.id).reason
        self._journal.starts(job.id, share, log, reason)
        self._say(f"{job.id}: starts ({reason}); {', '.join(share.words) or 'no device'}; log {log}")
        return log

    def _no_room(self, job: Job, needed: int) -> str | None:
        """Return why what a training will write, in bytes, would not fit on the disk; None where it will."""
        plan = self._standing.plan
        # What an earlier attempt has written is there already, and gone on with or set aside.
        run = plan.run_of(job)
        needed -= sum(map(size_of, run.glob("checkpoint-*"))) if run is not None else 0
        promised = sum(one.needed or 0 for one in self._processes)
        free = shutil.disk_usage(plan.out).free - promised
        if needed <= free:
            return None
        return (
            f"no space: its checkpoints take about {needed / 1e9:.1f} GB, {max(free, 0) / 1e9:.1f} GB are free at"
            f" {plan.out}; free some (`agent-sft sweep clean`), and run the same command again"
        )
