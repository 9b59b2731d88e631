"""`agent-sft data parity`: the tokens that are trained on against those that a server renders."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.data_options import (
    FILE,
    data_argument,
    form_option,
    model_option,
    set_option,
    settings,
    template_option,
)
from agent_sft.cli.show import say


@click.command()
@data_argument
@form_option
@model_option(required=True)
@template_option
@click.option("--sample", type=click.IntRange(min=1), default=100, show_default=True, help="Conversations to compare.")
@click.option("--seed", default=42, show_default=True, help="Which ones.")
@click.option("--chat-template", type=FILE, help="Jinja file that the server renders by.  [default: the model's]")
@set_option
@click.pass_context
def command(
    context: click.Context,
    data: str,
    form: str | None,
    model: str,
    template: str,
    sample: int,
    seed: int,
    chat_template: Path | None,
    set: tuple[str, ...],  # noqa: A002  the option's name
) -> None:
    """Compare the tokens of DATA in a training with those that a server renders for the same conversations.

    The one side is LLaMA-Factory's template; the other the model's chat template, given the messages and tools as
    an OpenAI request carries them, up to every turn of the assistant and with it. Exits 0 where they are equal, 1
    where they differ, with the first difference of each conversation and its cause.
    """
    from agent_sft.engines.llamafactory.parity import check_parity, sample_rows
    from agent_sft.errors import UserError
    from agent_sft.stages.looking import looked_at

    text = None
    if chat_template is not None:
        try:
            text = chat_template.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError("cannot be read as text", where=f"--chat-template {chat_template}") from error
    asked = settings(12000, set)
    with looked_at(data, model=model, template=template, form=form, settings=asked) as look:
        assert look.python is not None
        if look.report.rows_rejected:
            say(f"{look.report.rows_rejected:,} rows are not trained on: `agent-sft data check` says why")
        sampled = sample_rows(look.report.data_path, sample, seed)
        rows = [(look.origins.rows[number - 1], row) for number, row in sampled]
        parity = check_parity(look.python, look.settings, rows, text)
    for line in parity.lines():
        click.echo(line)
    if not parity.equal:
        context.exit(1)
