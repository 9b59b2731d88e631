"""Carrying a plan out: seven phases, each with its stamp, so that the same command goes on after whatever happened."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agent_sft.config.planning import PlanConfig
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import digest_value
from agent_sft.planning.approving import Asker, By, Grants, approve, read_approval
from agent_sft.planning.board import check_promotable, judgement, scoreboard
from agent_sft.planning.costs import Measured, measured_by, spent_hours
from agent_sft.planning.deploying import deploy
from agent_sft.planning.folder import BUSY, LOCK, PlanFolder
from agent_sft.planning.inspection import Inspector
from agent_sft.planning.models import look_at_models
from agent_sft.planning.outcome import Halt, Outcome, Shown
from agent_sft.planning.proposing import (
    DEPLOYMENT,
    FINAL_RUN,
    PROBE,
    SEARCHING,
    Proposal,
    cost_model,
    is_probed,
    propose,
    record_of,
)
from agent_sft.planning.reporting import write_final, write_plan, write_scoreboard
from agent_sft.planning.searching import search
from agent_sft.planning.spending import refuse_too_dear, spent_so_far, timed
from agent_sft.planning.watching import BudgetWatch, Watched
from agent_sft.report.numbers import plain
from agent_sft.report.plan.record import (
    DEPLOYMENT as DEPLOYMENT_FILE,
)
from agent_sft.report.plan.record import (
    JUDGEMENT,
    PLAN,
    SCOREBOARD,
    Candidate,
    Deployed,
    Judgement,
    PlanRecord,
    Scoreboard,
    read_record,
    write_record,
)
from agent_sft.report.sweep.record import SweepRecord
from agent_sft.runs.lock import run_lock
from agent_sft.runs.processes import Interrupted, StopSignal
from agent_sft.stages.stage import Stage
from agent_sft.sweep.graph import SweepPlan
from agent_sft.sweep.knowledge import usual
from agent_sft.sweep.resources import resources_of
from agent_sft.sweep.schedule import run_sweep

ROUGH = 4
"""How many times too much an estimate by formula may be."""


def run_plan(
    config: PlanConfig, *, asker: Asker, shown: Shown, stop: StopSignal, command: Sequence[str], grants: Grants
) -> Outcome:
    """Carry a plan out, as far as it goes now.

    Args:
        config: what is asked for.
        asker: asks the user for approval.
        shown: shows how it goes.
        stop: signals that end it well.
        command: what it was started with.
        grants: what is approved already.

    Returns:
        How the plan stands.

    Raises:
        UserError: the request or the data are wrong.
        WorkFailed: a phase failed; the same command goes on.
        Interrupted: the user stopped it; the same command goes on.
    """
    resources_of(config.resources, "the plan")  # what cannot be had is refused before the data is read
    folder = PlanFolder(config.out)
    made = not config.out.exists()
    try:
        with run_lock(folder.path / LOCK, BUSY):
            return _Driver(config, folder, asker, shown, stop, command, grants).run()
    except UserError:
        if made and not (folder.path / PLAN).exists():
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


class _Driver:
    def __init__(
        self,
        config: PlanConfig,
        folder: PlanFolder,
        asker: Asker,
        shown: Shown,
        stop: StopSignal,
        command: Sequence[str],
        grants: Grants,
    ) -> None:
        self._config, self._folder, self._asker, self._shown = config, folder, asker, shown
        self._stop, self._command, self._grants = stop, command, grants
        self._phase = "inspection"
        seen = read_record(folder.path, PLAN, PlanRecord)
        self._seen = seen.fingerprint if seen is not None else None
        """Of the plan that the user could see when the command was given."""

    def run(self) -> Outcome:
        """Do all phases, as far as it goes."""
        try:
            self._phases()
        except Halt as halt:
            self._folder.stands(self._phase, halt.standing, halt.reason)
            return Outcome(self._folder, halt.standing, halt.reason)
        except (WorkFailed, UserError) as error:
            if (self._folder.path / "plan.yaml").exists():
                self._folder.stands(self._phase, "failed", str(error).splitlines()[0])
            raise
        except Interrupted:
            self._folder.stands(self._phase, "stopped", "by a signal")
            raise
        self._folder.stands(self._phase, "done")
        return Outcome(self._folder, "done")

    def _phases(self) -> None:
        proposal = self._inspected()
        plan = self._planned(proposal)
        self._approved(plan)
        board = self._searched(proposal, plan)
        winner = self._promoted(proposal, plan, board)
        judged = self._trained_and_judged(proposal, plan, winner)
        deployed = self._deployed(judged)
        self._begins(7, "report")
        report = write_final(
            self._folder, proposal, plan, board, judged, deployed, spent_so_far(self._folder, proposal.machine)
        )
        self._shown.say(f"report: {report}")

    def _inspected(self) -> Proposal:
        """Phase 1: look at the data and part it."""
        inspector = Inspector(self._config, self._folder, self._shown.say)
        self._begins(1, "inspection", state=False)
        inspection = inspector.inspect()
        self._folder.keep_config(self._config)
        self._folder.stands(self._phase, "running")
        self._stop.leave()
        models = look_at_models(self._config, self._folder, self._shown.say)
        self._stop.leave()
        return propose(self._config, self._folder, inspection, models)

    def _planned(self, proposal: Proposal) -> PlanRecord:
        """Phase 2: say what will be done and what it takes, by a measured probe where that is wished."""
        self._begins(2, "plan")
        stage, folder = proposal.stage(), self._folder
        known = read_record(folder.path, PLAN, PlanRecord)
        measured = self._measured(proposal)
        if self._config.probe and not is_probed(proposal, measured):
            rough = record_of(proposal, {}).device_hours / ROUGH
            refuse_too_dear(self._config, rough, f"before anything is measured, even a {ROUGH}th of the estimate is")
            record = self._sweep(proposal, proposal.sweeps.probe(proposal.candidates), PROBE, {}, watch=False)
            measured = self._measured(proposal)
            for job in record.jobs:
                if job.state == "failed":
                    self._shown.say(f"plan: the probe could not be made: {job.id}: {job.reason}")
        plan = record_of(proposal, measured)
        if known is not None and known.fingerprint == plan.fingerprint:
            plan = msgspec.structs.replace(plan, created=known.created)
        stage.perform(folder.run, lambda: (write_plan(folder, plan, proposal.inspection), {}))
        self._shown.plan(plan, folder)
        refuse_too_dear(self._config, plan.device_hours, "the plan is estimated at")
        return plan

    def _approved(self, plan: PlanRecord) -> None:
        """Wait for the first approval: of the plan and its costs.

        Raises:
            Halt: nobody approved it.
        """
        known = read_approval(self._folder, "plan")
        if known is not None and known.of == plan.fingerprint:
            return
        if known is not None:
            self._shown.say("plan: what was approved before is another plan now")
        how = f"agent-sft plan approve {self._folder.path.name}"
        by: By = "--yes" if self._grants.everything else "a command"
        if self._grants.plan and plan.fingerprint != self._seen and not self._grants.everything:
            raise Halt("waiting for approval", f"it is another plan than the one you saw: look at it, then `{how}`")
        if not self._grants.everything and not self._grants.plan:
            answer, by = self._asker.plan(plan), "the question"
            if answer is None:
                raise Halt(
                    "waiting for approval", f"approve it with `{how}`; the plan is in {self._folder.path}/plan.md"
                )
            if not answer:
                raise Halt(
                    "refused", "the plan was refused; the same command asks again, other options make another plan"
                )
        approve(self._folder, "plan", plan.fingerprint, by)

    def _searched(self, proposal: Proposal, plan: PlanRecord) -> Scoreboard:
        """Phase 3: train and score the candidates."""
        self._begins(3, "candidates")
        folder = self._folder
        stage = Stage("candidates", {"plan": plan.fingerprint})

        def make() -> tuple[list[Path], dict[str, Any]]:
            costs = cost_model(proposal, self._measured(proposal))

            def run(sweep: SweepPlan) -> SweepRecord:
                return self._sweep(proposal, sweep, SEARCHING, costs.jobs(sweep, proposal.candidates))

            record, stopped = search(proposal, folder, run, self._shown.say)
            board = scoreboard(
                record, folder.candidates, proposal.candidates, proposal.sweeps.decider, proposal.machine, stopped
            )
            return [write_record(folder.path, SCOREBOARD, board), write_scoreboard(folder, board, plan)], {}

        if stage.finished(folder.run) is None:
            stage.perform(folder.run, make)
        board = read_record(folder.path, SCOREBOARD, Scoreboard)
        assert board is not None
        return board

    def _promoted(self, proposal: Proposal, plan: PlanRecord, board: Scoreboard) -> Candidate:
        """Phase 4: wait for the second approval, of the candidate that goes on.

        Raises:
            Halt: nobody promoted one.
        """
        self._begins(4, "promotion")
        shown = digest_value([board.winner, [one.name for one in proposal.candidates], plan.fingerprint])
        known = read_approval(self._folder, "promotion")
        number = known.candidate if known is not None and known.of == shown else None
        asked = self._grants.candidate
        if number is None or (asked is not None and asked != number):
            self._shown.board(board, plan)
            number, by = self._asked_for(board)
            check_promotable(board, number)
            approve(self._folder, "promotion", shown, by, number)
        return next(one for one in proposal.candidates if one.number == number)

    def _asked_for(self, board: Scoreboard) -> tuple[int, By]:
        """Return the candidate that goes on, and who says so."""
        if self._grants.promotion or self._grants.everything:
            by: By = "a command" if self._grants.promotion else "--yes"
            return self._grants.candidate or board.winner, by
        how = f"agent-sft plan promote {self._folder.path.name}"
        answer = self._asker.promotion(board)
        if answer is None:
            raise Halt("waiting for promotion", f"promote the winner with `{how}`, another with --candidate N")
        if answer is False:
            raise Halt("refused", f"no candidate was promoted; `{how}` does that later, another with --candidate N")
        return (board.winner if answer is True else answer), "the question"

    def _trained_and_judged(self, proposal: Proposal, plan: PlanRecord, winner: Candidate) -> Judgement:
        """Phases 5 and 6: train on all data, and judge beside the untrained model."""
        folder, sweeps = self._folder, proposal.sweeps
        epochs = proposal.final_epochs or winner.epochs
        train = not self._config.skip_final
        stage = Stage("judged", {"plan": plan.fingerprint, "candidate": winner.name, "epochs": epochs, "train": train})

        def make() -> tuple[list[Path], dict[str, Any]]:
            model = sweeps.model_of(winner)
            whole = sweeps.final(winner, epochs, train=train)
            costs = cost_model(proposal, self._measured(proposal))
            expected = costs.jobs(whole, [winner], final_epochs=epochs)
            if train:
                self._begins(5, f"final run: candidate {winner.number}, {plain(epochs)} epochs on all data")
                alone = sweeps.final(winner, epochs, train=True, score=False)
                record = self._sweep(proposal, alone, FINAL_RUN, expected)
                self._refuse_failed(record, "the final run")
                model = folder.final / "variants" / "final"
            self._begins(6, "held-out evaluation")
            record = self._sweep(proposal, whole, FINAL_RUN, expected)
            found = judgement(record, folder.final, winner, sweeps.decider, trained=train, model=model)
            return [write_record(folder.path, JUDGEMENT, found)], {}

        if stage.finished(folder.run) is None:
            stage.perform(folder.run, make)
        judged = read_record(folder.path, JUDGEMENT, Judgement)
        assert judged is not None
        return judged

    def _deployed(self, judged: Judgement) -> Deployed | None:
        """Phase 7: serve the final model."""
        if not self._config.deploy:
            return None
        folder = self._folder
        weights = {path.name: path.stat().st_size for path in sorted(Path(judged.model).glob("*.safetensors"))}
        stage = Stage("deploy", {"model": judged.model, "weights": weights, "serve": self._config.serve})

        def make() -> tuple[list[Path], dict[str, Any]]:
            self._begins(7, "deployment")
            with timed(self._folder, DEPLOYMENT):
                made = deploy(judged.model, self._config, self._stop, self._shown.stages())
            return [write_record(folder.path, DEPLOYMENT_FILE, made)], {}

        if stage.finished(folder.run) is None:
            stage.perform(folder.run, make)
        return read_record(folder.path, DEPLOYMENT_FILE, Deployed)

    def _measured(self, proposal: Proposal) -> dict[str, Measured]:
        return measured_by(self._folder.probe, proposal.models) if self._config.probe else {}

    def _sweep(
        self, proposal: Proposal, sweep: SweepPlan, phase: str, expected: Mapping[str, float], *, watch: bool = True
    ) -> SweepRecord:
        """Run a sweep of the plan; nothing of it that is done is done again.

        Args:
            proposal: the plan.
            sweep: its sweep.
            phase: whose time it takes.
            expected: seconds of jobs, as estimated.
            watch: whether the budget ends it.
        """
        budget = self._config.budget_hours if watch else None
        others = [one for one in self._sweep_folders() if one != sweep.out]
        before = spent_hours(others, proposal.machine)
        watched = Watched(self._shown.sweep(sweep.out), BudgetWatch(budget, before, proposal.machine), self._stop)
        with timed(self._folder, phase):
            try:
                outside = usual(sweep, resources_of(sweep.config.resources, sweep.config.name), expected)
                return run_sweep(sweep, reporter=watched, stop=self._stop, command=list(self._command), outside=outside)
            except Interrupted:
                if watched.too_dear is not None:
                    raise Halt("over budget", watched.too_dear) from None
                raise

    def _refuse_failed(self, record: SweepRecord, what: str) -> None:
        failed = next((job for job in record.jobs if job.state in ("failed", "skipped")), None)
        if failed is not None:
            log = self._folder.final / failed.log if failed.log else None
            raise WorkFailed(f"{what} failed: {failed.reason}", log=log, fix="the same command tries again")

    def _begins(self, number: int, title: str, *, state: bool = True) -> None:
        self._phase = title.partition(":")[0]
        self._shown.phase(number, title)
        if state:
            self._folder.stands(self._phase, "running")

    def _sweep_folders(self) -> list[Path]:
        return [self._folder.probe, self._folder.candidates, self._folder.final]
