"""What asking many tasks at once gains: an evaluation of 200 tasks, ours against the same tasks one at a time.

    python benchmarks/eval_throughput.py

One served model answers all: a tiny random one that vLLM serves here, or that of --url. Timed are whole evaluations
by the evaluator `tasks`, from the first request to the last result on the disk; rounds alternate. Beside them stands
the server's own limit: the same requests, as many at once, by a bare loop that keeps nothing. Exit 1 where the
median of the rounds' ratios is below the goal.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import orjson  # noqa: E402

from agent_sft.config.serve import ServeRequest  # noqa: E402
from agent_sft.data.preparing import prepare_dataset  # noqa: E402
from agent_sft.engines.environments import engine_python  # noqa: E402
from agent_sft.engines.llamafactory.tiny import make_tiny_model  # noqa: E402
from agent_sft.engines.served import ServedModel  # noqa: E402
from agent_sft.errors import UserError, WorkFailed  # noqa: E402
from agent_sft.evals.results import read_results  # noqa: E402
from agent_sft.evals.tasks import read_tasks  # noqa: E402
from agent_sft.files import write_atomic, write_json  # noqa: E402
from agent_sft.runs.processes import Interrupted, StopSignal, catch_signals  # noqa: E402
from agent_sft.stages.evaluating import MODEL_KEY  # noqa: E402
from agent_sft.stages.evaluators.contract import EvalRun  # noqa: E402
from agent_sft.stages.evaluators.customer import model_at  # noqa: E402
from agent_sft.stages.evaluators.registry import make_evaluator  # noqa: E402
from agent_sft.stages.reporting import EvaluationProgress, TrainingProgress  # noqa: E402
from agent_sft.stages.serving import serve  # noqa: E402
from benchmarks.gpu.conversations import make_conversations  # noqa: E402

GOAL = 4.0


class Quiet:
    """Says what matters and shows no progress: nothing is drawn while the clock runs."""

    def say(self, text: str) -> None:
        """Show a line."""
        say(text)

    def progress(self, progress: EvaluationProgress | TrainingProgress) -> None:
        """Show nothing."""

    def progress_ended(self) -> None:
        """Show nothing."""


def write_tasks(place: Path, count: int) -> Path:
    """Write tasks of one question each; return their folder."""
    rows = (
        {
            "task_id": f"question-{number}",
            "instruction": f"Line {number} has no data. What should customer {number} look at first?",
            "verifier": {"kind": "in_process", "fn_name": "contains", "expected": "data"},
        }
        for number in range(count)
    )
    write_atomic(place / "tasks.jsonl", b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return place


@contextmanager
def tiny_server(place: Path, stop: StopSignal) -> Iterator[ServedModel]:
    """Make a tiny random model and serve it."""
    source = place / "conversations.json"
    write_json(source, list(make_conversations(50, 250, 450, seed=1)))
    prepare_dataset(source, name="tiny", folder=place / "data")
    make_tiny_model(engine_python("train"), place / "data" / "tiny.jsonl", place / "model", seed=1)
    with serve(ServeRequest(model=str(place / "model")), place=place / "server", stop=stop, reporter=Quiet()) as server:
        yield server.model


def evaluation(model: ServedModel, run: EvalRun, folder: Path) -> float:
    """Evaluate into a new folder; return the seconds."""
    evaluator = make_evaluator("tasks", {}, where="benchmark")
    begun = time.perf_counter()
    evaluator.run(model, folder, run)
    seconds = time.perf_counter() - begun
    asked, trials = read_results(folder)
    lost = [trial for trial in trials if trial.score is None]
    if lost or len(trials) != len(asked.places):
        raise WorkFailed(f"not all tasks were answered: {lost[0].error if lost else 'some are missing'}")
    return seconds


async def bare_requests(model: ServedModel, run: EvalRun) -> float:
    """Make the same requests, as many at once, and keep nothing; return the seconds."""
    tasks = read_tasks(Path(run.task))
    room = asyncio.Semaphore(run.concurrency)
    limits = httpx.Limits(max_connections=run.concurrency)
    headers = {"Authorization": f"Bearer {model.api_key}"}

    async with httpx.AsyncClient(timeout=600, limits=limits, headers=headers, trust_env=False) as client:

        async def ask(messages: list[dict[str, Any]]) -> None:
            async with room:
                order = {"model": model.name, "messages": messages, "temperature": 0, "max_tokens": run.max_tokens}
                (await client.post(f"{model.url}/chat/completions", json=order)).raise_for_status()

        begun = time.perf_counter()
        await asyncio.gather(*(ask(list(task.messages)) for task in tasks))
        return time.perf_counter() - begun


def measure(model: ServedModel, run: EvalRun, place: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way, round by round."""
    say("a first evaluation that is not counted")
    evaluation(model, run, place / "first")
    found: dict[str, list[float]] = {"ours": [], "one at a time": [], "limit": []}
    for number in range(rounds):
        ways = list(found)
        for way in ways if number % 2 == 0 else reversed(ways):
            if way == "limit":
                seconds = asyncio.run(bare_requests(model, run))
            else:
                how = run if way == "ours" else replace(run, concurrency=1)
                seconds = evaluation(model, how, place / f"{number}-{way.replace(' ', '-')}")
            found[way].append(seconds)
        say(f"round {number + 1}/{rounds}: " + ", ".join(f"{way} {times[-1]:.2f} s" for way, times in found.items()))
    return found


def summary(found: dict[str, list[float]], goal: float) -> dict[str, Any]:
    """Return the medians, how many times faster ours is, and what share of the server's limit it reaches."""
    gains = [alone / ours for alone, ours in zip(found["one at a time"], found["ours"], strict=True)]
    shares = [limit / ours for limit, ours in zip(found["limit"], found["ours"], strict=True)]
    return {
        "seconds": found,
        "median_seconds": {way: median(times) for way, times in found.items()},
        "gain": median(gains),
        "smallest_gain": min(gains),
        "share_of_limit": median(shares),
        "goal": goal,
        "reached": median(gains) >= goal,
    }


def lines(result: dict[str, Any], tasks: int) -> list[str]:
    """Return what is printed."""
    said = [
        f"{way:<14} {seconds:8.2f} s {tasks / seconds:8.1f} tasks/s"
        for way, seconds in result["median_seconds"].items()
    ]
    return [
        *said,
        f"gain           {result['gain']:8.1f} times (smallest of the rounds: {result['smallest_gain']:.1f})",
        f"of the limit   {100 * result['share_of_limit']:8.0f} %",
        f"goal: at least {result['goal']:g} times: {'reached' if result['reached'] else 'missed'}",
    ]


def say(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Read the command line, measure, print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help=f"a model that is served already, http://HOST:PORT/v1#NAME; key: {MODEL_KEY}")
    parser.add_argument("--tasks", type=int, default=200, help="tasks (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=32, help="trials at once (default: %(default)s)")
    parser.add_argument("--max-tokens", type=int, default=64, help="tokens of an answer (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--goal", type=float, default=GOAL, help="times faster (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    try:
        if min(options.tasks, options.concurrency, options.max_tokens, options.rounds) < 1:
            raise UserError("all numbers must be at least 1")
        with tempfile.TemporaryDirectory(prefix="throughput-") as name, catch_signals() as stop:
            place = Path(name)
            run = EvalRun(
                task=str(write_tasks(place / "questions", options.tasks)),
                reporter=Quiet(),
                stop=stop,
                environment=dict(os.environ),
                concurrency=options.concurrency,
                max_tokens=options.max_tokens,
            )
            if options.url:
                key = os.environ.get(MODEL_KEY, "")
                found = measure(
                    model_at(options.url, key, where="--url", key_variable=MODEL_KEY), run, place, options.rounds
                )
            else:
                with tiny_server(place, stop) as model:
                    found = measure(model, run, place, options.rounds)
            result = summary(found, options.goal)
    except (UserError, WorkFailed) as error:
        say(f"error: {error}")
        return error.exit_code
    except Interrupted as stopped:
        return stopped.exit_code
    if options.json is not None:
        write_json(options.json, result)
    print("\n".join(lines(result, options.tasks)))
    return 0 if result["reached"] else 1


if __name__ == "__main__":
    sys.exit(main())
