"""A deployment: a server that is started again when it dies, at the same address and with the same key."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_sft.errors import UserError, WorkFailed
from agent_sft.runs.directory import RunDirectory
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.serving import Server, free_port, random_key, serve_plan
from agent_sft.stages.serving_plan import ServePlan
from agent_sft.stages.serving_registry import Record, read_record, registered

FIRST_PAUSE = 1.0
"""Seconds before a server that died is started again; twice as long each time that it dies soon after."""
LONGEST_PAUSE = 60.0
SETTLED_SECONDS = 300.0
"""A server that answered for so long is taken to be well: the pauses begin anew."""
LOGS_KEPT = 5


def supervise(plan: ServePlan, stop: StopSignal, reporter: Reporter, ready: Callable[[Record], None]) -> None:
    """Serve until a signal comes, whatever becomes of the server meanwhile.

    Port and key stay the same, and so does what was loaded while it ran: adapters, exchanged weights.

    Args:
        plan: what to serve.
        stop: the signals.
        reporter: is told what is worth knowing.
        ready: is called once, when the server answers for the first time.

    Raises:
        Interrupted: a signal came; nothing is left.
        WorkFailed: it did not come up at all: what never worked is not tried again and again.
        UserError: a server of this name runs already.
    """
    key = random_key()
    request = plan.request.model_copy(update={"port": free_port(plan.request.port)})
    plan = replace(plan, request=request)
    with registered(plan.name, supervised=True) as (record, lock):
        journal = RunDirectory(record.folder)
        served: Mapping[str, Any] = {}
        pause, count = FIRST_PAUSE, 0
        while True:
            up = None
            try:
                with serve_plan(
                    plan, place=record.folder, stop=stop, reporter=reporter, hold=[lock], key=key
                ) as server:
                    _restore(server, served, reporter)
                    up = time.monotonic()
                    record.write(server.control)
                    journal.record("ready", restarts=count)
                    if (written := read_record(record.folder)) is not None and count == 0:
                        ready(written)
                    server.watch(stop)
            except (UserError, WorkFailed) as failure:
                if up is None and count == 0:
                    raise
                known = read_record(record.folder)
                served = known.served if known is not None and known.served else served
                journal.record("died", reason=str(failure).splitlines()[0], restarts=count)
                _keep_log(record.log)
                pause = FIRST_PAUSE if up is not None and time.monotonic() - up > SETTLED_SECONDS else pause
                reporter.say(f"deploy: {failure}")
                reporter.say(f"deploy: starting it again in {pause:g} s")
                record.write()
                stop.pause(pause)
                pause, count = min(2 * pause, LONGEST_PAUSE), count + 1


def _restore(server: Server, served: Mapping[str, Any], reporter: Reporter) -> None:
    """Load what had been loaded while the server before this one ran."""
    if not served:
        return
    weights = served["model"]["path"]
    if weights is not None and server.model.path != Path(weights):
        server.reload(Path(weights))
    for name, path in served["adapters"].items():
        if name in server.control.adapters:
            continue
        try:
            server.load_adapter(name, Path(path))
        except (UserError, WorkFailed) as error:
            reporter.say(f"deploy: the adapter {name} is not served any more: {error}")


def _keep_log(log: Path) -> None:
    """Number the log of a server that died; the last few are kept."""
    if not log.is_file():
        return
    numbered = {int(path.suffixes[0][1:]): path for path in log.parent.glob(f"{log.stem}.[0-9]*{log.suffix}")}
    last = max(numbered, default=0)
    for number, path in numbered.items():
        if number <= last + 1 - LOGS_KEPT:
            path.unlink(missing_ok=True)
    log.replace(log.with_suffix(f".{last + 1}{log.suffix}"))
