"""What conversations come from: each place resolved once, so that a glob and `@latest` mean the same all through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from agent_sft.data.rewards import Rewards
from agent_sft.data.sources import HUB, Source, open_sources
from agent_sft.data.store import is_reference, resolve
from agent_sft.errors import UserError
from agent_sft.files import digest_file, digest_value
from agent_sft.stages.outside import open_outside


@dataclass(frozen=True)
class Input:
    """One place that rows are read from."""

    name: str
    """As origins of rows name it: a file, NAME@VERSION, or hf:NAME."""
    content: Source | str
    """Where to read it, or its digest where that is known."""
    is_rollouts: bool = False
    """Whether it was given as rollouts of an agent."""

    @cached_property
    def digest(self) -> str:
        """The digest of its content; of a dataset on the hub, which is read when it is needed, the name.

        Raises:
            UserError: its content can be read only once.
        """
        return self.content if isinstance(self.content, str) else _digest(self.content)


def resolve_inputs(given: Iterable[str], trajectories: Iterable[str] = ()) -> tuple[Input, ...]:
    """Return all places that names stand for, in order, globs expanded by name.

    Args:
        given: files, globs, NAME@VERSION or hf:NAME.
        trajectories: the same, of rollouts.

    Raises:
        UserError: there is no such file, dataset or version, a glob matches nothing, or a place is named twice.
    """
    found: list[Input] = []
    seen: dict[str, str] = {}
    for names, is_rollouts in ((given, False), (trajectories, True)):
        for name in names:
            for one, place in _places(name, is_rollouts=is_rollouts):
                if place in seen:
                    also = "" if seen[place] == one.name else f", also as {seen[place]}"
                    raise UserError(f"is given twice{also}", where=one.name, fix="name every place once")
                seen[place] = one.name
                found.append(one)
    return tuple(found)


def rewards_of(inputs: Iterable[Input], minimum: float | None) -> Rewards:
    """Return what is asked of the rewards of rows from these places."""
    return Rewards(minimum, frozenset(one.name for one in inputs if one.is_rollouts))


def names(inputs: Iterable[Input]) -> list[str]:
    """Return what to read, in order."""
    return [one.name for one in inputs]


def digests(inputs: Iterable[Input]) -> dict[str, str]:
    """Return the digests by name, for stamps and records."""
    return {one.name: one.digest for one in inputs}


def _places(name: str, *, is_rollouts: bool) -> Iterator[tuple[Input, str]]:
    """Yield the places that a name stands for, each with what makes it the same as another."""
    if is_reference(name):
        card = resolve(name).card
        yield Input(card.reference, card.digest, is_rollouts), card.reference
        return
    for source in open_sources([name], opener=open_outside):
        if source.path is not None and not source.path.exists():
            raise UserError("no such file", where=source.name)
        if source.path is not None and source.path.is_dir():
            raise UserError("is a folder, not a file", where=source.name)
        yield Input(source.name, source, is_rollouts), str(source.path.resolve() if source.path else name)


def _digest(source: Source) -> str:
    if source.path is None:
        folder = Path(source.name.removeprefix(HUB))
        files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        return digest_value({str(path): digest_file(path) for path in files}) if files else source.name
    if not source.path.is_file():
        what = "is a pipe or a device: a run reads its data again when it goes on"
        raise UserError(what, where=source.name, fix="write it to a file first")
    return digest_file(source.path)
