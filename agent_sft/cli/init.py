"""`agent-sft init`: from nothing to a training, one question after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent_sft.cli.sft_options import FILE

if TYPE_CHECKING:
    from agent_sft.wizard.questions import Prompter, Question
    from agent_sft.wizard.writing import Work


@click.command()
@click.option("--answers", type=FILE, help="Take the answers from a YAML file instead, by the names of the questions.")
@click.pass_context
def command(context: click.Context, /, answers: Path | None) -> None:
    """Ask what is to be trained, write a script and its settings, and run it if that is wanted.

    `back` and `quit` are answers to every question; Ctrl-C leaves at once. Nothing is written before the last one.
    """
    from agent_sft.errors import UserError
    from agent_sft.wizard.questions import Quit, answered_by_file, ask
    from agent_sft.wizard.steps import data_of, questions, run_question
    from agent_sft.wizard.terminal import Terminal, is_terminal
    from agent_sft.wizard.writing import SCRIPT, work_of, write

    if answers is None and not is_terminal():
        fix = "give the answers in a file: --answers FILE (docs/init.md)"
        raise UserError("there is nobody to ask: this is no terminal", fix=fix)
    prompter = Terminal()
    try:
        if answers is not None:
            given = answered_by_file([*questions(), run_question("Run it now?", "no")], answers)
        else:
            given = ask(questions(), prompter)
    except Quit:
        click.echo("left; nothing was written")
        return
    work, rejected = work_of(given), bool(data_of(given).rejected)
    for path in write(work, rejected=rejected):
        click.echo(f"written: {path}")
    # On a terminal it is asked once the files are there to be looked at.
    wanted = given["run"] if answers is not None else _says_yes(prompter, run_question("Run it now?", "yes"))
    if not wanted:
        click.echo(f"run it when you like: bash {work.folder / SCRIPT}")
        return
    status = _run(work, prompter if answers is None else None, rejected=rejected)
    if status != 0:
        context.exit(status)


def _run(work: Work, prompter: Prompter | None, *, rejected: bool) -> int:
    """Run it, with less memory where that is the trouble and somebody agrees; return the exit code."""
    from agent_sft.cli.show import program
    from agent_sft.wizard.places import HERE
    from agent_sft.wizard.running import proposal, run, summary, with_less_memory
    from agent_sft.wizard.steps import held_memory, run_question
    from agent_sft.wizard.writing import write

    while True:
        for line in held_memory() if work.place.kind == HERE else ():
            click.echo(line)
        status = run(work)
        if status == 0:
            for line in summary(work, program()):
                click.echo(line)
            return 0
        less = with_less_memory(work)
        if less is None:
            return status
        click.echo(f"memory did not suffice; what would fit: {proposal(less)}")
        if prompter is None or not _says_yes(prompter, run_question("Write that, and run it?", "yes")):
            return status
        work = less
        for path in write(work, rejected=rejected):
            click.echo(f"written: {path}")


def _says_yes(prompter: Prompter, question: Question) -> bool:
    from agent_sft.wizard.questions import Back, Quit, ask

    try:
        return bool(ask([question], prompter)["run"])
    except (Back, Quit):
        return False
