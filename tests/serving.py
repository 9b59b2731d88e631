"""What the tests of servers share: models to serve, and a look at what is left of a server."""

from __future__ import annotations

import json
import random
import shutil
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from agent_sft.engines.endpoint import Endpoint
from tests.support import QUICK, short_data

if TYPE_CHECKING:
    from tests.conftest import RunCli

TOOL = {
    "type": "function",
    "function": {
        "name": "get_plan",
        "description": "Look a line's plan up.",
        "parameters": {"type": "object", "properties": {"line": {"type": "string"}}, "required": ["line"]},
    },
}


def train(run_cli: RunCli, out: Path, *options: str) -> Path:
    """Train a tiny model for two steps; return the run's directory."""
    done = run_cli(
        "sft", short_data(out.with_name(f"data of {out.name}")), *QUICK, "--steps", "2", *options, "--output-dir", out
    )
    assert done.returncode == 0, done.stderr
    return out


def other_adapter(source: Path, folder: Path, seed: int) -> Path:
    """Copy an adapter's files with random weights in place of its own; return the folder."""
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / name)
    shutil.copy(source / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    random_weights(folder / "adapter_model.safetensors", seed)
    return folder


def random_weights(path: Path, seed: int) -> None:
    """Put random numbers in place of all weights of a float32 file: what such a model says is its own."""
    content = path.read_bytes()
    begin = 8 + struct.unpack("<Q", content[:8])[0]
    chance = random.Random(seed)
    numbers = (len(content) - begin) // 4
    values = struct.pack(f"<{numbers}f", *(chance.gauss(0, 0.3) for _ in range(numbers)))
    path.write_bytes(content[:begin] + values)


def rewritten(path: Path, **changes: Any) -> None:
    """Change values of a JSON file; None takes a key away."""
    value = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: entry for name, entry in value.items() if entry is not None}))


def answer(endpoint: Endpoint, model: str, **body: Any) -> dict[str, Any]:
    """Ask a question, greedily; return the whole answer."""
    messages = [{"role": "system", "content": "You help with lines."}, {"role": "user", "content": "My line is slow."}]
    order = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 12, **body}
    reply = endpoint.call("POST", "/v1/chat/completions", order, timeout=300)
    assert isinstance(reply, dict)
    return reply


def text(endpoint: Endpoint, model: str, **body: Any) -> str:
    """Ask a question, greedily; return the words of the answer."""
    return str(answer(endpoint, model, **body)["choices"][0]["message"]["content"])


def family_of(pid: int) -> list[psutil.Process]:
    """Return all processes below one, and all that were forked for these elsewhere: none if it has ended.

    Those that the tests' programs are forked from are nobody's.
    """
    try:
        found = [one for one in psutil.Process(pid).children(recursive=True) if not is_fork_server(one)]
    except psutil.NoSuchProcess:
        return []
    clients = [process for process in found if "fork_client.py" in command_of(process)]
    return list(dict.fromkeys([*found, *forked_for(clients)])) if clients else found


def is_fork_server(process: psutil.Process) -> bool:
    """Tell whether programs are forked from a process, or it is such a process's keeper."""
    if "fork_server.py" not in command_of(process):
        return False
    try:
        parent = process.parent()
    except psutil.NoSuchProcess:
        return False
    # What was forked and gave itself no title looks as it does, but has it for a parent, not a keeper.
    return "keeper.py" in command_of(process) or (parent is not None and "keeper.py" in command_of(parent))


def forked_for(clients: list[psutil.Process]) -> list[psutil.Process]:
    """Return what was forked for clients, and what that started: it writes to the same output."""
    outputs = {output_of(client) for client in clients} - {None}
    forked = set()
    for process in psutil.process_iter():
        if is_fork_server(process):
            with suppress(psutil.NoSuchProcess):
                forked |= {child for child in process.children(recursive=True) if output_of(child) in outputs}
    return list(forked)


def output_of(process: psutil.Process) -> Path | None:
    """Return what a process writes its output to; None if it has ended."""
    try:
        return Path(f"/proc/{process.pid}/fd/1").readlink()
    except OSError:
        return None


def command_of(process: psutil.Process) -> str:
    """Return the command line of a process, or the title it gave itself; nothing if it ended between two looks."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def all_gone(processes: list[psutil.Process], seconds: float = 10) -> bool:
    """Wait until none of the processes is left."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def port_is_free(port: int) -> bool:
    """Tell whether a server could be started on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0
