"""`agent-sft deploy`: a model at an address that stays, or as a folder that can be taken elsewhere."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.serve_options import request_of, request_options, request_words
from agent_sft.cli.sft_options import FILE
from agent_sft.cli.show import TerminalReporter, program, say

if TYPE_CHECKING:
    from agent_sft.runs.processes import StopSignal
    from agent_sft.stages.serving_plan import ServePlan
    from agent_sft.stages.serving_registry import Record


@click.command()
@click.argument("model", metavar="RUN_OR_MODEL")
@request_options
@click.option("--foreground", is_flag=True, help="Stay in the terminal, as systemd wants it.")
@click.option("--export", "export", type=FILE, metavar="DIR", help="Write a folder that needs nothing else instead.")
@click.option("--scores", multiple=True, type=FILE, help="Results of an evaluation, for the card of --export.")
@click.option("--systemd", type=FILE, metavar="FILE", help="Write a unit for systemd instead of starting.")
@click.option("--compose", type=FILE, metavar="FILE", help="Write a compose file for the folder of --export.")
@click.option("--dry-run", is_flag=True, help="Print what would run, and touch nothing.")
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Serve a model until it is stopped, starting it again when it dies.

    Its address and key stay the same. `agent-sft deployments` lists, shows and stops what is deployed.
    """
    from agent_sft.errors import UserError
    from agent_sft.runs.processes import Interrupted, catch_signals
    from agent_sft.stages.serving import shown_launch
    from agent_sft.stages.serving_plan import plan_serving

    if options["compose"] and not options["export"]:
        raise UserError("needs the folder that it serves", where="--compose", fix="give --export DIR with it")
    if options["compose"] and options["backend"] == "llamafactory":
        raise UserError("is for vLLM", where="--compose", fix="leave --backend llamafactory out")
    if options["scores"] and not options["export"]:
        raise UserError("is for the card of an exported model", where="--scores", fix="give --export DIR with it")
    if options["capability"] and options["export"]:
        what = "is put before conversations by the server, not by the model"
        raise UserError(what, where="--capability", fix="leave it out here, and give it where the folder is served")
    try:
        with catch_signals() as stop:
            if options["export"]:
                _export(options, stop)
                return
            plan = plan_serving(request_of(options), dry_run=options["dry_run"])
            if options["dry_run"]:
                for line in shown_launch(plan):
                    click.echo(line)
            elif options["systemd"]:
                _write_unit(plan, options["systemd"])
            else:
                _deploy(plan, stop, foreground=options["foreground"])
    except Interrupted as stopped:
        say("deploy: stopped; nothing of it is left")
        context.exit(stopped.exit_code)


def _deploy(plan: ServePlan, stop: StopSignal, *, foreground: bool) -> None:
    from agent_sft.stages.serving_run import start_detached
    from agent_sft.stages.supervising import supervise

    reporter = TerminalReporter()
    if foreground:
        supervise(plan, stop, reporter, lambda record: _show(record, foreground=True))
    else:
        _show(start_detached(plan, stop, reporter, supervised=True), foreground=False)


def _export(options: dict[str, Any], stop: StopSignal) -> None:
    from agent_sft.evals.statistics import summarise
    from agent_sft.files import write_atomic
    from agent_sft.report.model_card import model_card
    from agent_sft.stages.deployment_files import compose_file
    from agent_sft.stages.exporting import export_model
    from agent_sft.stages.serving_plan import plan_serving

    target: Path = options["export"]
    scores = [summarise(folder) for folder in options["scores"]]
    made = export_model(
        options["model"],
        target,
        card=lambda model: model_card(target.absolute().name, model, scores),
        reporter=TerminalReporter(),
        stop=stop,
    )
    click.echo(f"exported: {target} ({made.digest()})")
    click.echo(f"  Deploy it: {shlex.quote(program())} deploy {shlex.quote(str(target))}")
    if options["compose"]:
        plan = plan_serving(request_of({**options, "model": str(target)}), dry_run=True)
        write_atomic(options["compose"], compose_file(plan))
        click.echo(f"  or: docker compose -f {shlex.quote(str(options['compose']))} up -d")


def _write_unit(plan: ServePlan, path: Path) -> None:
    from agent_sft.files import write_atomic
    from agent_sft.stages.deployment_files import systemd_unit
    from agent_sft.stages.serving import free_port

    # A port of its own: the address stays the same across reboots.
    port = plan.request.port or free_port(None)
    words = request_words(plan.request.model_copy(update={"name": plan.name, "port": port}))
    write_atomic(path, systemd_unit(plan.name, [str(Path(program()).absolute()), "deploy", *words, "--foreground"]))
    folder = "~/.config/systemd/user"
    click.echo(f"{path}: put it into {folder}/ and start it:")
    click.echo(f"  systemctl --user daemon-reload && systemctl --user enable --now {shlex.quote(path.name)}")


def _show(record: Record, *, foreground: bool) -> None:
    from agent_sft.stages.snippets import serving_lines

    for line in serving_lines(record):
        click.echo(line)
    click.echo("It is started again when it dies.")
    end = "Ctrl-C ends it." if foreground else f"End it: {shlex.quote(program())} deployments stop {record.name}"
    click.echo(end)
