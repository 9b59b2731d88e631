"""A folder with `tasks.jsonl`: instructions or conversations, tools, and a verifier for each answer."""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from agent_sft.data.transforms.chat import calls_in
from agent_sft.data.turns import Unusable
from agent_sft.engines.chat import ChatClient, ContextFull, ProviderFailed, Reply
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError
from agent_sft.evals.results import Place, Trial
from agent_sft.evals.tasks import Task, read_tasks, tasks_file
from agent_sft.evals.verifiers.contract import Answer, Call, VerifierFailed
from agent_sft.files import digest_file
from agent_sft.stages.evaluators.contract import Benchmark, EvalRun, Evaluator, Work, chosen_tasks
from agent_sft.stages.evaluators.patience import Patience
from agent_sft.stages.evaluators.registry import register_evaluator

TRANSCRIPTS = "transcripts.jsonl"
POLL_SECONDS = 0.1


@register_evaluator("tasks")
class TasksEvaluator(Evaluator):
    """Asks for one answer to each task of a `tasks.jsonl` and has its verifier judge it."""

    def check(self, run: EvalRun) -> None:
        """Check every row of the file."""
        if run.user_model not in (None, "scripted"):
            raise UserError("these tasks have no customer", where="--user-model", fix="leave it out")
        self.benchmark(run)

    def benchmark(self, run: EvalRun) -> Benchmark:
        """Return the tasks that are asked for."""
        path = tasks_file(Path(run.task))
        tasks = read_tasks(path)
        return Benchmark(
            name=path.parent.resolve().name,
            tasks=chosen_tasks([task.id for task in tasks], run, str(path)),
            families={task.id: task.family for task in tasks if task.family},
            settings={"tasks.jsonl": digest_file(path)},
        )

    def score(self, model: ServedModel, work: Work, run: EvalRun) -> None:
        """Ask for all pending answers, as many at once as allowed."""
        tasks = {task.id: task for task in read_tasks(Path(run.task))}
        asyncio.run(_Asking(model, work, run, tasks).all())


class _Asking:
    def __init__(self, model: ServedModel, work: Work, run: EvalRun, tasks: dict[str, Task]) -> None:
        self._model, self._work, self._run, self._tasks = model, work, run, tasks
        self._patience = Patience(run)
        self._transcripts = work.attempt / TRANSCRIPTS

    async def all(self) -> None:
        limits = self._run.limits
        queue = list(reversed(self._work.pending))
        async with ChatClient(
            self._model,
            connections=self._run.concurrency,
            timeout=limits.request_timeout,
            retries=limits.max_retries,
        ) as client:
            workers = [asyncio.create_task(self._work_off(queue, client)) for _ in range(self._run.concurrency)]
            try:
                while (pending := [worker for worker in workers if not worker.done()]) and not self._run.stop.count:
                    await asyncio.wait(pending, timeout=POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
                    for worker in workers:
                        if worker.done():
                            worker.result()
                    self._patience.check()
            finally:
                for worker in workers:
                    worker.cancel()
                with suppress(asyncio.CancelledError):
                    await asyncio.gather(*workers, return_exceptions=True)

    async def _work_off(self, queue: list[Place], client: ChatClient) -> None:
        while queue:
            place = queue.pop()
            trial = await self._try(place, client)
            self._patience.saw(self._work.recorder.add(trial))

    async def _try(self, place: Place, client: ChatClient) -> Trial:
        name, number = place
        task, limits = self._tasks[name], self._run.limits
        begun = time.monotonic()
        facts: dict[str, Any] = {"task": name, "trial": number, "family": task.family}
        try:
            async with asyncio.timeout(limits.time_limit):
                reply = await client.complete(list(task.messages), **self._options(task, place))
        except ProviderFailed as failure:
            return Trial(**facts, score=None, error=str(failure), ended="error", seconds=time.monotonic() - begun)
        except TimeoutError:
            # One request is all there is: a limit that it does not keep tells of the server, not of the model.
            why = f"no answer in {limits.time_limit} s"
            return Trial(**facts, score=None, error=why, ended="error", seconds=time.monotonic() - begun)
        except ContextFull:
            why = "the task is longer than the model's context"
            return Trial(**facts, score=0.0, ended="token_limit", detail={"reason": why})
        facts["seconds"] = time.monotonic() - begun
        return await self._judged(task, reply, facts)

    async def _judged(self, task: Task, reply: Reply, facts: dict[str, Any]) -> Trial:
        calls = [_call(entry) for entry in reply.message.get("tool_calls") or []]
        known = {tool["function"]["name"] for tool in task.tools}
        conversation = (*task.messages, reply.message)
        answer = Answer(text=reply.message.get("content") or "", calls=tuple(calls), messages=conversation)
        unread = _holds_unreadable_call(answer.text)
        refused = sum(call.name not in known or isinstance(call.arguments, str) for call in calls)
        facts |= {
            "turns": 1,
            "tool_calls": len(calls) + unread,
            "tool_errors": refused + unread,
            "input_tokens": reply.input_tokens,
            "output_tokens": reply.output_tokens,
            "transcript": self._keep(facts, conversation),
        }
        try:
            verdict = await asyncio.to_thread(task.verifier.judge, answer)
        except VerifierFailed as failure:
            return Trial(**facts, score=None, error=f"the verifier failed: {failure}", ended="error")
        return Trial(
            **facts,
            score=verdict.score,
            ended="token_limit" if reply.finish_reason == "length" else "done",
            detail={"reason": verdict.reason} if verdict.reason else {},
        )

    def _options(self, task: Task, place: Place) -> dict[str, Any]:
        key = f"{self._run.seed}/{place[0]}/{place[1]}"
        options: dict[str, Any] = {
            "temperature": self._run.temperature,
            "max_tokens": min(self._run.max_tokens, self._run.limits.token_limit),
            # A seed for each trial: with one for all of them a server gives the same answer every time.
            "seed": int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) >> 1,
        }
        return {**options, "tools": list(task.tools)} if task.tools else options

    def _keep(self, facts: dict[str, Any], conversation: tuple[dict[str, Any], ...]) -> str:
        line = {"task": facts["task"], "trial": facts["trial"], "messages": conversation}
        with self._transcripts.open("ab") as stream:
            stream.write(orjson.dumps(line) + b"\n")
        path = self._transcripts.relative_to(self._work.folder)
        return f"{path}#{facts['task']}/{facts['trial']}"


def _holds_unreadable_call(words: str) -> bool:
    """Tell whether the words hold a call that is none: the server leaves there what it cannot read."""
    try:
        calls_in({"role": "assistant", "content": words}, 1)
    except Unusable:
        return True
    return False


def _call(entry: Any) -> Call:
    function = entry.get("function") or {}
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        with suppress(orjson.JSONDecodeError):
            arguments = orjson.loads(arguments)
    return Call(name=str(function.get("name")), arguments=arguments)
