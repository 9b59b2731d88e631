"""What the commands of `agent-sft serve` share: reading their options, and showing a server."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_sft.stages.serving_registry import Record

EXAMPLE = "Hello, my mobile data does not work."


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


def serving_lines(record: Record) -> Iterator[str]:
    """Return what to print of a server that answers: its model, and how it is called."""
    model = record.served["model"]
    name, url, key = model["name"], model["url"], str(record.key_file)
    yield f"serving: {name}"
    yield f"  address    {url}"
    yield f"  key        in {key}"
    yield f"  model      {model['path'] or name}"
    if model["adapters"]:
        yield f"  adapters   {', '.join(model['adapters'])}"
    yield f"  log        {record.log}"
    yield ""
    yield "Call it from Python (pip install openai):"
    yield "  from pathlib import Path"
    yield "  from openai import OpenAI"
    yield f"  client = OpenAI(base_url={json.dumps(url)}, api_key=Path({json.dumps(key)}).read_text())"
    yield f'  messages = [{{"role": "user", "content": {json.dumps(EXAMPLE)}}}]'
    yield f"  reply = client.chat.completions.create(model={json.dumps(name)}, messages=messages)"
    yield "  print(reply.choices[0].message.content)"
    yield ""
    yield "or from the shell:"
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": EXAMPLE}]})
    yield (
        f'  curl -s {url}/chat/completions -H "Authorization: Bearer $(cat {shlex.quote(key)})"'
        f" -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
    yield ""
