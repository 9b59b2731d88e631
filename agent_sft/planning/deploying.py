"""The last phase: the final model at an address that stays."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from agent_sft.config.planning import PlanConfig
from agent_sft.config.serve import ServeRequest
from agent_sft.errors import UserError, WorkFailed, wrong_value
from agent_sft.report.plan.record import Deployed
from agent_sft.runs.directory import now
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.serving_plan import plan_serving
from agent_sft.stages.serving_registry import Record, read_record, server_folder
from agent_sft.stages.serving_run import start_detached
from agent_sft.stages.snippets import serving_lines

POLL_SECONDS = 0.2


def deploy(model: str, config: PlanConfig, stop: StopSignal, reporter: Reporter) -> Deployed:
    """Serve a model under supervision until somebody stops it; one that an earlier run began is taken over.

    Args:
        model: its folder.
        config: the plan, whose name the deployment has.
        stop: signals that end the waiting.
        reporter: is told what is done.

    Raises:
        UserError: something else is served under this name.
        WorkFailed: it did not come up.
        Interrupted: the user stopped it before it answered.
    """
    try:
        request = ServeRequest.model_validate({"name": config.name, **config.serve, "model": model})
    except ValidationError as error:
        raise UserError(wrong_value(error.errors()[0]), where="--serve") from error
    plan = plan_serving(request)
    record = _begun(plan.name, model, stop, reporter)
    if record is None:
        record = start_detached(plan, stop, reporter, supervised=True)
    return Deployed(name=record.name, model=model, at=now(), lines=list(serving_lines(record)))


def _begun(name: str, model: str, stop: StopSignal, reporter: Reporter) -> Record | None:
    """Return the deployment that was begun before, when it answers; None where there is none that lives."""
    folder = server_folder(name)
    said = False
    while True:
        record = read_record(folder)
        if record is None or record.state == "dead":
            return None
        if record.state == "ready":
            break
        if record.state != "starting":
            raise WorkFailed(f"a server called '{name}' runs {record.state}", fix="choose another --name")
        if not said:
            said = True
            reporter.say(f"deploy: {name} is starting already")
        stop.pause(POLL_SECONDS)
    served = record.served["model"]["path"]
    if served is None or Path(served).resolve() != Path(model).resolve():
        what = f"a server called '{name}' runs already, with {served}"
        raise UserError(what, fix=f"stop it with `agent-sft deployments stop {name}`, then run the same command again")
    return record
