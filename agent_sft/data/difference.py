"""What became of a conversation: two versions of it, turn by turn.

Both are read into the canonical form first, so that what is shown is a difference in what is said, never one of
spelling between two formats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace

from agent_sft.data.conversation import Conversation, Turn
from agent_sft.data.formats import detect, format_named
from agent_sft.data.hermes import write_answer
from agent_sft.data.jsontext import dumps
from agent_sft.data.opening import LOOKED_AT
from agent_sft.data.processing import EVAL_SUFFIX, REPORT_NAME
from agent_sft.data.sources import open_sources
from agent_sft.data.trail import PROCESS, TRAILS, read_trail
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError
from agent_sft.files import read_json

Deed = Literal["same", "removed", "added", "changed"]


@dataclass(frozen=True)
class Part:
    """A part of a conversation in both versions: the system text, the tools, or a turn."""

    title: str
    deed: Deed
    before: str | None
    """None where it is added."""
    after: str | None
    """None where it is removed."""


@dataclass(frozen=True)
class RowDifference:
    """What became of one row."""

    row: int
    """Its number in the first file, from 1."""
    parts: tuple[Part, ...]
    done: tuple[str, ...] = ()
    """What the ledger says was done to it, a line for each transform."""
    fate: str | None = None
    """Why the second file does not have it; None where it does."""

    @property
    def is_same(self) -> bool:
        """Whether both versions say the same."""
        return self.fate is None and all(part.deed == "same" for part in self.parts)


def compare_files(before: Path, after: Path, *, form: str | None = None) -> Iterator[RowDifference]:
    """Yield what became of each row of `before` in `after`, in order.

    Rows are matched by the ledger beside `after` where it tells of `before`, and in a run's directory by its trail,
    which tells the rows of several inputs apart; by their place otherwise, and then both must have as many rows.

    Raises:
        UserError: a file cannot be read, or their rows cannot be matched.
    """
    stories = _stories(before, after)
    following = _conversations(after, None)
    if (trail := after.parent.with_name(TRAILS) / PROCESS).is_file():
        following = compress(following, _follow(trail, before, after, stories))
    for number, first in enumerate(_conversations(before, form), start=1):
        story = stories.get(number, _Story())
        if story.fate is not None:
            yield RowDifference(number, (), tuple(story.done), story.fate)
            continue
        found = list(islice(following, story.parts))
        if len(found) < story.parts:
            raise _no_match(before, after, f"{after.name} ends before row {number} of {before.name}")
        second = _joined(found)
        if isinstance(first, str) or isinstance(second, str):
            reason = first if isinstance(first, str) else str(second)
            yield RowDifference(number, (), tuple(story.done), f"cannot be read: {reason}")
        else:
            yield RowDifference(number, tuple(compare(first, second)), tuple(story.done))
    if next(following, None) is not None:
        raise _no_match(before, after, f"{after.name} has more rows than {before.name}")


def compare(before: Conversation, after: Conversation) -> Iterator[Part]:
    """Yield the parts of two versions of a conversation, matched as well as they can be."""
    for title, old, new in (("system", before.system, after.system), ("tools", _tools(before), _tools(after))):
        if old or new:
            yield _part(title, old or None, new or None)
    olds, news = [_spoken(turn) for turn in before.turns], [_spoken(turn) for turn in after.turns]
    for tag, a, b, c, d in SequenceMatcher(None, olds, news, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from (Part(f"{a + i + 1} {role}", "same", text, text) for i, (role, text) in enumerate(olds[a:b]))
            continue
        together = min(b - a, d - c)
        for index in range(max(b - a, d - c)):
            old_turn = olds[a + index] if a + index < b else None
            new_turn = news[c + index] if c + index < d else None
            if index < together and old_turn and new_turn and old_turn[0] == new_turn[0]:
                yield _part(f"{a + index + 1} {old_turn[0]}", old_turn[1], new_turn[1])
                continue
            if old_turn:
                yield _part(f"{a + index + 1} {old_turn[0]}", old_turn[1], None)
            if new_turn:
                yield _part(new_turn[0], None, new_turn[1])


def _part(title: str, before: str | None, after: str | None) -> Part:
    deed: Deed = "added" if before is None else "removed" if after is None else "same" if before == after else "changed"
    return Part(title, deed, before, after)


def _spoken(turn: Turn) -> tuple[str, str]:
    return turn.role, write_answer(turn) if turn.role == "assistant" else turn.text or ""


def _tools(conversation: Conversation) -> str:
    return "\n".join(dumps(tool) for tool in conversation.tools)


def _joined(parts: list[Conversation | str]) -> Conversation | str:
    """Return the parts of a row that was split as one conversation again."""
    whole: list[Conversation] = []
    for part in parts:
        if isinstance(part, str):
            return part
        whole.append(part)
    return replace(whole[0], turns=tuple(chain.from_iterable(part.turns for part in whole)))


def _conversations(path: Path, form: str | None) -> Iterator[Conversation | str]:
    """Yield the rows of a file, each as a conversation or as the reason why it is none."""
    for source in open_sources([path]):
        rows = source.rows()
        first = list(islice(rows, LOOKED_AT))
        reader = format_named(form) if form is not None else detect((row for _, row in first), source.name)
        for origin, row in chain(first, rows):
            try:
                yield reader.read(row, origin)
            except Unusable as unusable:
                yield str(unusable)


@dataclass
class _Story:
    """What a ledger tells of a row."""

    done: list[str] = field(default_factory=list)
    fate: str | None = None
    parts: int = 1
    """How many rows of the second file it became."""


def _stories(before: Path, after: Path) -> dict[int, _Story]:
    """Return what the ledger beside `after` tells of the rows of `before`; nothing where it is about other data."""
    report = read_json(after.with_name(REPORT_NAME))
    stories: dict[int, _Story] = {}
    for entry in report.get("fates", ()) if isinstance(report, Mapping) else ():
        if Path(entry["file"]).resolve() != before.resolve():
            continue
        is_part, kept = "part" in entry, entry["fate"] == "kept"
        story = stories.setdefault(entry["row"], _Story(parts=0 if is_part else 1))
        story.parts += is_part and kept
        story.done += [line for change in entry.get("changes", ()) if (line := _said(change)) not in story.done]
        if not kept:
            why = f"{entry['fate']} by {entry['by']}: {entry['reason']}"
            story.done += [why] if is_part else []
            story.fate = None if is_part else why
    for story in stories.values():
        if story.parts == 0 and story.fate is None:
            story.fate = "no part of it is left"
    return stories


def _follow(trail: Path, before: Path, after: Path, stories: dict[int, _Story]) -> Iterator[bool]:
    """Yield for each row of `after` whether it comes from `before`; note in `stories` what is in the other set."""
    is_eval = after.stem.endswith(EVAL_SUFFIX)
    apart = "held out for the evaluation" if not is_eval else "not held out for the evaluation"
    mine = {file: Path(file).resolve() == before.resolve() for file in {entry["file"] for entry in read_trail(trail)}}
    for entry in read_trail(trail):
        if entry["eval"] == is_eval or not mine[entry["file"]]:
            continue
        story = stories.setdefault(entry["row"], _Story())
        story.parts -= 1
        story.fate = apart if story.parts == 0 else story.fate
    return (mine[entry["file"]] for entry in read_trail(trail) if entry["eval"] == is_eval)


def _said(change: Mapping[str, Any]) -> str:
    """Return what a transform did to a row, in a line."""
    counts = [f"{count:,} {unit} added" for unit, count in change.get("added", {}).items()]
    counts += [f"{count:,} {unit} removed" for unit, count in change.get("removed", {}).items()]
    return f"{change['by']}: {'; '.join([*counts, *change.get('notes', ())]) or 'no text changed'}"


def _no_match(before: Path, after: Path, what: str) -> UserError:
    fix = "compare files with the same rows, or leave the pipeline's data_report.json beside the second one"
    return UserError(f"the rows cannot be matched: {what}", where=f"{before}, {after}", fix=fix)
