"""Patterns that name a variant each: braces and globs, and the part that varies."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from agent_sft.config.sweep import Value
from agent_sft.errors import UserError

GLOB = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.(\d+))?")
_TOKENS = re.compile(r"\d+(?:\.\d+)?|[A-Za-z]+|.")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Match:
    """What a pattern stands for."""

    name: str
    """A file, folder or other name."""
    varying: tuple[str, ...]
    """What stands in place of each brace and wildcard of the pattern."""


def expand(pattern: str, where: str, *, made: Iterable[str] = ()) -> list[Match]:
    """Return what a pattern stands for: braces in their order, globs in the order of numbers and names.

    Args:
        pattern: such as `data/syc_{0,5,10,20}pct.json`, `data/run{1..4}.json`, `data/syc_*pct.json`.
        where: the key that it stands in.
        made: files that are not there yet and will be.

    Raises:
        UserError: it is empty, braces hold one thing alone, or no file has such a name.
    """
    if not pattern.strip():
        raise UserError("an empty name", where=where, fix="name a file, or a pattern")
    found: list[Match] = []
    for alternative, varying in _alternatives(pattern, where):
        if not GLOB.search(alternative):
            found.append(Match(alternative, varying))
            continue
        globbed = [Match(name, (*varying, *parts)) for name, parts in _globbed(alternative, made)]
        if not globbed:
            raise UserError(f"no file is called {alternative}", where=where, fix="mend the pattern, or make the files")
        found += sorted(globbed, key=lambda match: [_natural(part) for part in match.varying])
    return found


def values_of(matches: Sequence[Match]) -> list[Value | None]:
    """Return what varies over the matches of one pattern: a number where it is one in all of them, else its text.

    What all have in common around it is left out: of `0pct`, `5pct`, `10pct` the numbers vary. None where nothing
    varies, or the pattern has no part that could.
    """
    columns = [column for column in zip(*(match.varying for match in matches), strict=True) if len(set(column)) > 1]
    if len(matches) < 2 or not columns:
        return [None] * len(matches)
    if len(columns) > 1:
        return ["-".join(parts) for parts in zip(*columns, strict=True)]
    bare = _without_common(columns[0])
    if all(_NUMBER.fullmatch(text) for text in bare):
        return [float(text) for text in bare]
    return list(columns[0])


def _alternatives(pattern: str, where: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    brace = _BRACES.search(pattern)
    if brace is None:
        yield pattern, ()
        return
    if (numbers := _RANGE.fullmatch(brace[1])) is not None:
        first, last, step = int(numbers[1]), int(numbers[2]), int(numbers[3] or 1) or 1
        sign = 1 if last >= first else -1
        choices = [str(number) for number in range(first, last + sign, sign * step)]
    else:
        choices = [choice.strip() for choice in brace[1].split(",")]
    if len(choices) < 2:
        raise UserError(f"{brace[0]} stands for one thing alone", where=where, fix="write {0,5,10} or {1..4}")
    for choice in choices:
        for rest, varying in _alternatives(pattern[brace.end() :], where):
            yield pattern[: brace.start()] + choice + rest, (choice, *varying)


def _globbed(pattern: str, made: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    captured = re.compile(_captured(pattern))
    there = glob.glob(pattern, recursive=True)  # noqa: PTH207 - absolute patterns too
    for name in sorted({*there, *made}):
        if (match := captured.fullmatch(name)) is not None:
            yield name, tuple(match.groups())


def _captured(pattern: str) -> str:
    """Return a regular expression for a glob, with a group for each wildcard."""
    made, place = "", 0
    while place < len(pattern):
        if pattern.startswith("**", place):
            made, place = f"{made}(.*)", place + 2
        elif pattern[place] == "*":
            made, place = rf"{made}([^/]*)", place + 1
        elif pattern[place] == "?":
            made, place = f"{made}([^/])", place + 1
        elif pattern[place] == "[" and (end := pattern.find("]", place + 2)) > 0:
            inside = pattern[place + 1 : end].replace("\\", "\\\\")
            made, place = f"{made}([{'^' + inside[1:] if inside[0] == '!' else inside}])", end + 1
        else:
            made, place = made + re.escape(pattern[place]), place + 1
    return made


def _natural(text: str) -> list[tuple[int, float, str]]:
    """Return what sorts `5pct` before `10pct`."""
    return [(0, float(part), "") if part[0].isdigit() else (1, 0.0, part) for part in _TOKENS.findall(text)]


def _without_common(texts: Sequence[str]) -> list[str]:
    """Leave out what all have in common at the beginning and the end; numbers and words stay whole."""
    split = [_TOKENS.findall(text) for text in texts]
    while all(split) and len({parts[0] for parts in split}) == 1:
        split = [parts[1:] for parts in split]
    while all(split) and len({parts[-1] for parts in split}) == 1:
        split = [parts[:-1] for parts in split]
    return ["".join(parts) for parts in split]


def plain(text: str) -> str:
    """Return a text as it can name a folder."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("._-") or "x"


def names_of(matches: Sequence[str]) -> list[str]:
    """Return a plain name for each: the file's, with the folders above it where that alone would not do."""
    paths = [PurePath(match) for match in matches]
    for depth in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        names = [plain("-".join([*path.parts[-depth:-1], _stem(path)])) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{plain(_stem(path))}-{number}" for number, path in enumerate(paths, start=1)]


def _stem(path: PurePath) -> str:
    """Return a file's name without what says how it is written; of a folder or a dataset's name, all of it."""
    name = path.name
    for suffix in (".gz", ".zst", ".json", ".jsonl", ".parquet", ".eval"):
        name = name.removesuffix(suffix)
    return name or path.name
