"""How a served model is called: lines that work when they are pasted."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from agent_sft.stages.serving_registry import Record

EXAMPLE = "Hello, my mobile data does not work."


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
    yield from calling_lines(name, url, key)


def calling_lines(name: str, url: str, key: str) -> Iterator[str]:
    """Return how a served model is called from Python and from the shell.

    Args:
        name: what requests call it.
        url: up to `/v1`.
        key: the file with its key.
    """
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
