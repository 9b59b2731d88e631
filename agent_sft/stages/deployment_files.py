"""A deployment as other supervisors take it: a unit for systemd, a compose file for an exported model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agent_sft.engines.vllm.flags import flag_words
from agent_sft.errors import UserError
from agent_sft.stages.serving_plan import ServePlan

IMAGE = "vllm/vllm-openai:v0.32.0"
"""The version in requirements/serve-nvidia.txt."""
PLACE = "/model"
"""Where the image sees the model."""
IMAGE_PORT = 8000
ANY = "0.0.0.0"  # noqa: S104 - inside the image; this machine's port is on 127.0.0.1
OF_THIS_MACHINE = ("middleware", "host", "port", "model", "chat_template", "enforce_eager", "kv_cache_memory_bytes")
"""Arguments that are other ones in the image."""
KEY_VARIABLE = "VLLM_API_KEY"
PASSED_ON = (
    *("AGENT_SFT_SERVE_PYTHON", "AGENT_SFT_TRAIN_PYTHON", "AGENT_SFT_HOME", "AGENT_SFT_STORE"),
    *("CUDA_VISIBLE_DEVICES", "HF_HOME", "XDG_STATE_HOME"),
)
"""Variables that decide what is served, and by what: a service of the system knows nothing of a shell's."""


def systemd_unit(name: str, command: Sequence[str], environment: Mapping[str, str] = os.environ) -> str:
    """Return a unit for the user's systemd that keeps a deployment up across reboots.

    Args:
        name: of the deployment.
        command: what deploys it and stays in the foreground.
        environment: the variables of the shell, of which those that matter are passed on.
    """
    lines = [
        "[Unit]",
        f"Description={name}, a model served by agent-sft",
        "After=network-online.target",
        "",
        "[Service]",
        f"WorkingDirectory={_escaped(str(Path.cwd()))}",
        *(f"Environment={_quoted(f'{key}={environment[key]}')}" for key in PASSED_ON if environment.get(key)),
        f"ExecStart={' '.join(_quoted(word, argument=True) for word in command)}",
        "Restart=on-failure",
        "RestartSec=5",
        "# The server gives its GPUs' memory back before it ends.",
        "TimeoutStopSec=150",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def compose_file(plan: ServePlan) -> str:
    """Return a compose file that serves an exported model from vLLM's own image on NVIDIA GPUs.

    Args:
        plan: of serving the exported folder here; flags that belong to this machine are left out.

    Raises:
        UserError: a setting names a file of this machine.
    """
    given = plan.request.set
    if "chat_template" in given:
        fix = f"put it into {plan.model.folder} as chat_template.jinja"
        raise UserError("is a file that the image does not see", where="--set chat_template", fix=fix)
    kept = {key: value for key, value in plan.settings.items() if key not in OF_THIS_MACHINE or key in given}
    arguments: dict[str, Any] = {"model": PLACE, **kept, "host": ANY, "port": IMAGE_PORT}
    if plan.model.chat_template_file is not None:
        arguments["chat_template"] = f"{PLACE}/{plan.model.chat_template_file.name}"
    gpus = list(map(str, plan.request.gpus)) if plan.request.gpus is not None else None
    devices = {"driver": "nvidia", "capabilities": ["gpu"], **({"device_ids": gpus} if gpus else {"count": "all"})}
    service = {
        "image": IMAGE,
        "command": [word.replace("$", "$$") for word in flag_words(arguments)],  # compose fills in variables
        "volumes": [f"{plan.model.folder.absolute()}:{PLACE}:ro"],
        "ports": [f"127.0.0.1:{plan.request.port or IMAGE_PORT}:{IMAGE_PORT}"],
        "environment": {KEY_VARIABLE: f"${{{KEY_VARIABLE}:?set it to a key of your choice}}", "HF_HUB_OFFLINE": "1"},
        "ipc": "host",
        "restart": "unless-stopped",
        "healthcheck": {
            "test": ["CMD", "curl", "-sf", f"http://127.0.0.1:{IMAGE_PORT}/health"],
            "interval": "10s",
            "start_period": "30m",
        },
        "deploy": {"resources": {"reservations": {"devices": [devices]}}},
    }
    text = yaml.safe_dump({"services": {"model": service}}, sort_keys=False, allow_unicode=True, width=1000)
    return f"# Serves {plan.name}: {KEY_VARIABLE}=... docker compose up -d\n{text}"


def _quoted(word: str, *, argument: bool = False) -> str:
    """Return a word as systemd reads it back: in quotes, with its own marks doubled."""
    marked = _escaped(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{marked.replace("$", "$$") if argument else marked}"'


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
