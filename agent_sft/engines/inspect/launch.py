"""How trials of an Inspect task are ordered, started and read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_sft.engines.inspect.tasks import INSIDE
from agent_sft.engines.lines import LineFollower
from agent_sft.engines.served import ServedModel

SAMPLES = "samples.jsonl"
AGENT_SERVICE, USER_SERVICE = "agent", "customer"
"""What an address is called; its key is read from SERVICE_API_KEY."""


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
    return {"name": f"served/{service}/{model.name}", "url": model.url, "temperature": temperature}


def samples_of(attempt: Path) -> LineFollower:
    """Return what follows the outcomes that an attempt tells."""
    return LineFollower(attempt / SAMPLES)


def log_file(attempt: Path) -> Path | None:
    """Return Inspect's log of an attempt."""
    return next(iter(sorted((attempt / "logs").glob("*.eval"))), None)
