"""Stands in for tau2, which no package index has: its documented command line and files, in 0.2 and in 1.x.

Usage: tau2_stand_in.py VERSION run ...

A conversation is one request to the customer's model and one to the agent's; the reward is 1 where the agent says
the task's id backwards. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def parser(new: bool) -> argparse.ArgumentParser:
    """The options of `tau2 run`."""
    made = argparse.ArgumentParser(prog="tau2 run")
    for name in ("--domain", "--agent", "--agent-llm", "--user", "--user-llm", "--task-set-name", "--save-to"):
        made.add_argument(name)
    for name in ("--agent-llm-args", "--user-llm-args"):
        made.add_argument(name, type=json.loads, default={})
    for name, default in (("--num-trials", 1), ("--max-steps", 200), ("--max-errors", 10), ("--seed", 300)):
        made.add_argument(name, type=int, default=default)
    made.add_argument("--num-tasks", type=int)
    made.add_argument("--max-concurrency", type=int, default=3)
    made.add_argument("--log-level", default="ERROR")
    made.add_argument("--task-ids", nargs="+")
    if new:
        made.add_argument("--task-split-name", default="base")
        made.add_argument("--auto-resume", action="store_true")
        made.add_argument("--max-retries", type=int, default=3)
        made.add_argument("--timeout", type=int)
        made.add_argument("--retrieval-config")
    return made


def ask(llm: str, args: dict[str, Any], text: str) -> dict[str, Any]:
    """One request, by litellm's names of providers."""
    provider, _, name = llm.partition("/")
    prefix = {"hosted_vllm": "HOSTED_VLLM", "openai": "OPENAI"}[provider]
    body = {"model": name, "messages": [{"role": "user", "content": text}]}
    body |= {key: value for key, value in args.items() if key not in ("timeout", "num_retries")}
    request = urllib.request.Request(
        os.environ[f"{prefix}_API_BASE"] + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {os.environ[f'{prefix}_API_KEY']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=float(args.get("timeout", 60))) as answer:
        return dict(json.loads(answer.read()))


def converse(asked: argparse.Namespace, task: str, trial: int, seed: int) -> dict[str, Any]:
    """One conversation."""
    begun = time.time()
    messages: list[dict[str, Any]] = [{"role": "assistant", "content": "Hi! How can I help you today?"}]
    said = ask(asked.user_llm, {**asked.user_llm_args, "seed": seed}, f"You want {task}")
    content = said["choices"][0]["message"]["content"]
    messages.append({"role": "user", "content": content, "usage": said["usage"]})
    if "###STOP###" not in content:
        said = ask(asked.agent_llm, {**asked.agent_llm_args, "seed": seed}, content)
        messages.append({"role": "assistant", **said["choices"][0]["message"], "usage": said["usage"]})
    right = messages[-1]["content"] == task[::-1]
    return {
        "id": str(uuid.uuid4()),
        "task_id": task,
        "trial": trial,
        "seed": seed,
        "duration": time.time() - begun,
        "termination_reason": "user_stop" if right or len(messages) < 3 else "max_steps",
        "reward_info": {"reward": float(right), "reward_basis": ["DB"], "reward_breakdown": {"DB": float(right)}},
        "messages": messages,
    }


def main() -> None:
    """Run what is asked for, going on with a file that is there."""
    new, words = not sys.argv[1].startswith("0."), sys.argv[3:]
    asked = parser(new).parse_args(words)
    data = Path(os.environ["TAU2_DATA_DIR"])
    domain = data / "tau2" / "domains" / asked.domain
    if (domain / "tasks.json").exists():
        rows = json.loads((domain / "tasks.json").read_text())
    else:
        rows = [json.loads(path.read_text()) for path in sorted((domain / "tasks").glob("task_*.json"))]
    tasks = [row for row in rows if not asked.task_ids or row["id"] in asked.task_ids]
    path = data / "simulations" / (f"{asked.save_to}/results.json" if new else f"{asked.save_to}.json")
    info = {"num_trials": asked.num_trials, "seed": asked.seed, "agent_info": {"llm": asked.agent_llm}}
    if new:
        info["environment_info"] = {"retrieval_config": asked.retrieval_config}
    results: dict[str, Any] = {"timestamp": "now", "info": info, "tasks": tasks, "simulations": []}
    if path.exists():
        if not (new and asked.auto_resume) and input(f"File {path} already exists. Resume the run? (y/n) ") != "y":
            raise FileExistsError(path)
        before = json.loads(path.read_text())
        if before["info"] != info or before["tasks"] != tasks:
            raise ValueError("the tasks were changed")
        results = before
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = random.Random(asked.seed)
    seeds = [chance.randint(0, 1_000_000) for _ in range(asked.num_trials)]
    done = {(entry["task_id"], entry["trial"]) for entry in results["simulations"]}
    lock = threading.Lock()

    def run(task: str, trial: int) -> None:
        try:
            found = converse(asked, task, trial, seeds[trial])
        except (urllib.error.URLError, OSError) as error:
            if not new:
                raise
            found = {"id": str(uuid.uuid4()), "task_id": task, "trial": trial, "messages": [], "reward_info": None}
            found |= {"termination_reason": "infrastructure_error", "info": str(error)}
        with lock:
            results["simulations"].append(found)
            path.write_text(json.dumps(results, indent=4))

    places = [(row["id"], trial) for trial in range(asked.num_trials) for row in tasks]
    with ThreadPoolExecutor(asked.max_concurrency) as pool:
        running = [pool.submit(run, *place) for place in places if place not in done]
        for future in running:
            future.result()


if __name__ == "__main__":
    main()
