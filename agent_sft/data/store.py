"""Datasets by name and version: immutable, found by what they contain, in a folder or behind a URL.

objects/DIGEST            the content, named by its SHA-256
cards/NAME/VERSION.json   what a version holds; written once, after its content
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from agent_sft.data.places import FolderPlace, Place, place_at
from agent_sft.errors import UserError, nearest
from agent_sft.files import digest_file, read_json

STORE_VARIABLE = "AGENT_SFT_STORE"
HOME_VARIABLE = "AGENT_SFT_HOME"
LATEST = "latest"
DATASET = "dataset"
LISTS = {DATASET: "agent-sft data list", "capability": "agent-sft capability list"}
PLURALS = {DATASET: "datasets", "capability": "capabilities"}
OBJECTS, CARDS = "objects", "cards"

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.))*")
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?")
REFERENCE = re.compile(r"(?P<name>[^@/\\]+)@(?P<version>[^@/\\]+)")


@dataclass(frozen=True)
class Card:
    """What is known of one version of a dataset."""

    name: str
    version: str
    digest: str
    """`sha256:` and the digest of the content."""
    size: int
    """Bytes."""
    file: str
    """Name of the file that was pushed."""
    created: str
    origin: str
    licence: str | None
    transforms: tuple[str, ...]
    """What was done to it before, as far as that is known."""
    rows: int
    """Of a capability: its tools."""
    turns: int

    @property
    def reference(self) -> str:
        """How the version is named where a file is expected."""
        return f"{self.name}@{self.version}"

    @property
    def sorting(self) -> tuple[Any, ...]:
        """Key that sorts by name, then from the oldest to the newest version."""
        return (self.name, *_order(self.version))


@dataclass(frozen=True)
class Resolved:
    """A version with its content at hand."""

    path: Path
    card: Card


class Store:
    """The datasets of one place, or what else is kept by name and version there."""

    def __init__(self, place: Place, noun: str = DATASET) -> None:
        self._place = place
        self._noun = noun

    @classmethod
    def at(cls, where: str | None = None, *, noun: str = DATASET) -> Store:
        """Return the store in a folder or behind a URL; the user's own when none is given.

        Args:
            where: the folder or URL of datasets.
            noun: what is kept, if it is something else: in a folder of its own there.

        Raises:
            UserError: there is no way to reach such a URL.
        """
        return cls(place_at(_where(where or os.environ.get(STORE_VARIABLE), noun)), noun)

    def push(
        self,
        path: Path,
        name: str,
        version: str,
        *,
        rows: Iterable[Any],
        origin: str | None = None,
        licence: str | None = None,
        transforms: Iterable[str] = (),
    ) -> tuple[Card, bool]:
        """Store a file as a version of a dataset; return its card, and whether it is new.

        The same content under the same version again changes nothing.

        Args:
            path: the file.
            name: of the dataset.
            version: such as 0.1.0.
            rows: the file's rows, to be counted.
            origin: where the data comes from; the file's path when not given.
            licence: its licence.
            transforms: what was done to it; taken from a `data_report.json` beside the file when empty.

        Raises:
            UserError: the name or the version cannot be used, the version exists with other content, the file
                cannot be read, or the store cannot be written.
        """
        check_name(name)
        if not VERSION.fullmatch(version):
            raise UserError(f"'{version}' is no version", where="--version", fix="three numbers, such as 0.1.0")
        count = turns = 0
        for row in rows:
            count += 1
            turns += _turns(row)
        card = Card(
            name=name,
            version=version,
            digest=digest_file(path),
            size=path.stat().st_size,
            file=path.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            origin=origin or str(path),
            licence=licence,
            transforms=tuple(transforms) or tuple(_reported(path)),
            rows=count,
            turns=turns,
        )
        if (known := self._card(name, version)) is None:
            self._place.put_file(_object(card.digest), path)
            if self._place.put_new(f"{CARDS}/{name}/{version}.json", orjson.dumps(asdict(card), option=_PRETTY)):
                return card, True
            known = self._card(name, version)
        if known is None or known.digest != card.digest:
            raise UserError(
                f"{card.reference} exists with other content: versions do not change",
                where=str(path),
                fix="push it as a new version",
            )
        return known, False

    def cards(self) -> list[Card]:
        """Return all versions of all datasets, by name and version."""
        found = []
        for name in self._place.names(CARDS):
            for entry in self._place.names(f"{CARDS}/{name}"):
                if entry.endswith(".json") and (card := self._card(name, entry.removesuffix(".json"))) is not None:
                    found.append(card)
        return sorted(found, key=lambda card: card.sorting)

    def card(self, reference: str) -> Card:
        """Return the card of NAME@VERSION, NAME@latest or NAME, which means the latest.

        Raises:
            UserError: there is none; with the nearest name, or the versions that there are.
        """
        name, _, version = reference.partition("@")
        check_name(name, where=None)
        if version not in ("", LATEST):
            if not VERSION.fullmatch(version):
                raise UserError(f"'{version}' is no version", where=reference, fix="such as 0.1.0, or latest")
            if (card := self._card(name, version)) is not None:
                return card
        names = self._place.names(CARDS)
        if name not in names:
            hint = nearest(name, names) or (f"there are: {', '.join(names[:8])}" if names else "nothing was pushed yet")
            raise UserError(f"there is no {self._noun} '{name}' in {self._place.where}", where=reference, fix=hint)
        cards = sorted(self._versions(name), key=lambda card: card.sorting)
        if not cards or version not in ("", LATEST):
            versions = [card.version for card in cards]
            fix = nearest(version, versions) or f"see `{LISTS[self._noun]}`"
            raise UserError(f"'{name}' has the versions {', '.join(versions) or 'none'}", where=reference, fix=fix)
        return cards[-1]

    def fetch(self, card: Card) -> Path:
        """Return a file with a version's content; what is not in a folder is kept in the cache.

        Raises:
            UserError: the content is missing or damaged.
        """
        if isinstance(self._place, FolderPlace):
            path = self._place.path(_object(card.digest))
        else:
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            path = home / "agent-sft" / "datasets" / card.digest.removeprefix("sha256:")
            if not path.is_file():
                self._fetch_to(path, card)
        if not path.is_file() or digest_file(path) != card.digest:
            raise UserError(f"the content of {card.reference} is missing or damaged", where=str(path))
        return path

    def _fetch_to(self, path: Path, card: Card) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetching-") as scratch:
            fetched = Path(scratch) / "content"
            self._place.get_file(_object(card.digest), fetched)
            if digest_file(fetched) == card.digest:
                fetched.replace(path)

    def _versions(self, name: str) -> Iterator[Card]:
        for entry in self._place.names(f"{CARDS}/{name}"):
            if entry.endswith(".json") and (card := self._card(name, entry.removesuffix(".json"))) is not None:
                yield card

    def _card(self, name: str, version: str) -> Card | None:
        content = self._place.read(f"{CARDS}/{name}/{version}.json")
        if content is None:
            return None
        try:
            value = orjson.loads(content)
            return Card(**{**value, "transforms": tuple(value["transforms"])})
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            where = f"{self._place.where}, {name}@{version}"
            raise UserError("the card is damaged", where=where) from error


def is_reference(given: str) -> bool:
    """Tell whether a name that is no file names a version of a dataset."""
    return REFERENCE.fullmatch(given) is not None and not Path(given).exists()


def resolve(reference: str, where: str | None = None) -> Resolved:
    """Return the content of NAME@VERSION or NAME@latest.

    Raises:
        UserError: there is no such dataset or version, or its content is damaged.
    """
    store = Store.at(where)
    card = store.card(reference)
    return Resolved(store.fetch(card), card)


def local_path(given: Path) -> Path:
    """Return the file that a path or NAME@VERSION stands for; a file of that name wins."""
    return resolve(str(given)).path if is_reference(str(given)) else given


def check_name(name: str, *, where: str | None = "--name") -> None:
    """Refuse what cannot be the name of a dataset.

    Args:
        name: the name.
        where: where it was given.

    Raises:
        UserError: it could lead out of the store, or could not be told from a version.
    """
    if not NAME.fullmatch(name):
        fix = "letters, digits, - _ and single dots, beginning with a letter or digit"
        raise UserError(f"'{name}' cannot be the name of a dataset", where=where, fix=fix)


def _object(digest: str) -> str:
    return f"{OBJECTS}/{digest.removeprefix('sha256:')}"


def _order(version: str) -> tuple[Any, ...]:
    match = VERSION.fullmatch(version)
    assert match is not None, version
    # A version with a suffix comes before the one without.
    return (*(int(part) for part in match.groups()[:3]), match[4] is None, match[4] or "")


def _turns(row: Any) -> int:
    if not isinstance(row, dict):
        return 0
    given = row.get("conversations", row.get("messages"))
    return len(given) if isinstance(given, list) else 0


def _reported(path: Path) -> list[str]:
    """Return what the preparation of a file did, if it left its report beside it."""
    report = read_json(path.with_name("data_report.json"))
    entry = report.get(path.stem) if isinstance(report, dict) else None
    changes = entry.get("changes") if isinstance(entry, dict) else None
    return sorted(changes) if isinstance(changes, dict) else []


def _where(given: str | None, noun: str) -> str:
    """Return the place of what is kept by name and version."""
    if given is not None:
        return given if noun == DATASET else f"{given.rstrip('/')}/{PLURALS[noun]}"
    home = os.environ.get(HOME_VARIABLE)
    return str((Path(home) if home else Path.home() / ".agent-sft") / PLURALS[noun])


_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
