"""What the commands of `agent-sft serve` share: reading their options, and showing a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agent_sft.cli.sft_options import parse_setting

if TYPE_CHECKING:
    from agent_sft.config.serve import ServeRequest

Command = TypeVar("Command", bound=Callable[..., Any])


_REQUEST_OPTIONS = (
    click.option(
        "--backend",
        type=click.Choice(["auto", "vllm", "llamafactory"]),
        default="auto",
        help="What serves.  [default: vllm; llamafactory where vLLM cannot be installed]",
    ),
    click.option("--lora", multiple=True, metavar="NAME=PATH", help="An adapter beside it; as often as you like."),
    click.option("--lora-later", type=int, metavar="RANK", help="Allow adapters up to this rank to be added later."),
    click.option("--name", help="What requests call the model.  [default: the folder's name and its digest]"),
    click.option("--port", type=int, help="On 127.0.0.1.  [default: a free one]"),
    click.option("--gpus", metavar="0,1,...", help="GPUs, by nvidia-smi's numbers.  [default: all visible]"),
    click.option("--capability", metavar="NAME@VERSION", help="System prompt and tools to put before conversations."),
    click.option("--no-tools", is_flag=True, help="Serve a model whose template cannot carry tools."),
    click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any flag of vLLM, or key of LLaMA-Factory."
    ),
)


def request_options(function: Command) -> Command:
    """Give a command the options that say what to serve, and how."""
    for option in reversed(_REQUEST_OPTIONS):
        function = option(function)
    return function


def request_of(options: dict[str, Any]) -> ServeRequest:
    """Return the request that the options of `request_options`, and the model, make.

    Raises:
        UserError: naming the option and what is wrong with its value.
    """
    from pydantic import ValidationError

    from agent_sft.config.serve import ServeRequest
    from agent_sft.errors import UserError, wrong_value

    values = {
        "model": options["model"],
        "backend": options["backend"],
        "lora": adapters_of(options["lora"]),
        "lora_later": options["lora_later"],
        "name": options["name"],
        "port": options["port"],
        "gpus": gpus_of(options["gpus"]),
        "tools": not options["no_tools"],
        "capability": options["capability"],
        "set": dict(parse_setting(text) for text in options["settings"]),
    }
    try:
        return ServeRequest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else None
        raise UserError(wrong_value(first), where=flag) from error


def request_words(request: ServeRequest) -> list[str]:
    """Return the command line that makes a request, from whatever folder it is given."""
    words = [_from_anywhere(request.model), "--backend", request.backend]
    for name, path in request.lora.items():
        words += ["--lora", f"{name}={path.absolute()}"]
    for flag, value in (("lora-later", request.lora_later), ("name", request.name), ("port", request.port)):
        words += [] if value is None else [f"--{flag}", str(value)]
    words += [] if request.gpus is None else ["--gpus", ",".join(map(str, request.gpus))]
    words += [] if request.capability is None else ["--capability", _from_anywhere(request.capability)]
    words += [] if request.tools else ["--no-tools"]
    for key, value in request.set.items():
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    return words


def _from_anywhere(given: str) -> str:
    """Return a name, or a path as it is given from any folder."""
    here = Path(given)
    return str(here.absolute()) if here.exists() else given


def adapters_of(words: Sequence[str]) -> dict[str, Path]:
    """Return the adapters that `--lora NAME=PATH` options name.

    Raises:
        UserError: one is not of this form, or a name comes twice.
    """
    from agent_sft.errors import UserError

    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not name or not path:
            raise UserError(f"'{word}' is not of the form NAME=PATH", where="--lora")
        if name in found:
            raise UserError(f"the name '{name}' is given twice", where="--lora")
        found[name] = Path(path)
    return found


def gpus_of(text: str | None) -> tuple[int, ...] | None:
    """Return the numbers of `--gpus 0,1`.

    Raises:
        UserError: it is no list of different numbers.
    """
    from agent_sft.errors import UserError

    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts) or len(set(parts)) != len(parts):
        raise UserError(f"'{text}' is not a list of different numbers", where="--gpus", fix="such as --gpus 0,1")
    return tuple(map(int, parts))
