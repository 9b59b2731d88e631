"""The options of the commands that look at data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)

data_argument = click.argument("data")
template_option = click.option(
    "--template", default="qwen", show_default=True, help="LLaMA-Factory chat template to train with."
)
form_option = click.option(
    "--format", "form", help="What the rows are, such as openai.  [default: recognised from them]"
)
cutoff_option = click.option(
    "--cutoff-len", type=click.IntRange(min=1), default=12000, show_default=True, help="Longest example, in tokens."
)
store_option = click.option(
    "--store",
    metavar="DIR_OR_URL",
    help="Where datasets are kept.  [default: $AGENT_SFT_STORE, $AGENT_SFT_HOME/datasets, ~/.agent-sft/datasets]",
)
html_option = click.option("--html", "html", type=FILE, help="Also write a page that needs no other file.")
set_option = click.option(
    "--set", "set", multiple=True, metavar="KEY=VALUE", help="Any LLaMA-Factory key that bears on tokens."
)


def model_option(required: bool) -> Callable[[F], F]:
    """Return the option that names the model."""
    what = "Hub name or folder of the model whose tokenizer counts; 'tiny' or a YAML file that describes one makes it."
    return click.option("--model", required=required, help=what)


def settings(cutoff_len: int, given: tuple[str, ...]) -> dict[str, Any]:
    """Return LLaMA-Factory's settings as the options give them.

    Raises:
        UserError: a setting is not of the form key=value, or does not bear on tokens.
    """
    from agent_sft.cli.sft_options import parse_setting
    from agent_sft.engines.llamafactory.encoding import ENCODING_KEYS
    from agent_sft.errors import UserError, nearest

    parsed = dict(parse_setting(text) for text in given)
    for key in parsed:
        if key not in ENCODING_KEYS:
            hint = nearest(key, ENCODING_KEYS) or f"these do: {', '.join(ENCODING_KEYS)}"
            raise UserError(f"'{key}' does not bear on tokens", where="--set", fix=hint)
    return {"cutoff_len": cutoff_len, **parsed}
