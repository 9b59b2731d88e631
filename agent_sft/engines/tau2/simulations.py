"""The files that tau2 leaves: one of 0.2, a folder of 1.x; and what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agent_sft.engines.tau2.launch import SAVED
from agent_sft.files import read_json, write_json

FULL = "context_window_exceeded"
"""The conversation did not fit the model any more: no reward is computed, and none was earned."""
ENDED = {
    "user_stop": "user_stop",
    "agent_stop": "agent_stop",
    "max_steps": "max_messages",
    "timeout": "time_limit",
    "too_many_errors": "too_many_errors",
    "agent_error": "too_many_errors",
    FULL: "token_limit",
}
"""Our words for its reasons. Any other reason is a failure of the infrastructure, which it may score as 0."""


def results_file(data: Path) -> Path:
    """Return the file with the results: `simulations/NAME/results.json` in 1.x, `simulations/NAME.json` in 0.2."""
    new = data / "simulations" / SAVED / "results.json"
    return new if new.exists() else data / "simulations" / f"{SAVED}.json"


def read_simulations(data: Path) -> list[dict[str, Any]] | None:
    """Return the simulations that are saved; None where the file is being written or was left half-written."""
    path = results_file(data)
    if not path.exists():
        return []
    content = read_json(path)
    if not isinstance(content, dict):
        return None
    found = list(content.get("simulations") or [])
    if path.name == "results.json":
        # 1.x can keep each simulation in a file of its own.
        single = (read_json(file) for file in sorted((path.parent / "simulations").glob("*.json")))
        found += [value for value in single if isinstance(value, dict)]
    return found


def keep_copy(data: Path) -> None:
    """Keep the results as they are now: 0.2 writes its file in place, and a kill leaves half of it."""
    content = read_json(results_file(data))
    if content is not None:
        write_json(_copy(data), content)


def mend(data: Path, done: Callable[[str, int], bool]) -> None:
    """Make the results such that tau2 goes on with them: whole, and without the trials that are to run again.

    Args:
        data: the data folder.
        done: tells whether a trial has its score.
    """
    path = results_file(data)
    if not path.exists():
        return
    content = read_json(path)
    if not isinstance(content, dict):
        content = read_json(_copy(data))
    if not isinstance(content, dict):
        path.unlink()
        return
    kept = [entry for entry in content.get("simulations") or [] if done(str(entry["task_id"]), int(entry["trial"]))]
    write_json(path, {**content, "simulations": kept})
    for file in (path.parent / "simulations").glob("*.json") if path.name == "results.json" else ():
        entry = read_json(file)
        if not isinstance(entry, dict) or not done(str(entry["task_id"]), int(entry["trial"])):
            file.unlink()


def facts(simulation: Mapping[str, Any]) -> dict[str, Any]:
    """Return what our results say of a simulation: `score` or `error`, why it ended, and the counts."""
    messages = list(_flat(simulation.get("messages") or []))
    agents = [message for message in messages if message.get("role") == "assistant"]
    calls = [call for message in agents for call in message.get("tool_calls") or []]
    results = [message for message in messages if message.get("role") == "tool"]
    usages = [message.get("usage") or {} for message in agents]
    reason = str(simulation.get("termination_reason"))
    rewards = simulation.get("reward_info") or {}
    reward = rewards.get("reward", 0.0 if reason == FULL else None)
    found: dict[str, Any] = {
        "turns": len(agents),
        "tool_calls": len(calls),
        "tool_errors": sum(bool(m.get("error")) and m.get("requestor") != "user" for m in results),
        "input_tokens": sum(int(usage.get("prompt_tokens") or 0) for usage in usages),
        "output_tokens": sum(int(usage.get("completion_tokens") or 0) for usage in usages),
        "seconds": float(simulation.get("duration") or 0.0),
        "detail": {
            key: value
            for key in ("reward_basis", "reward_breakdown", "db_check", "info")
            if (value := rewards.get(key)) is not None
        }
        | {"termination_reason": reason},
    }
    if reason not in ENDED or reward is None:
        why = reason if reason not in ENDED else "it has no reward"
        return {**found, "score": None, "error": f"tau2: {why}", "ended": "error"}
    return {**found, "score": min(1.0, max(0.0, float(reward))), "ended": ENDED[reason]}


def _flat(messages: list[Any]) -> list[Mapping[str, Any]]:
    """Return the messages with the results of several calls one by one."""
    flat: list[Mapping[str, Any]] = []
    for message in messages:
        flat += message.get("tool_messages") or [message]
    return flat


def _copy(data: Path) -> Path:
    return data / "simulations" / f".{SAVED}.whole.json"
