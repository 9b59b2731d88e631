"""Servers that a person starts: in a terminal until it is stopped, or on their own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from agent_sft.config.serve import ServeRequest
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import read_json, write_json
from agent_sft.runs.processes import Interrupted, StopSignal, catch_signals, process_started
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.serving import serve_plan
from agent_sft.stages.serving_plan import ServePlan, plan_serving
from agent_sft.stages.serving_registry import Record, read_record, refuse_running, registered, server_folder
from agent_sft.stages.supervising import supervise

SUPERVISED = "--supervised"


def run_server(plan: ServePlan, stop: StopSignal, reporter: Reporter, ready: Callable[[Record], None]) -> None:
    """Serve until a signal comes.

    Args:
        plan: what to serve.
        stop: the signals.
        reporter: is told what is worth knowing.
        ready: is called once, when the server answers.

    Raises:
        Interrupted: a signal came; nothing is left.
        WorkFailed: the server did not come up, or died.
        UserError: a server of this name runs already.
    """
    with (
        registered(plan.name) as (record, lock),
        serve_plan(plan, place=record.folder, stop=stop, reporter=reporter, hold=[lock]) as server,
    ):
        record.write(server.control)
        written = read_record(record.folder)
        assert written is not None
        ready(written)
        server.watch(stop)


def start_detached(plan: ServePlan, stop: StopSignal, reporter: Reporter, *, supervised: bool = False) -> Record:
    """Start a server that lives on when we end; return when it answers.

    Args:
        plan: what to serve.
        stop: the signals.
        reporter: is told what is worth knowing.
        supervised: whether it is started again when it dies.

    Raises:
        UserError, WorkFailed: as its own process says.
        Interrupted: the user stopped it before it was ready.
    """
    refuse_running(plan.name)
    folder = server_folder(plan.name)
    request = plan.request.model_copy(update={"name": plan.name})
    write_json(folder / "request.json", request.model_dump(mode="json"))
    said = folder / "start.log"
    with said.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "agent_sft.stages.serving_run", str(folder), *([SUPERVISED] * supervised)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    started = process_started(process.pid)
    reporter.say(f"serve: starting {plan.backend} with {plan.model.reference}; log in {folder / 'server.log'}")
    while process.poll() is None:
        record = read_record(folder)
        if record is not None and record.pid == process.pid and record.started == started and record.served:
            return record
        if stop.count:
            process.terminate()
            process.wait()
            raise Interrupted(stop.exit_code)
        time.sleep(0.1)
    words = said.read_text(encoding="utf-8", errors="replace").strip()
    raise (UserError if process.returncode == UserError.exit_code else WorkFailed)(words.removeprefix("error: "))


class _Words:
    """Tells what is worth knowing in plain lines."""

    def say(self, text: str) -> None:
        """Write a line."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def progress(self, _progress: object) -> None:
        """Nothing trains here."""

    def progress_ended(self) -> None:
        """Nothing trained here."""


def main(folder: Path, *, supervised: bool) -> int:
    """Serve what `request.json` in `folder` asks for; return the exit code."""
    try:
        with catch_signals() as stop:
            plan = plan_serving(ServeRequest.model_validate(read_json(folder / "request.json")))
            (supervise if supervised else run_server)(plan, stop, _Words(), lambda _record: None)
    except (UserError, WorkFailed) as error:
        sys.stdout.write(f"error: {error}\n")
        return error.exit_code
    except Interrupted as stopped:
        return stopped.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), supervised=SUPERVISED in sys.argv[2:]))
