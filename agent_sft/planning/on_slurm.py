"""A plan that is carried out by jobs of Slurm, one after the other: each goes as far as it is approved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent_sft.config.planning import PlanConfig
from agent_sft.config.slurm import FLAG, SlurmConfig
from agent_sft.config.yaml_files import validated
from agent_sft.engines.slurm import queue
from agent_sft.engines.slurm.submit import Submitted
from agent_sft.errors import UserError
from agent_sft.files import read_json, write_json
from agent_sft.planning.folder import BUSY, LOCK, PlanFolder
from agent_sft.runs.directory import now
from agent_sft.runs.lock import is_held

SUBMISSION = "slurm.json"


@dataclass(frozen=True)
class Submission:
    """The newest of a plan's jobs in Slurm."""

    id: str
    at: str
    """When it was submitted; ISO 8601, UTC."""
    log: str
    """Relative to the folder that the command was started in."""
    asked: dict[str, Any]
    """Of Slurm: keys of `SlurmConfig`."""

    @property
    def config(self) -> SlurmConfig:
        """What was asked of Slurm.

        Raises:
            UserError: it is damaged.
        """
        return validated(FLAG, self.asked, SlurmConfig)

    @property
    def standing(self) -> queue.Standing | None:
        """How it stands; None where Slurm has forgotten it."""
        return queue.standing(self.id)


def submitted(folder: PlanFolder, config: PlanConfig, slurm: SlurmConfig, done: Submitted) -> None:
    """Write down that a plan was submitted, so that it is found, and goes on there."""
    queue.look_again()
    asked = slurm.model_dump(mode="json", exclude_defaults=True)
    write_json(folder.path / SUBMISSION, {"id": done.id, "at": now(), "log": done.log, "asked": asked})
    if folder.state() is None:
        folder.keep_config(config)


def submission_of(folder: PlanFolder) -> Submission | None:
    """Return the newest job of a plan in Slurm; None where it was never submitted."""
    value = read_json(folder.path / SUBMISSION)
    try:
        return Submission(**value) if isinstance(value, dict) else None
    except TypeError:
        return None


def is_under_way(folder: PlanFolder) -> bool:
    """Tell whether a plan runs, or waits in Slurm's queue."""
    if is_held(folder.path / LOCK):
        return True
    known = submission_of(folder)
    found = known.standing if known is not None else None
    return found is not None and found.lives


def check_at_rest(folder: PlanFolder) -> None:
    """Refuse to submit a plan that is under way.

    Raises:
        UserError: it is.
    """
    if is_under_way(folder):
        known = submission_of(folder)
        what = f"job {known.id} of Slurm carries it out already" if known is not None else "it runs already"
        raise UserError(what, where=str(folder.path), fix=BUSY)


def end_in_slurm(folder: PlanFolder, known: Submission) -> None:
    """End a plan's job in Slurm, what it trains with a checkpoint, and wait until it has ended.

    Raises:
        UserError: there is no scancel here.
        WorkFailed: Slurm does not answer.
    """
    queue.bring_to_end(known.id, lambda: is_under_way(folder))
