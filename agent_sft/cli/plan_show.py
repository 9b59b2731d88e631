"""How a plan looks while it is carried out, and how its two questions are asked."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent_sft.cli.show import TerminalReporter, say
from agent_sft.cli.sweep_show import SweepTable

if TYPE_CHECKING:
    from agent_sft.config.planning import PlanConfig
    from agent_sft.planning.approving import Grants
    from agent_sft.planning.folder import PlanFolder
    from agent_sft.report.plan.record import PlanRecord, Scoreboard

PHASES = 7


class Terminal:
    """Shows a plan: results on standard output, what happens on standard error."""

    def say(self, text: str) -> None:
        """Show a line."""
        say(text)

    def phase(self, number: int, title: str) -> None:
        """Show that a phase begins."""
        say(click.style(f"[{number}/{PHASES}] {title}", bold=True))

    def plan(self, plan: PlanRecord, folder: PlanFolder) -> None:
        """Show the plan with its costs."""
        from agent_sft.planning.reporting import cost_line, plan_words
        from agent_sft.report.document import as_text

        click.echo(as_text(plan_words(plan, folder)))
        click.echo(f"\nplan: {folder.path / 'plan.md'}: {cost_line(plan)}")

    def board(self, board: Scoreboard, plan: PlanRecord) -> None:
        """Show the scoreboard."""
        from agent_sft.report.document import as_text
        from agent_sft.report.plan.telling import scoreboard_sections

        click.echo(as_text(scoreboard_sections(board, plan)))

    def sweep(self, folder: Path) -> SweepTable:
        """Return what shows a sweep of the plan."""
        return SweepTable(folder)

    def stages(self) -> TerminalReporter:
        """Return what shows a stage."""
        return TerminalReporter()


class Question:
    """Asks the user, where a terminal is there to answer."""

    def plan(self, plan: PlanRecord) -> bool | None:
        """Return whether the plan is approved."""
        if not _can_be_asked():
            return None
        with _interruptible():
            return click.confirm("Go on with this plan?", default=False)

    def promotion(self, board: Scoreboard) -> int | bool | None:
        """Return the candidate that goes on; False for none."""
        if not _can_be_asked():
            return None
        numbers = [str(line.candidate.number) for line in board.lines if line.state == "done"]
        text = f"Promote candidate {board.winner}? y, n, or another's number"
        with _interruptible():
            answer = click.prompt(text, type=click.Choice(["y", "n", *numbers]), show_choices=False)
        return answer == "y" if answer in ("y", "n") else int(answer)


def carry_out(context: click.Context, config: PlanConfig, grants: Grants) -> None:
    """Carry a plan out and say where it stands."""
    from agent_sft.planning.phases import run_plan
    from agent_sft.runs.processes import Interrupted, catch_signals

    with catch_signals() as stop:
        try:
            outcome = run_plan(
                config,
                asker=Question(),
                shown=Terminal(),
                stop=stop,
                command=["agent-sft", *sys.argv[1:]],
                grants=grants,
            )
        except Interrupted as stopped:
            say(f"stopped; the same command goes on: {config.out}")
            context.exit(stopped.exit_code)
    if outcome.reason is not None:
        click.echo(f"{outcome.standing}: {outcome.reason}")
    else:
        for line in ended(outcome.folder):
            click.echo(line)
    context.exit(outcome.exit_code)


def ended(folder: PlanFolder) -> list[str]:
    """Return what to print of a plan that is done."""
    from agent_sft.report.plan.record import DEPLOYMENT, JUDGEMENT, Deployed, Judgement, read_record

    judged = read_record(folder.path, JUDGEMENT, Judgement)
    deployed = read_record(folder.path, DEPLOYMENT, Deployed)
    lines = [*judged.sentences, f"model: {judged.model}"] if judged is not None else []
    lines += [f"report: {folder.path / 'final_report.html'}, final_report.md"]
    return [*lines, *(["", *deployed.lines] if deployed is not None else [])]


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end a question at once: nothing runs that would have to be brought to a good end."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _can_be_asked() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
