"""What the teacher is asked: rows of prompts, conversations or tasks become one file of tasks, each with a verifier."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import orjson

from agent_sft.config.distill import DistillConfig
from agent_sft.data.conversation import Conversation, Origin
from agent_sft.data.formats import FORMATS, Format, format_named, openai
from agent_sft.data.formats.prompt_response import PAIRS
from agent_sft.data.opening import LOOKED_AT
from agent_sft.data.reading import describe
from agent_sft.data.results import order_results
from agent_sft.data.sources import open_sources
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError
from agent_sft.evals.tasks import TASKS, read_tasks
from agent_sft.evals.verifiers.registry import make_verifier
from agent_sft.files import digest_value
from agent_sft.stages.examples import answers, prompt
from agent_sft.stages.outside import open_outside

ALONE = tuple(dict.fromkeys(asked for asked, _ in PAIRS))
"""Under which names a row holds a prompt without a response."""
NAMES = ("task_id", "prompt_id", "id")
"""Under which names a row says what it is called."""
ANY = "answered"


@dataclass(frozen=True)
class Prompt:
    """One thing that the teacher is asked."""

    id: str
    origin: Origin
    task: dict[str, Any]
    """A row of `tasks.jsonl`."""


@dataclass(frozen=True)
class Prompts:
    """All of them, and the rows that are none."""

    found: tuple[Prompt, ...]
    unusable: tuple[tuple[Origin, str], ...]
    """Rows that cannot be asked, and why."""
    repeated: tuple[tuple[Origin, Origin], ...]
    """Rows that ask what an earlier one asks: they are not paid for again."""

    @property
    def by_id(self) -> dict[str, Prompt]:
        """The prompts by their names."""
        return {one.id: one for one in self.found}

    def content(self) -> bytes:
        """Return the file of tasks."""
        return b"".join(orjson.dumps(one.task) + b"\n" for one in self.found)


def read_prompts(config: DistillConfig) -> Prompts:
    """Read the prompts of a distillation. A conversation is asked anew from its last answer on.

    Raises:
        UserError: there are none, they cannot be read, or a verifier is wrong; rows that cannot be used where that is
            not allowed.
    """
    found: dict[str, Prompt] = {}
    asked: dict[str, Prompt] = {}
    unusable: list[tuple[Origin, str]] = []
    repeated: list[tuple[Origin, Origin]] = []
    default = {"fn_name": config.verifier or ANY, **config.params}
    make_verifier(default, where="--verifier", folder=Path())
    for origin, task in _tasks(config, default):
        if isinstance(task, str):
            unusable.append((origin, task))
            continue
        content = digest_value({key: value for key, value in task.items() if key != "task_id"})
        if content in asked:
            repeated.append((origin, asked[content].origin))
            continue
        name = str(task.get("task_id") or _name(task))
        if name in found:
            unusable.append((origin, f"an earlier one is called '{name}' too, and asks something else"))
            continue
        asked[content] = found[name] = Prompt(name, origin, {**task, "task_id": name})
        if len(found) == config.limit:
            break
    if (unusable and not config.allow_rejects) or not found:
        _refuse(config, unusable, len(found))
    return Prompts(tuple(found.values()), tuple(unusable), tuple(repeated))


def _tasks(config: DistillConfig, default: dict[str, Any]) -> Iterator[tuple[Origin, dict[str, Any] | str]]:
    """Yield what each row asks, as a row of tasks; in its place why it cannot be asked."""
    asked = format_named(config.format) if config.format is not None else None
    names = (str(Path(name) / TASKS) if (Path(name) / TASKS).is_file() else name for name in config.prompts)
    for source in open_sources(names, opener=open_outside):
        rows = source.rows()
        first = list(islice(rows, LOOKED_AT))
        if any(isinstance(row, Mapping) and "verifier" in row for _, row in first) and source.path is not None:
            read_tasks(source.path)
            for origin, row in chain(first, rows):
                # The files that verifiers name are found from where the tasks are written to, too.
                yield origin, {"folder": str(source.path.parent.resolve()), **row}
            continue
        for origin, row in chain(first, rows):
            try:
                conversation = _conversation(row, origin, asked)
                yield origin, {**_asked(conversation), "verifier": default, "folder": str(Path.cwd())}
            except Unusable as why:
                yield origin, str(why)


def _conversation(row: Any, origin: Origin, asked: Format | None) -> Conversation:
    """Return the conversation that a row holds or begins.

    Raises:
        Unusable: it is none.
    """
    if asked is not None:
        return asked.read(row, origin)
    if (alone := _alone(row)) is not None:
        return openai.read(alone, origin)
    if not isinstance(row, Mapping):
        raise Unusable(f"the row is {describe(row)}, not an object")
    form = next((one for one in FORMATS.values() if one.recognise(row)), None)
    if form is None:
        keys = ", ".join(f"'{key}'" for key in list(row)[:5]) or "none"
        raise Unusable(f"holds no prompt: its keys are {keys}; a prompt stands in 'prompt' or 'messages'")
    return form.read(row, origin)


def _alone(row: Any) -> dict[str, Any] | None:
    """Return a row that is a prompt without a response as a chat row; None for any other."""
    if not isinstance(row, Mapping) or "messages" in row or "conversations" in row:
        return None
    if any(asked in row and answer in row for asked, answer in PAIRS):
        return None
    name = next((key for key in ALONE if isinstance(row.get(key), str | list)), None)
    if name is None:
        return None
    given = row[name]
    messages = given if isinstance(given, list) else [{"role": "user", "content": given}]
    head = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    rest = {key: value for key, value in row.items() if key not in (name, "system")}
    return {**rest, "messages": [*head, *messages]}


def _asked(conversation: Conversation) -> dict[str, Any]:
    """Return what a conversation asks, up to the last turn that an answer follows.

    Raises:
        Unusable: nobody asks anything in it.
    """
    ordered = msgspec.structs.replace(conversation, turns=order_results(conversation.turns))
    turns = len(ordered.turns)
    if not turns or ordered.turns[-1].role not in ("user", "tool"):
        turns = next((begin for begin, _ in answers(ordered)), 0)
    if not turns:
        raise Unusable("nobody asks anything in it")
    tools = [{"type": "function", "function": dict(tool)} for tool in ordered.tools]
    name = next((ordered.metadata[key] for key in NAMES if isinstance(ordered.metadata.get(key), str | int)), None)
    return {
        **({"task_id": str(name)} if name not in (None, "") else {}),
        "messages": list(prompt(ordered, turns)),
        **({"tools": tools} if tools else {}),
    }


def _name(task: dict[str, Any]) -> str:
    """Return a name that is the same wherever the row stands and however it is judged: it decides the seeds."""
    return digest_value([task.get("messages"), task.get("tools")]).removeprefix("sha256:")[:16]


def _refuse(config: DistillConfig, unusable: list[tuple[Origin, str]], usable: int) -> None:
    shown = "".join(f"\n  {origin.file}, row {origin.row}: {why}" for origin, why in unusable[:10])
    more = f"\n  and {len(unusable) - 10:,} more" if len(unusable) > 10 else ""
    what = f"{len(unusable):,} of {len(unusable) + usable:,} rows cannot be asked{shown}{more}"
    if not unusable:
        raise UserError("there are no prompts", where=", ".join(config.prompts))
    fix = "mend them, or give --allow-rejects to go on with the others" if usable else None
    raise UserError(what, where=", ".join(config.prompts), fix=fix)
