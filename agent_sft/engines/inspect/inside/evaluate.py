"""Runs trials of one Inspect task and tells the outcome of each when it ends.

Usage: evaluate.py FOLDER

FOLDER/order.json     what to run: task, args, pending trials of each sample, models, limits
FOLDER/samples.jsonl  one line for each trial that ended, written after the trial stands in Inspect's own log
FOLDER/logs/          Inspect's log
"""

import ctypes
import gc
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

# Looking for garbage among what is imported, where there is none, takes a sixth of the time of importing it.
gc.disable()
from inspect_ai import eval as inspect_eval
from inspect_ai import task_with
from inspect_ai._eval.loader import load_tasks, parse_spec_str
from inspect_ai.dataset import MemoryDataset
from inspect_ai.hooks import BeforeModelGenerate, Hooks, SampleEnd, TaskEnd, hooks
from inspect_ai.log import EvalSample
from inspect_ai.log._samples import sample_active
from inspect_ai.model import GenerateConfig, Model, get_model, modelapi
from inspect_ai.model._openai import openai_chat_tools
from inspect_ai.model._providers.openai_compatible import OpenAICompatibleAPI
from inspect_ai.scorer import value_to_float
from inspect_ai.util import EarlyStop

gc.freeze()
gc.enable()

PR_SET_PDEATHSIG = 1
CANCELLED = "model call cancelled"
"""What Inspect notes of a request that was in flight when a limit ended the trial."""
LEAVING = ("###STOP###", "###TRANSFER###", "###OUT-OF-SCOPE###")
"""tau2's words by which a customer ends the conversation."""
ENDED = {
    "message": "max_messages",
    "turn": "max_messages",
    "token": "token_limit",
    "cost": "token_limit",
    "context": "token_limit",
    "time": "time_limit",
    "working": "time_limit",
}


class OnlyPending:
    """Leaves out the trials that have a score already: their numbers stay, since tasks look at them."""

    def __init__(self, pending: dict[str, list[int]], inner: Any) -> None:
        self.pending = {name: set(trials) for name, trials in pending.items()}
        self.inner = inner

    async def start_task(self, task: Any, samples: Any, epochs: int) -> str:
        """Name this manager."""
        return str(await self.inner.start_task(task, samples, epochs)) if self.inner else "trials without a score"

    async def schedule_sample(self, id: str | int, epoch: int) -> EarlyStop | None:  # noqa: A002
        """Skip a trial that is not pending."""
        if epoch - 1 not in self.pending.get(str(id), ()):
            return EarlyStop(id=id, epoch=epoch, reason="not asked for now")
        return await self.inner.schedule_sample(id, epoch) if self.inner else None

    async def complete_sample(self, id: str | int, epoch: int, scores: Any) -> None:  # noqa: A002
        """Pass it on."""
        if self.inner:
            await self.inner.complete_sample(id, epoch, scores)

    async def complete_task(self) -> dict[str, Any]:
        """Pass it on."""
        return dict(await self.inner.complete_task()) if self.inner else {}


@hooks(name="agent_sft", description="Tells the outcome of each trial; gives each a seed of its own.")
class Outcomes(Hooks):  # type: ignore[misc]
    """One instance for the process; `order` and `place` are set before anything runs."""

    order: dict[str, Any]
    place: Path
    waiting: list[dict[str, Any]]
    stopping = False

    async def on_before_model_generate(self, data: BeforeModelGenerate) -> None:
        """Seed the agent's requests by task and trial: one seed for all would give the same answer in every trial."""
        active = sample_active()
        if active is not None and data.model_name == self.order["model"]["name"]:
            key = f"{self.order['seed']}/{active.sample.id}/{active.epoch}"
            data.config.seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) >> 1

    async def on_sample_end(self, data: SampleEnd) -> None:
        """Keep the outcome until Inspect has written the trial to its log."""
        try:
            line = outcome(data.sample, self.order)
        except Exception as error:  # a hook's failure is only logged: the trial would be missing without a word
            line = {"error": f"the outcome cannot be read: {type(error).__name__}: {error}"}
        if self.stopping and "error" in line:
            return  # it was cut off because we are stopped: it did not end
        self.waiting.append({"id": str(data.sample.id), "trial": data.sample.epoch - 1, **line})
        if len(self.waiting) >= self.order["log_buffer"]:
            self.tell()

    async def on_task_end(self, data: TaskEnd) -> None:
        """Tell of the last ones; the log is finished now."""
        self.tell()

    def tell(self) -> None:
        """Write the lines that wait, each in one piece."""
        with (self.place / "samples.jsonl").open("ab", buffering=0) as stream:
            for line in self.waiting:
                stream.write(json.dumps(line).encode() + b"\n")
        self.waiting.clear()


def outcome(sample: EvalSample, order: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be told of a trial."""
    events = sample.events
    calls = [event for event in events if event.event == "model"]
    agent = [event for event in calls if event.role in (None, "default", "agent")]
    customer = [event for event in calls if event.role == "user"]
    called = [call for event in agent if not event.error for call in asked_tools(event)]
    mine = {call.id for call in called}
    refused = {
        event.id for event in events if event.event == "tool" and event.id in mine and event.error is not None
    } | {call.id for call in called if call.parse_error}
    line: dict[str, Any] = {
        "turns": sum(not event.error for event in agent),
        "tool_calls": len(called),
        "tool_errors": len(refused),
        "input_tokens": sum(usage(event, "input_tokens") for event in agent),
        "output_tokens": sum(usage(event, "output_tokens") for event in agent),
        "seconds": sample.total_time or 0.0,
    }
    error = infrastructure_error(sample, calls, agent, customer, order)
    if error is not None:
        return {**line, "ended": "error", "error": error}
    return {**line, **scored(sample, order), "ended": ended(sample, calls, order)}


class Served(OpenAICompatibleAPI):  # type: ignore[misc]
    """A model behind an address whose chat template writes all that stands in a tool into the prompt.

    Inspect's own provider adds `strict` to every tool. The training data has none, so a model that was trained on
    another prompt than the one it is served with would be scored.
    """

    def tools_to_openai(self, tools: list[Any]) -> list[Any]:
        """Return the tools as they are."""
        return list(openai_chat_tools(tools, exclude=self.schema_exclude_fields))


@modelapi(name="served")  # type: ignore[untyped-decorator]
def served() -> type[Served]:
    """Let Inspect find it by its name."""
    return Served


def asked_tools(event: Any) -> list[Any]:
    """Return the tool calls in an answer."""
    choices = event.output.choices
    return list(choices[0].message.tool_calls or []) if choices else []


def usage(event: Any, name: str) -> int:
    """Return a count of an answer's tokens."""
    return int(getattr(event.output.usage, name, 0) or 0)


def length(event: Any) -> int:
    """Return the number of messages of a request, which the log keeps in a pool."""
    return sum(end - begin for begin, end in event.input_refs) if event.input_refs else len(event.input)


def infrastructure_error(
    sample: EvalSample, calls: list[Any], agent: list[Any], customer: list[Any], order: dict[str, Any]
) -> str | None:
    """Return why a trial says nothing about the model, in one line; None where it does.

    Tasks catch the errors of a request, print them and go on: what they then score is no answer of the model's. So
    what counts is whether a request that failed was answered when it was made again.
    """
    if sample.error is not None:
        # Where a request failed for good, that says more than what the exception was turned into on its way.
        return one_line(calls[-1].error if calls and calls[-1].error else sample.error.message, order)
    waited = order["limits"]["time_limit"] / 2
    for number, event in enumerate(calls):
        if not event.error:
            continue
        if event.error == CANCELLED:
            lasted = (event.completed - event.timestamp).total_seconds() if event.completed else 0.0
            if lasted >= waited:
                return f"a request got no answer in {lasted:.0f} s"
            continue
        again = (
            later.role == event.role and length(later) == length(event) and not later.error
            for later in calls[number + 1 :]
        )
        if not any(again):
            return one_line(event.error, order)
    for role, events in (("agent", agent), ("customer", customer)):
        if events and not any(usage(event, "output_tokens") + usage(event, "input_tokens") for event in events):
            return f"the {role}'s model used no tokens"
    return None if calls else "no model was asked anything"


def scored(sample: EvalSample, order: dict[str, Any]) -> dict[str, Any]:
    """Return the score of a trial, from 0 to 1, and what the scorer says."""
    wanted, _, key = (order["scorer"] or "").partition(".")
    scores = sample.scores or {}
    name = wanted or next(iter(scores), None)
    if name is None or name not in scores:
        return {"error": f"no scorer '{name}': the trial has {', '.join(scores) or 'no score'}"}
    score = scores[name]
    value: Any = score.value
    if isinstance(value, dict):
        if key not in value:
            return {"error": f"the scorer {name} gives several values: choose one of {', '.join(value)}"}
        value = value[key]
    number = value_to_float()(value)
    if not 0 <= number <= 1:
        return {"error": f"the score {number} is not between 0 and 1"}
    facts = score.metadata or {}
    violations = facts.get("violations")
    line: dict[str, Any] = {"score": number, "detail": {"scorer": name}}
    if score.explanation:
        line["detail"]["explanation"] = score.explanation[:2000]
    if violations is not None:
        line["violations"] = len(violations) if isinstance(violations, list) else int(violations)
        line["detail"]["violations"] = violations
    return line


def ended(sample: EvalSample, calls: list[Any], order: dict[str, Any]) -> str:
    """Return why a trial ended. A task that catches a limit's exception leaves only the figures to tell by."""
    facts: dict[str, Any] = next((score.metadata for score in (sample.scores or {}).values() if score.metadata), {})
    if sample.limit is not None:
        return ENDED.get(sample.limit.type, "done")
    if isinstance(facts.get("ended"), str):
        return str(facts["ended"])
    if any(word in sample.output.completion for word in LEAVING):
        return "user_stop"
    limits = order["limits"]
    if sum(usage(event, "total_tokens") for event in calls) >= limits["token_limit"]:
        return "token_limit"
    # Each round adds an answer and the other side's next message.
    if calls and max(length(event) for event in calls) + 2 >= limits["max_messages"]:
        return "max_messages"
    return "done"


def one_line(text: str, order: dict[str, Any]) -> str:
    """Return the end of an error's text, where it says what happened, as one line."""
    if "AttemptTimeoutError" in text:
        return f"no answer in {order['limits']['request_timeout']} s"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and "validation error" in lines[0]:  # pydantic's: the field and its fault, then an address
        return f"not an answer: {' '.join(lines[:3])}"[:500]
    return (lines[-1] if lines else "unknown error")[:500]


def smaller(own: Any, ours: int) -> int:
    """Return the stricter of a task's own limit and ours."""
    return min(own, ours) if isinstance(own, int) and own > 0 else ours


def model_of(asked: dict[str, Any], limits: dict[str, Any], config: dict[str, Any]) -> Model:
    """Return a model; its key comes from the environment."""
    return get_model(
        asked["name"],
        base_url=asked["url"],
        config=GenerateConfig(
            max_connections=config["concurrency"],
            max_retries=limits["max_retries"],
            attempt_timeout=limits["request_timeout"],
            temperature=asked["temperature"],
            max_tokens=config["max_tokens"],
        ),
    )


def stop(*_: object) -> None:
    """Stop as from a keyboard."""
    Outcomes.stopping = True
    signal.raise_signal(signal.SIGINT)


def main() -> None:
    """Run the trials."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Inspect writes down what it has when it is interrupted as from a keyboard.
    signal.signal(signal.SIGTERM, stop)
    place = Path(sys.argv[1]).resolve()
    order = json.loads((place / "order.json").read_text(encoding="utf-8"))
    limits, pending = order["limits"], order["pending"]
    Outcomes.order, Outcomes.place, Outcomes.waiting = order, place, []
    file, _ = parse_spec_str(order["task"])
    if file is not None:
        os.chdir(file.parent)
    task = load_tasks([order["task"]], order["args"])[0]
    samples = list(task.dataset)
    for number, sample in enumerate(samples, start=1):
        sample.id = sample.id if sample.id is not None else number
    chosen = [sample for sample in samples if str(sample.id) in pending]
    epochs = max(trial for trials in pending.values() for trial in trials) + 1
    order["limits"] = limits = {
        **limits,
        "max_messages": smaller(task.message_limit, limits["max_messages"]),
        "token_limit": smaller(task.token_limit, limits["token_limit"]),
        "time_limit": smaller(task.time_limit, limits["time_limit"]),
    }
    order["max_tokens"] = smaller(task.config.max_tokens, order["max_tokens"])
    task = task_with(
        task,
        dataset=MemoryDataset(chosen, name=task.dataset.name),
        epochs=epochs,
        early_stopping=OnlyPending(pending, task.early_stopping),
    )
    model = model_of(order["model"], limits, order)
    user = model_of(order["user"], limits, order) if order["user"] is not None else None
    order["model"]["name"] = str(model)
    order["log_buffer"] = max(1, sum(map(len, pending.values())) // 100)
    inspect_eval(
        task,
        model=model,
        model_roles={"user": user} if user is not None else None,
        max_tokens=order["max_tokens"],
        temperature=order["model"]["temperature"],
        message_limit=limits["max_messages"],
        token_limit=limits["token_limit"],
        time_limit=limits["time_limit"],
        max_samples=order["concurrency"],
        fail_on_error=False,
        log_dir=str(place / "logs"),
        log_format="eval",
        log_buffer=order["log_buffer"],
        log_realtime=False,  # a database of every event, for a viewer of what is not in the log yet
        display="none",
        ctl_server=False,
        metadata={"agent_sft": order["title"]},
    )


if __name__ == "__main__":
    os.environ["INSPECT_DISPLAY"] = "none"
    main()
