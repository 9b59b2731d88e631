"""`agent-sft serve RUN_OR_MODEL`: a model at an address, for as long as it is wanted."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.serve_options import adapters_of, gpus_of, serving_lines
from agent_sft.cli.sft_options import parse_setting
from agent_sft.cli.show import TerminalReporter, program

if TYPE_CHECKING:
    from agent_sft.config.serve import ServeRequest
    from agent_sft.stages.serving_registry import Record


@click.command()
@click.argument("model", metavar="RUN_OR_MODEL")
@click.option(
    "--backend",
    type=click.Choice(["auto", "vllm", "llamafactory"]),
    default="auto",
    help="What serves.  [default: vllm; llamafactory where vLLM cannot be installed]",
)
@click.option("--lora", multiple=True, metavar="NAME=PATH", help="An adapter beside it; may be given several times.")
@click.option("--lora-later", type=int, metavar="RANK", help="Allow adapters up to this rank to be added later.")
@click.option("--name", help="What requests call the model.  [default: the folder's name and its digest]")
@click.option("--port", type=int, help="On 127.0.0.1.  [default: a free one]")
@click.option("--gpus", metavar="0,1,...", help="GPUs, by nvidia-smi's numbers.  [default: all visible]")
@click.option("--no-tools", is_flag=True, help="Serve a model whose template cannot carry tools.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any flag of vLLM, or key of LLaMA-Factory."
)
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
    plan = plan_serving(_request(options), dry_run=dry_run)
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


def _request(options: dict[str, Any]) -> ServeRequest:
    from pydantic import ValidationError

    from agent_sft.config.serve import ServeRequest
    from agent_sft.errors import UserError

    values = {
        "model": options["model"],
        "backend": options["backend"],
        "lora": adapters_of(options["lora"]),
        "lora_later": options["lora_later"],
        "name": options["name"],
        "port": options["port"],
        "gpus": gpus_of(options["gpus"]),
        "tools": not options["no_tools"],
        "set": dict(parse_setting(text) for text in options["settings"]),
    }
    try:
        return ServeRequest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else None
        raise UserError(first["msg"].removeprefix("Value error, "), where=flag) from error


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
    for line in serving_lines(record):
        click.echo(line)
    end = f"End it: {shlex.quote(program())} serve stop {record.name}" if detached else "Ctrl-C ends it."
    click.echo(end)
