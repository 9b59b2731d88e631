"""How trials of an Inspect task are ordered, started and read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from agent_sft.engines.inspect.tasks import INSIDE
from agent_sft.engines.served import ServedModel

SAMPLES = "samples.jsonl"
AGENT_SERVICE, USER_SERVICE = "agent", "customer"
"""Inspect's name for an OpenAI-compatible address; its key is read from SERVICE_API_KEY."""


def command(python: Path, place: Path) -> list[str]:
    """Return the command that runs the order in `place`."""
    return [str(python), str(INSIDE / "evaluate.py"), str(place)]


def environment(base: Mapping[str, str], agent_key: str, user_key: str | None, python: Path) -> dict[str, str]:
    """Return the environment of Inspect: ours with that of `.env`, and the keys of the addresses."""
    made = {**base, "AGENT_API_KEY": agent_key or "none", "INSPECT_DISPLAY": "none", "PYTHONUNBUFFERED": "1"}
    if user_key is not None:
        made["CUSTOMER_API_KEY"] = user_key or "none"
    made["PATH"] = os.pathsep.join([str(python.parent), made.get("PATH", os.defpath)])
    # Its settings for other evaluations of the user's do not hold here.
    return {name: value for name, value in made.items() if not name.startswith("INSPECT_EVAL_")}


def address_model(service: str, model: ServedModel, temperature: float) -> dict[str, Any]:
    """Return a model behind an address as an order names it."""
    return {"name": f"openai-api/{service}/{model.name}", "url": model.url, "temperature": temperature}


def finished_samples(attempt: Path) -> Iterator[dict[str, Any]]:
    """Yield the outcomes that an attempt told; a line that was cut off is none."""
    path = attempt / SAMPLES
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        yield value


class SampleLines:
    """Follows the outcomes that a running attempt tells."""

    def __init__(self, attempt: Path) -> None:
        self._path = attempt / SAMPLES
        self._offset = 0

    def new(self) -> list[dict[str, Any]]:
        """Return the outcomes told since the last call."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                text = stream.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [orjson.loads(line) for line in whole.splitlines()]


def log_file(attempt: Path) -> Path | None:
    """Return Inspect's log of an attempt."""
    return next(iter(sorted((attempt / "logs").glob("*.eval"))), None)
