"""The command line of `tau2 run` in 0.2 and 1.x, and the folder in which it finds its data and leaves its results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.engines.tau2.installation import Installation

SAVED = "results"
AGENT_PREFIX = "hosted_vllm"
"""litellm's provider for a server of one's own; address and key come from HOSTED_VLLM_API_BASE and _KEY."""


RETRIEVAL = "--retrieval-config"
"""The option of 1.x for domains with documents."""


@dataclass(frozen=True)
class Speaker:
    """Who plays a part, as litellm names it."""

    llm: str
    args: Mapping[str, Any]
    """Saved in the results word by word: never a key, and nothing that changes with a server's port."""


def make_data_folder(tau2: Installation, place: Path) -> Path:
    """Return a data folder with the installation's domains, in which the results are ours alone."""
    data = place / "data"
    (data / "simulations").mkdir(parents=True, exist_ok=True)
    link = data / "tau2"
    if link.is_symlink() and link.readlink() != tau2.data:
        link.unlink()
    if not link.is_symlink():
        link.symlink_to(tau2.data)
    return data


def run_command(
    tau2: Installation,
    *,
    domain: str,
    split: str | None,
    retrieval: str | None,
    tasks: Sequence[str],
    trials: int,
    agent: Speaker,
    user: Speaker,
    max_steps: int,
    concurrency: int,
    seed: int,
    timeout: int,
    retries: int,
) -> list[str]:
    """Return the command that runs tasks, going on with what its results hold already.

    Args:
        tau2: the installation.
        domain: of the tasks.
        split: that the tasks belong to, where one was asked for.
        retrieval: how the agent reads the documents of a domain that has some; 1.x only.
        tasks: all of the evaluation, also those that are done: it refuses to go on with others.
        trials: of each task.
        agent: who is evaluated.
        user: who plays the customer.
        max_steps: messages of a conversation.
        concurrency: conversations at the same time.
        seed: from which it makes one for each trial.
        timeout: seconds of a conversation; 1.x only.
        retries: of a conversation whose infrastructure failed; 1.x only.
    """
    words = [str(tau2.program), "run", "--domain", domain]
    words += ["--agent-llm", agent.llm, "--agent-llm-args", json.dumps(dict(agent.args), sort_keys=True)]
    words += ["--user-llm", user.llm, "--user-llm-args", json.dumps(dict(user.args), sort_keys=True)]
    words += ["--num-trials", str(trials), "--max-steps", str(max_steps), "--max-concurrency", str(concurrency)]
    words += ["--seed", str(seed), "--save-to", SAVED]
    if split is not None and "--task-split-name" in tau2.options:
        words += ["--task-split-name", split]
    if retrieval is not None:
        words += [RETRIEVAL, retrieval]
    if "--timeout" in tau2.options:
        words += ["--timeout", str(timeout)]
    if "--max-retries" in tau2.options:
        words += ["--max-retries", str(retries)]
    words += ["--task-ids", *tasks]
    if "--auto-resume" in tau2.options:
        return [*words, "--auto-resume"]
    # 0.2 asks whether to go on with the results that are there, and takes silence for a no.
    return ["bash", "-c", 'yes | "$@"', "tau2", *words]


def environment(
    base: Mapping[str, str], data: Path, *, url: str, key: str, user_url: str | None, user_key: str | None
) -> dict[str, str]:
    """Return the environment of tau2: ours with that of `.env`, where the servers are, and their keys.

    Args:
        base: our variables.
        data: its data folder.
        url: the agent's server.
        key: its key.
        user_url: the server of a customer at another address than the agent's.
        user_key: its key.
    """
    made = {
        **base,
        "TAU2_DATA_DIR": str(data.absolute()),
        "HOSTED_VLLM_API_BASE": url,
        "HOSTED_VLLM_API_KEY": key or "none",
        "PYTHONUNBUFFERED": "1",
    }
    if user_url is not None:
        made |= {"OPENAI_API_BASE": user_url, "OPENAI_BASE_URL": user_url, "OPENAI_API_KEY": user_key or "none"}
    return made
