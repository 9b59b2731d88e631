"""Capabilities: a system prompt and tool schemas with a name and a version, put before every conversation.

A capability is written as a folder and kept in a store as datasets are, each version as one JSON object:

capability.yaml      `name` and `version`
system_prompt.md     the system prompt; or `.txt`
tools.json           a list of tools, as an OpenAI request carries them
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from agent_sft.config.yaml_files import read_mapping
from agent_sft.data.store import Card, Store, is_reference
from agent_sft.data.transforms.system_prompt import read_policy, read_tools
from agent_sft.errors import UserError, nearest
from agent_sft.files import read_json, write_atomic

NOUN = "capability"
DESCRIPTION, PROMPTS, TOOLS = "capability.yaml", ("system_prompt.md", "system_prompt.txt"), "tools.json"


@dataclass(frozen=True)
class Capability:
    """What stands before every conversation."""

    name: str
    version: str
    system_prompt: str | None
    """None leaves each conversation its own."""
    tools: tuple[dict[str, Any], ...] | None
    """With `type` and `function`; None leaves each conversation its own."""

    @property
    def reference(self) -> str:
        """How it is named."""
        return f"{self.name}@{self.version}"

    @property
    def content(self) -> dict[str, Any]:
        """What it consists of, apart from its name."""
        return {"system_prompt": self.system_prompt, "tools": list(self.tools) if self.tools is not None else None}

    @property
    def text(self) -> bytes:
        """The same as it is stored: keys in the order in which they are trained on."""
        return orjson.dumps(self.content)

    @cached_property
    def digest(self) -> str:
        """By which two that say the same are told from others."""
        return f"sha256:{hashlib.sha256(self.text).hexdigest()}"

    @property
    def record(self) -> dict[str, Any]:
        """What the record of a run says of it."""
        return {"name": self.name, "version": self.version, "digest": self.digest, **self.content}


def capability_store(where: str | None = None) -> Store:
    """Return the store of capabilities: `capabilities` in the datasets' own store, or beside it in the user's folder.

    Raises:
        UserError: there is no way to reach such a URL.
    """
    return Store.at(where, noun=NOUN)


def read_capability(folder: Path) -> Capability:
    """Return the capability that a folder describes.

    Raises:
        UserError: something of it is missing or cannot be read, or it says nothing.
    """
    path = folder / DESCRIPTION
    described = read_mapping(path, "the name and the version of a capability")
    for key in described:
        if key not in ("name", "version", "description"):
            raise UserError(
                "there is no such key", where=f"{path}, {key}", fix=nearest(key, ["name", "version"]) or None
            )
    missing = [key for key in ("name", "version") if not isinstance(described.get(key), str)]
    if missing:
        raise UserError(f"'{missing[0]}' is missing, or is no text", where=str(path), fix="such as version: 1.0.0")
    prompt = next((folder / name for name in PROMPTS if (folder / name).is_file()), None)
    tools = folder / TOOLS if (folder / TOOLS).is_file() else None
    if prompt is None and tools is None:
        raise UserError(f"holds neither {PROMPTS[0]} nor {TOOLS}", where=str(folder))
    return Capability(
        name=described["name"],
        version=described["version"],
        system_prompt=read_policy(prompt) if prompt is not None else None,
        tools=tuple(map(_as_function, read_tools(tools))) if tools is not None else None,
    )


def push_capability(folder: Path, where: str | None = None) -> tuple[Card, bool]:
    """Store the capability of a folder under its name and version; return its card, and whether it is new.

    Raises:
        UserError: the folder holds none, the version exists with other content, or the store cannot be written.
    """
    capability = read_capability(folder)
    with tempfile.TemporaryDirectory(prefix="agent-sft-") as scratch:
        path = Path(scratch) / f"{capability.name}.json"
        write_atomic(path, capability.text)
        return capability_store(where).push(
            path, capability.name, capability.version, rows=capability.tools or (), origin=str(folder.absolute())
        )


def resolve_capability(given: str) -> Capability:
    """Return the capability of NAME@VERSION, NAME@latest, or a folder.

    Raises:
        UserError: there is none; with the nearest name or version.
    """
    if Path(given).is_dir():
        return read_capability(Path(given))
    if not is_reference(given):
        fix = "give NAME@VERSION, or the folder of a capability"
        raise UserError(f"'{given}' is no capability", where="--capability", fix=fix)
    store = capability_store()
    return stored_capability(store, store.card(given))


def stored_capability(store: Store, card: Card) -> Capability:
    """Return a stored version.

    Raises:
        UserError: its content is missing or damaged.
    """
    content = read_json(store.fetch(card))
    tools = content["tools"]
    return Capability(card.name, card.version, content["system_prompt"], tuple(tools) if tools is not None else None)


def tool_names(tools: Iterable[dict[str, Any]]) -> list[str]:
    """Return what tools are called."""
    return [str(tool["function"]["name"]) for tool in tools]


def _as_function(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool with its keys in the order in which servers render them."""
    function = tool["function"] if tool.get("type") == "function" else tool
    first = {key: function[key] for key in ("name", "description", "parameters") if key in function}
    return {"type": "function", "function": {**first, **function}}
