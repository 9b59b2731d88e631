"""Where a plan goes on that was approved or promoted: where it was begun, unless it is said otherwise."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.executor_options import executor_options
from agent_sft.cli.plan_show import carry_out
from agent_sft.cli.slurm import SLURM_OPTION, submit_plan

if TYPE_CHECKING:
    from agent_sft.planning.approving import Grants
    from agent_sft.planning.folder import PlanFolder


def where_options(function: Any) -> Any:
    """Add the options that say where a plan goes on."""
    return executor_options(SLURM_OPTION(function))


def go_on(
    context: click.Context,
    folder: PlanFolder,
    grants: Grants,
    *,
    executor: str | None,
    ray_address: str | None,
    slurm: tuple[str, ...],
) -> None:
    """Carry a plan on, or submit it again where it is a job of Slurm.

    Args:
        context: of the command.
        folder: the plan.
        grants: what is approved by the command.
        executor: where it goes on; where it was begun when None.
        ray_address: of the cluster.
        slurm: what is asked of Slurm beside what was asked when it was submitted first.
    """
    from agent_sft.config.slurm import read_slurm
    from agent_sft.errors import UserError
    from agent_sft.planning.on_slurm import submission_of

    config = folder.config().model_copy(update={"out": folder.path})
    known = submission_of(folder)
    if executor == "slurm" or (executor is None and known is not None):
        if ray_address is not None:
            raise UserError("is of a cluster that runs already", where="--ray-address", fix="leave it out")
        asked = known.asked if known is not None else {}
        submit_plan(config, read_slurm(slurm, asked), sys.argv[1:])
        return
    if slurm:
        raise UserError("is about a submission to Slurm", where="--slurm", fix="add --executor slurm, or leave it out")
    if executor is not None:
        resources = config.resources.model_copy(update={"executor": executor, "ray_address": ray_address})
        config = config.model_copy(update={"resources": resources})
    carry_out(context, config, grants)
