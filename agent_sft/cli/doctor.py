"""`agent-sft doctor`: what would fail in an hour, found in seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.sft_options import given_options, sft_options

if TYPE_CHECKING:
    from agent_sft.stages.doctor_case import Finding

MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warning[/]", "fail": "[red]fails[/]"}


@click.command()
@click.argument("input", nargs=-1)
@sft_options
@click.pass_context
def command(context: click.Context, /, **_options: Any) -> None:
    """Look for what would make a training fail on this machine, before it is started.

    Takes the options of the training; INPUT may be left out. Exits 0 if nothing would fail, else 1. Warnings
    do not count.
    """
    from agent_sft.config.sft import SFTConfig
    from agent_sft.errors import UserError
    from agent_sft.stages.doctor import case_of, diagnose, template
    from agent_sft.stages.doctor_case import failed
    from agent_sft.stages.parity import parity_finding
    from agent_sft.stages.plan import build_plan

    options = given_options(context)
    named = any(options.get(key) for key in ("input", "dataset", "trajectory_dataset"))
    with contextlib.ExitStack() as stack:
        stand_in = {} if named else {"input": stack.enter_context(_some_file())}
        config = SFTConfig.from_options({**options, **stand_in, "dry_run": True})
        try:
            plan = build_plan(config)
            findings = [template(plan), *diagnose(case_of(plan, quick=False))]
            if named and plan.python is not None:
                findings.append(parity_finding(plan))
        except UserError as error:
            findings = [failed("settings", error)]
    click.echo(findings_table(findings), nl=False)
    if any(finding.level == "fail" for finding in findings):
        context.exit(1)


@contextlib.contextmanager
def _some_file() -> Iterator[str]:
    """Give the plan a file to name where the user names none: the machine is looked at, not the data."""
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".json") as stream:
        yield stream.name


def findings_table(findings: Sequence[Finding]) -> str:
    """Lay the findings out for the terminal, or for a file, where lines are not broken."""
    import io
    import sys

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    terminal = sys.stdout.isatty()
    out = io.StringIO()
    console = Console(file=out, width=None if terminal else 1000, force_terminal=terminal)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        fix = f"\n-> {finding.fix}" if finding.fix else ""
        table.add_row(MARKS[finding.level], finding.name, escape(finding.message + fix))
    console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
