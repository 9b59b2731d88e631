"""Makes a benchmark of a data set: an evaluator, tasks that are held out, and the rest to train on."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import orjson

from agent_sft.data.conversation import Conversation
from agent_sft.data.formats import detect, format_named
from agent_sft.data.opening import LOOKED_AT
from agent_sft.data.results import order_results
from agent_sft.data.rows import to_row
from agent_sft.data.sources import open_sources
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.tasks import TASKS, read_tasks
from agent_sft.evals.verifiers.registry import make_verifier
from agent_sft.files import write_atomic
from agent_sft.stages.checkable import Kind, kinds
from agent_sft.stages.examples import Example, answers, prompt
from agent_sft.stages.outside import open_outside

EVALUATOR, TRAIN, REPORT = "evaluator.py", "train.jsonl", "draft.json"

ENOUGH = 0.9
"""The share of conversations that a kind of check must fit to be the one."""
HELD_OUT = 0.2
"""The share of the tasks that is held out unless a number is asked for."""
MOST = 100
"""And at most so many."""


@dataclass(frozen=True)
class Draft:
    """What was made of a data set."""

    folder: Path
    title: str
    """What is checked."""
    conversations: int
    checked: int
    """Conversations whose answer can be checked."""
    left_out: tuple[tuple[str, str], ...]
    """Rows that are no tasks, and why."""
    tasks: int
    train: int
    accepted: int
    """References that the evaluator accepts, of `checked`."""
    rejected: dict[str, tuple[int, int]]
    """For each corruption, how many answers the evaluator rejects, and of how many."""

    @property
    def works(self) -> bool:
        """Return whether the evaluator told right from wrong everywhere."""
        return self.accepted == self.checked and all(told == of for told, of in self.rejected.values())


@dataclass(frozen=True)
class Examined:
    """A data set whose answers can be checked, and the evaluator that does."""

    kind: Kind
    conversations: list[Conversation]
    examples: list[Example]
    """Conversations whose answer can be checked."""
    unique: list[Example]
    """One of each prompt."""
    left_out: tuple[tuple[str, str], ...]
    """Rows that are no tasks, and why."""
    evaluator: str
    """The program."""
    accepted: int
    """References that the evaluator accepts."""
    rejected: dict[str, tuple[int, int]]
    """For each corruption, how many answers the evaluator rejects, and of how many."""


def examine(source: str | Sequence[str], form: str | None = None) -> Examined:
    """Find out what can be checked in the answers of data, and make the evaluator that does.

    Args:
        source: any data that can be prepared.
        form: the format of the rows, recognised when not given.

    Raises:
        UserError: the data cannot be read.
        WorkFailed: the answers cannot be checked, and why.
    """
    given = [source] if isinstance(source, str) else list(source)
    shown = ", ".join(given)
    conversations, left_out = _conversations(given, form)
    kind, examples = _chosen(conversations)
    told = {id(example.conversation) for example in examples}
    left_out += [
        (f"{one.origin.file}, row {one.origin.row}", f"holds no {kind.title}")
        for one in conversations
        if id(one) not in told
    ]
    unique, ambiguous = _unique(examples)
    left_out += [(example.place, "the same is asked elsewhere with another answer") for example in ambiguous]
    if not unique:
        raise WorkFailed(f"{shown}: every prompt has several answers, so none can be told right or wrong")
    evaluator = _evaluator(", ".join(Path(one).name for one in given), kind, len(examples), len(conversations))
    accepted, rejected = _tried(evaluator, kind, examples)
    return Examined(kind, conversations, examples, unique, tuple(left_out), evaluator, accepted, rejected)


def draft(source: str, folder: Path, *, tasks: int | None = None, form: str | None = None) -> Draft:
    """Make a benchmark of a data set whose answers can be checked.

    Args:
        source: any data that can be prepared.
        folder: where `evaluator.py`, `tasks.jsonl`, `train.jsonl` and `draft.json` go.
        tasks: how many tasks to hold out.
        form: the format of the rows, recognised when not given.

    Raises:
        UserError: the data cannot be read, or the folder holds something else.
        WorkFailed: the answers cannot be checked, and why.
    """
    found = examine(source, form)
    wanted = min(MOST, round(HELD_OUT * len(found.unique)) or 1) if tasks is None else tasks
    if wanted > len(found.unique):
        raise UserError(f"there are {len(found.unique):,} tasks to choose from", where="--tasks")
    held = sorted(found.unique, key=lambda example: example.key)[:wanted]
    held_ids = _ids(found.examples, {example.key for example in held})
    train = [one for one in found.conversations if id(one) not in held_ids]
    made = Draft(
        folder=folder,
        title=found.kind.title,
        conversations=len(found.conversations),
        checked=len(found.examples),
        left_out=found.left_out,
        tasks=len(held),
        train=len(train),
        accepted=found.accepted,
        rejected=found.rejected,
    )
    report = {name: getattr(made, name) for name in made.__dataclass_fields__ if name != "folder"}
    write_benchmark(
        folder,
        found,
        held,
        {
            TRAIN: b"".join(orjson.dumps(to_row(one), option=orjson.OPT_NON_STR_KEYS) + b"\n" for one in train),
            REPORT: orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        },
    )
    return made


def write_benchmark(folder: Path, found: Examined, held: Sequence[Example], beside: dict[str, bytes]) -> None:
    """Write an evaluator with its tasks, unless the folder holds something else: it may have been changed by hand.

    Args:
        folder: where `evaluator.py` and `tasks.jsonl` go.
        found: the evaluator.
        held: what becomes a task.
        beside: other files, by name.

    Raises:
        UserError: one of the files is there already, with another content.
    """
    tasks = [one.as_task(_verifier(one.expected), found.kind.family(one.expected)) for one in held]
    contents = {
        EVALUATOR: found.evaluator.encode(),
        TASKS: b"".join(orjson.dumps(task) + b"\n" for task in tasks),
        **beside,
    }
    for name, content in contents.items():
        path = folder / name
        if path.exists() and path.read_bytes() != content:
            fix = "choose another --output, or move it away"
            raise UserError("is there already and holds something else", where=str(path), fix=fix)
    for name, content in contents.items():
        write_atomic(folder / name, content)
    read_tasks(folder)


def _conversations(given: list[str], form: str | None) -> tuple[list[Conversation], list[tuple[str, str]]]:
    asked = format_named(form) if form is not None else None
    found: list[Conversation] = []
    unread: list[tuple[str, str]] = []
    for one in open_sources(given, opener=open_outside):
        rows = one.rows()
        first = list(islice(rows, LOOKED_AT))
        read = (asked or detect((row for _, row in first), one.name)).read
        for origin, row in chain(first, rows):
            try:
                conversation = read(row, origin)
                ordered = msgspec.structs.replace(conversation, turns=order_results(conversation.turns))
                list(prompt(ordered, len(ordered.turns)))
            except Unusable as unusable:
                unread.append((f"{origin.file}, row {origin.row}", str(unusable)))
            else:
                found.append(ordered)
    if not found:
        reasons = "".join(f"\n  {place}: {reason}" for place, reason in unread[:5])
        raise UserError(f"no row is a conversation{reasons}", where=", ".join(given))
    return found, unread


def _chosen(conversations: Sequence[Conversation]) -> tuple[Kind, list[Example]]:
    """Return the first kind that fits nearly all conversations, and those that it fits."""
    last = [next(answers(one), None) for one in conversations]
    calling = [next((found for found in answers(one) if found[1].calls), None) for one in conversations]
    fitting: dict[str, int] = {}
    for kind in kinds([found[1] for found in last if found is not None]):
        examples = []
        for one, found in zip(conversations, calling if kind.of_calls else last, strict=True):
            expected = kind.reference(found[1]) if found is not None else None
            if found is not None and expected is not None:
                examples.append(Example(one, tuple(prompt(one, found[0])), found[1], expected))
        if len(examples) >= ENOUGH * len(conversations):
            return kind, examples
        fitting[kind.title] = len(examples)
    counts = ", ".join(f"{count:,} {title}" for title, count in fitting.items() if count) or "none of the known kinds"
    raise WorkFailed(
        f"the answers cannot be checked by a program: of {len(conversations):,} conversations, {counts}",
        fix=f"a check must fit {ENOUGH:.0%} of them: filter the data, mark answers as <answer>...</answer>, or write "
        "a tasks.jsonl with a verifier of your own",
    )


def _unique(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Return an example of each prompt, and all examples whose prompt has several answers."""
    by_key: dict[str, list[Example]] = {}
    for example in examples:
        by_key.setdefault(example.key, []).append(example)
    unique, ambiguous = [], []
    for same in by_key.values():
        if all(one.expected == same[0].expected for one in same):
            unique.append(same[0])
        else:
            ambiguous += same
    return unique, ambiguous


def _ids(examples: Sequence[Example], keys: set[str]) -> set[int]:
    return {id(example.conversation) for example in examples if example.key in keys}


def _evaluator(source: str, kind: Kind, checked: int, conversations: int) -> str:
    shown = {name: f'r"{value}"' if isinstance(value, str) else repr(value) for name, value in kind.params.items()}
    constants = "".join(f"{name.upper()} = {value}\n" for name, value in shown.items())
    params = "".join(f", {name}={name.upper()}" for name in kind.params)
    head = f"\n{constants}\n" if constants else "\n"
    return (
        f'"""Tells whether an answer to a task in {TASKS} is right: {kind.title.replace(chr(92), chr(92) * 2)}.\n\n'
        f"Drafted from {Path(source).name}, where {checked:,} of {conversations:,} conversations can be checked so.\n"
        "It is yours to change: the tasks name `score` as their verifier, and each says what is expected.\n"
        '"""\n\n'
        "from agent_sft.evals.verifiers.registry import verify\n"
        f"{head}\n"
        "def score(answer, expected):\n"
        '    """Return a verdict on `answer.text` and `answer.calls`; a number from 0 to 1 would do too."""\n'
        f'    return verify("{kind.verifier}", answer, expected=expected{params})\n'
    )


def _verifier(expected: Any) -> dict[str, Any]:
    return {"kind": "in_process", "fn_name": "python", "function": f"{EVALUATOR}:score", "expected": expected}


def _tried(evaluator: str, kind: Kind, examples: Sequence[Example]) -> tuple[int, dict[str, tuple[int, int]]]:
    """Return how many references the evaluator accepts, and how many of each corruption it rejects."""
    accepted = 0
    told: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="agent-sft-") as scratch:
        folder = Path(scratch)
        (folder / EVALUATOR).write_text(evaluator, encoding="utf-8")
        for example in examples:
            verifier = make_verifier(_verifier(example.expected), where=example.place, folder=folder)
            accepted += verifier.verify(example.answer).score == 1
            for name, wrong in kind.corrupt(example.answer, example.expected):
                tried[name] += 1
                told[name] += verifier.verify(wrong).score < 1
    return accepted, {name: (told[name], count) for name, count in tried.items()}
