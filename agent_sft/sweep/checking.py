"""What would fail in an hour, found before anything starts."""

from __future__ import annotations

from agent_sft.errors import UserError
from agent_sft.stages.evaluating import check_request
from agent_sft.sweep.doneness import Doneness, training_plan
from agent_sft.sweep.graph import Job, SweepPlan
from agent_sft.sweep.resources import resources_of


def check_plan(plan: SweepPlan, reasons: dict[str, str | None]) -> None:
    """Check every training and evaluator that will run, as far as its data is there.

    Args:
        plan: the sweep.
        reasons: why each job runs, None for those that do not.

    Raises:
        UserError: naming the job, what is wrong with it and what to do.
        WorkFailed: the customer's server does not answer.
    """
    doneness = Doneness(plan)
    gpus = resources_of(plan.config.resources, plan.config.name).gpus
    seen: set[str] = set()
    for job in plan.jobs:
        later = any(name.startswith("prepare/") and reasons[name] is not None for name in job.after)
        try:
            if reasons[job.id] is not None and job.kind == "train":
                training_plan(doneness.training(job), gpus, data_comes_later=later)
            elif reasons[job.id] is not None and job.evaluation is not None and job.evaluator not in seen:
                seen.add(str(job.evaluator))
                if not later:
                    check_request(job.evaluation)
        except UserError as error:
            raise UserError(error.what, where=_where(job, error), fix=error.fix) from error


def _where(job: Job, error: UserError) -> str:
    what = f"evaluator {job.evaluator}" if job.evaluator is not None else job.id
    return f"{what}, {error.where}" if error.where else what
