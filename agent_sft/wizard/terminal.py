"""Questions on a terminal: arrows and words, with a way back and out of each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from agent_sft.wizard.questions import Back, Choice, Quit

BACK, QUIT = "back", "quit"
HINT = f"({BACK} and {QUIT} are answers too)"


def is_terminal() -> bool:
    """Tell whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty()


class Terminal:
    """Asks with questionary."""

    def say(self, text: str) -> None:
        """Show a line."""
        click.echo(text)

    def choose(self, text: str, choices: Sequence[Choice], default: str | None) -> str:
        """Return the value of the choice."""
        import questionary

        shown = [questionary.Choice(choice.title, value=choice.value) for choice in choices]
        ways = [questionary.Choice(f"({word})", value=word) for word in (BACK, QUIT)]
        wanted = next((one for one in shown if one.value == default), None)
        return _given(questionary.select(text, choices=[*shown, *ways], default=wanted).unsafe_ask())

    def write(self, text: str, default: str | None) -> str:
        """Return what was written."""
        import questionary

        return _given(questionary.text(text, default=default or "", instruction=f"{HINT} ").unsafe_ask().strip())


def _given(answer: Any) -> str:
    if answer == BACK:
        raise Back
    if answer == QUIT:
        raise Quit
    return str(answer)
