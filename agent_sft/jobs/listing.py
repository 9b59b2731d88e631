"""All that runs, ran or waits, in one list."""

from __future__ import annotations

from agent_sft.errors import UserError
from agent_sft.jobs.index import all_jobs
from agent_sft.jobs.others import find_other, others
from agent_sft.jobs.status import Job, find_job, job_in, no_job


def everything() -> list[Job]:
    """Return jobs, sweeps, plans, deployments and servers: what lives first, then the newest first."""
    found = others()
    for run in all_jobs().values():
        try:
            found.append(job_in(run))
        except UserError:
            continue  # its first attempt is being submitted
    found.sort(key=lambda job: (job.submitted or job.started or job.ended or "", job.id), reverse=True)
    return sorted(found, key=lambda job: not job.lives)


def find(name: str) -> Job:
    """Return a job by its id or directory, or something else that runs by its id.

    Raises:
        UserError: there is none, with the nearest id.
    """
    if (other := find_other(name)) is not None:
        return other
    try:
        run = find_job(name)
    except UserError as error:
        raise no_job(name, [job.id for job in everything()]) from error
    return job_in(run)
