"""`agent-sft serve RUN_OR_MODEL`: a model at an address, for as long as it is wanted."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.serve_options import request_of, request_options
from agent_sft.cli.show import TerminalReporter, program

if TYPE_CHECKING:
    from agent_sft.stages.serving_registry import Record


@click.command()
@click.argument("model", metavar="RUN_OR_MODEL")
@request_options
@click.option("--detach", is_flag=True, help="Return when it answers, and leave it running.")
@click.option("--reload", "reload_", is_flag=True, help="Exchange the weights of a running server for these.")
@click.option("--dry-run", is_flag=True, help="Print what would run, and touch nothing.")
@click.pass_context
def command(context: click.Context, /, detach: bool, reload_: bool, dry_run: bool, **options: Any) -> None:
    """Serve a run's model, a checkpoint, an adapter, any model's folder, or a model of the hub.

    It ends with Ctrl-C; with --detach, by `agent-sft serve stop`.
    """
    from agent_sft.runs.processes import Interrupted, catch_signals
    from agent_sft.stages.serving_plan import plan_serving
    from agent_sft.stages.serving_run import run_server, start_detached

    if reload_:
        _reload(options)
        return
    reporter = TerminalReporter()
    plan = plan_serving(request_of(options), dry_run=dry_run)
    if dry_run:
        from agent_sft.stages.serving import shown_launch

        for line in shown_launch(plan):
            click.echo(line)
        return
    try:
        with catch_signals() as stop:
            if detach:
                _show(start_detached(plan, stop, reporter), detached=True)
            else:
                run_server(plan, stop, reporter, lambda record: _show(record, detached=False))
    except Interrupted as stopped:
        reporter.say("serve: stopped; nothing of it is left")
        context.exit(stopped.exit_code)


def _reload(options: dict[str, Any]) -> None:
    from agent_sft.errors import WorkFailed
    from agent_sft.stages.serving_registry import find_server, stop_server

    record = find_server(options["name"])
    control = record.control()
    try:
        control.reload(Path(options["model"]))
    except WorkFailed:
        stop_server(record)  # what it serves now is not known
        raise
    record.write(control)
    click.echo(f"{record.name} serves {control.model.path} now ({control.model.digest})")


def _show(record: Record, *, detached: bool) -> None:
    from agent_sft.stages.snippets import serving_lines

    for line in serving_lines(record):
        click.echo(line)
    end = f"End it: {shlex.quote(program())} serve stop {record.name}" if detached else "Ctrl-C ends it."
    click.echo(end)
