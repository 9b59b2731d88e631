"""From samples to conversations: what is kept of each prompt, and why the others are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import orjson

from agent_sft.data.conversation import Conversation, Origin, Turn
from agent_sft.data.formats import openai
from agent_sft.data.rows import from_row, to_row
from agent_sft.data.transforms.fix_arguments import fix_arguments
from agent_sft.data.transforms.remove_think import remove_think
from agent_sft.data.turns import Unusable
from agent_sft.distill.prompts import Prompts
from agent_sft.distill.sampling import Sampler, best_of, described
from agent_sft.evals.results import Trial, read_results
from agent_sft.report.sweep.conversations import read_conversations

Kind = Literal["rejected", "unanswered", "not asked", "unusable", "repeated"]


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A prompt of which no conversation was made."""

    prompt: str | None = None
    file: str | None = None
    row: int | None = None
    kind: Kind
    why: str
    samples: list[dict[str, Any]] = []
    """What came of each sample, with where its conversation is."""


@dataclass(frozen=True)
class Choice:
    """What became of all prompts: each stands in one of the two."""

    conversations: tuple[Conversation, ...]
    failures: tuple[Failure, ...]
    prompts: int
    """That a conversation was made of."""
    samples: int
    """That were judged."""

    def count(self, *kinds: Kind) -> int:
        """Return how many failures are of these kinds."""
        return sum(one.kind in kinds for one in self.failures)

    @property
    def open(self) -> int:
        """Prompts that may still become conversations, when they are asked again."""
        return self.count("unanswered", "not asked")

    def content(self) -> bytes:
        """Return the conversations as rows."""
        rows = (orjson.dumps(openai.write(one), option=orjson.OPT_NON_STR_KEYS) for one in self.conversations)
        return b"".join(row + b"\n" for row in rows)

    def listed(self) -> bytes:
        """Return the failures as rows."""
        return b"".join(msgspec.json.encode(one) + b"\n" for one in self.failures)


def choose(sampler: Sampler, prompts: Prompts | None) -> Choice:
    """Choose among the samples there are.

    Args:
        sampler: made them.
        prompts: what was asked; None for an Inspect task.
    """
    there = sampler.trials()
    teacher = read_results(sampler.folder)[0].model
    picked = {task: _picked(sampler, there.get(task, [])) for task in sampler.tasks}
    read = read_conversations(sampler.folder, [trial for trials in picked.values() for trial in trials])
    made: list[Conversation] = []
    failures: list[Failure] = []
    for task in sampler.tasks:
        reasons = {trial.place: sampler.why_not(trial) for trial in there.get(task, [])}
        kept = []
        for trial in picked[task]:
            try:
                kept.append(_conversation(read.get(trial.place), trial, sampler, prompts, teacher))
            except Unusable as why:
                reasons[trial.place] = str(why)
        if kept:
            made += kept
        else:
            failures.append(_failure(task, there.get(task, []), reasons, sampler, prompts))
    counted = len(sampler.tasks) - len(failures)
    if prompts is not None:
        failures += [Failure(file=at.file, row=at.row, kind="unusable", why=why) for at, why in prompts.unusable]
        failures += [
            Failure(file=at.file, row=at.row, kind="repeated", why=f"asks what {first.file}, row {first.row}, asks")
            for at, first in prompts.repeated
        ]
    scored = sum(trial.score is not None for trials in there.values() for trial in trials)
    return Choice(tuple(made), tuple(failures), counted, scored)


def _picked(sampler: Sampler, trials: Sequence[Trial]) -> list[Trial]:
    good = [trial for trial in trials if sampler.accepted(trial)]
    if not good or sampler.config.keep == "all":
        return good
    return [best_of(good)] if sampler.config.keep == "best" else good[:1]


def _conversation(
    found: Conversation | None, trial: Trial, sampler: Sampler, prompts: Prompts | None, teacher: str
) -> Conversation:
    """Return a sample as it is trained on.

    Raises:
        Unusable: it cannot be read, holds a call that cannot, or nothing is left of it without its reasoning.
    """
    if found is None:
        raise Unusable("its transcript cannot be read")
    facts: dict[str, Any] = {"prompt": trial.task, "sample": trial.trial, "reward": trial.score, "teacher": teacher}
    tools, turns = found.tools, found.turns
    if prompts is not None:
        prompt = prompts.by_id[trial.task]
        facts["source"] = f"{prompt.origin.file}, row {prompt.origin.row}"
        tools = tuple(tool.get("function", tool) for tool in prompt.task.get("tools", ()))
        # What others said before in the assistant's name is not the teacher's: it carries no loss.
        turns = (*(_without_loss(turn) for turn in turns[:-1]), turns[-1])
    made = msgspec.structs.replace(found, turns=turns, tools=tools, metadata=facts)
    row, _ = fix_arguments(to_row(made))
    if not sampler.config.reasoning:
        row, _ = remove_think(row)
        made = from_row(row, Origin(file="", row=1))
    return made


def _without_loss(turn: Turn) -> Turn:
    return msgspec.structs.replace(turn, supervise=False) if turn.role == "assistant" else turn


def _failure(
    task: str,
    trials: Sequence[Trial],
    reasons: dict[tuple[str, int], str | None],
    sampler: Sampler,
    prompts: Prompts | None,
) -> Failure:
    origin = prompts.by_id[task].origin if prompts is not None else None
    whys = [why for why in reasons.values() if why]
    lost = [trial for trial in trials if trial.score is None]
    kind: Kind = "rejected"
    if lost or len(trials) < sampler.config.samples:
        unasked = not trials or all("not asked" in str(trial.error) for trial in lost)
        kind = "not asked" if unasked else "unanswered"
    last = whys[-1] if whys else "its turn did not come"
    if kind == "rejected" and len(set(whys)) > 1:
        last = f"{last} (the last of {len(whys)})"
    return Failure(
        prompt=task,
        file=origin.file if origin is not None else sampler.config.task,
        row=origin.row if origin is not None else None,
        kind=kind,
        why=last,
        samples=[described(trial, reasons[trial.place], sampler.folder) for trial in trials],
    )
