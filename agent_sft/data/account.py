"""The one ledger of a run: what became of every row of its input, from the file to the examples that are trained on.

The pipeline, the preparation and the fitting each leave a record of what they did, in the order in which they wrote
their rows. Here the records are followed side by side, a row at a time, so that memory does not grow with the data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from agent_sft.data.account_report import FIT, PREPARE, Account
from agent_sft.data.amounts import CHARACTERS, TURNS, Amounts, measure
from agent_sft.data.compressed import open_bytes
from agent_sft.data.elements import Elements
from agent_sft.data.jsontext import loads_any
from agent_sft.data.ledger import encoded
from agent_sft.data.ranges import Ranges, parse_ranges
from agent_sft.data.trail import read_trail
from agent_sft.data.transforms.split import SPLIT

Use = Literal["trained on", "evaluated on"]
FATES = "fates"


@dataclass(frozen=True)
class DatasetRecord:
    """What the stages left about a dataset that LLaMA-Factory reads."""

    name: str
    use: Use
    trail: Path
    """What the preparation made of each row."""
    rejects: Path
    """Rows that it rejected."""
    fitted: Path | None = None
    """What the fitting did to examples; None where it had nothing to do."""
    tokens: Mapping[str, Any] | None = None
    """Tokens of the examples that were counted, by what became of them."""


@dataclass(frozen=True)
class ProcessRecord:
    """What the pipeline left."""

    report: Path
    trail: Path
    """Where each row that it wrote comes from."""
    rejects: Path
    held_out: Path
    """The rows that `split` held out."""


def account(
    process: ProcessRecord | None,
    trained: DatasetRecord,
    evaluated: DatasetRecord | None,
    *,
    evaluates_held_out: bool,
    changes: IO[bytes],
    rejects: IO[bytes],
) -> Account:
    """Follow every row of the input to its end.

    Args:
        process: the pipeline; None where the input was prepared as it was.
        trained: what is trained on.
        evaluated: what the evaluation loss is of, if anything.
        evaluates_held_out: whether that is what the pipeline held out, not data of its own.
        changes: gets a line for each row that is not just trained on as it was.
        rejects: gets a line for each row that cannot be used.

    Raises:
        AssertionError: amounts do not add up, which is a fault of this program.
    """
    followers = [_Follower(one, rejects) for one in (trained, evaluated) if one is not None]
    walk = _Walk(Account(), changes)
    if process is None:
        walk.datasets(followers)
    else:
        held_out = followers[-1] if evaluates_held_out else None
        walk.pipeline(process, followers[0], held_out, rejects)
        walk.datasets([one for one in followers[1:] if one is not held_out])
    for follower in followers:
        follower.close(walk.account)
    walk.account.check()
    return walk.account


@dataclass
class _Followed:
    """What became of a row behind the pipeline."""

    fate: str
    read: Amounts
    """What the preparation read."""
    made: Amounts
    """What is in the end trained or evaluated on."""
    form: dict[str, Any]
    """What writing it in LLaMA-Factory's form took away and added."""
    changes: list[dict[str, Any]]
    """What else was done to it."""
    origin: Mapping[str, Any]
    further: Mapping[str, Any]
    """What else there is to say."""
    lines: list[int]
    """The examples that were prepared from it, by their lines."""


class _Follower:
    """Follows the rows of a dataset through the preparation and the fitting."""

    def __init__(self, record: DatasetRecord, rejects: IO[bytes]) -> None:
        self.record = record
        self._entries = read_trail(record.trail)
        self._rejected = _of_dataset(record.rejects, record.name)
        self._rejects = rejects
        self._fitted = _Ahead(_of_dataset(record.fitted, record.name))
        self._counted = _Ahead(parse_ranges(str((record.tokens or {}).get("counted", ""))))
        self._line = self._written = 0

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return self._entries

    def follow(self, entry: Mapping[str, Any], origin: Mapping[str, Any], account: Account) -> _Followed:
        """Return what became of a row, entering what the preparation and the fitting did."""
        read = Counter(entry["read"])
        if "reason" in entry:
            fate = "left out" if entry["left_out"] else "rejected"
            reason = {"by": "reward" if entry["left_out"] else PREPARE, "reason": entry["reason"]}
            if fate == "rejected":
                told = {**origin, **reason, "data": next(self._rejected)["data"]}
                self._rejects.write(encoded(told))
            account.end(fate, read)
            return _Followed(fate, read, Counter(), {}, [], origin, reason, [])
        prepared: Amounts = sum(map(Counter, entry["made"]), Counter())
        form = account.step(PREPARE, prepared - read, read - prepared)
        changes = []
        if entry.get("changes"):
            changes.append({"by": PREPARE, "what": entry["changes"], **form})
            form = {}
        first = self._written + 1
        lines = range(self._line + 1, self._line + len(entry["made"]) + 1)
        made = Counter(prepared)
        for line in lines:
            self._count(line, origin, account)
            done = self._fitted.take(line, "row")
            self._written += 1 if done is None else done["examples"]
            if done is not None:
                cut, repeated = Counter(done["cut"]), Counter(done["repeated"])
                made.update(repeated)
                made.subtract(cut)
                found = account.step(FIT, repeated, cut)
                changes.append({"by": FIT, "what": done["what"], **found})
        self._line = lines.stop - 1
        made = Counter({unit: made[unit] for unit in (TURNS, CHARACTERS)})
        fate = self.record.use if self._written >= first else "dropped"
        account.end(fate, made)
        account.examples[self.record.use] += self._written - first + 1
        further: dict[str, Any] = {}
        if fate != "dropped":
            named = Ranges()
            for line in range(first, self._written + 1):
                named.add(line)
            further = {"dataset": self.record.name, "examples": str(named)}
        return _Followed(fate, read, made, form, changes, origin, further, list(lines))

    def close(self, account: Account) -> None:
        """Take over the totals of tokens, and see that every record was used up.

        Raises:
            AssertionError: something was recorded of a row that was not there.
        """
        assert next(self._entries, None) is None, f"{self.record.trail} has more rows than were written"
        assert self._fitted.empty, f"{self.record.fitted} names lines that are not there"
        account.add_tokens(self.record.name, self.record.use, self._line, self.record.tokens)

    def _count(self, line: int, origin: Mapping[str, Any], account: Account) -> None:
        if self._counted.take(line) is not None:
            account.counted.add(origin["file"], origin["row"])


class _Walk:
    """Goes through the rows in the order in which they were written."""

    def __init__(self, account: Account, changes: IO[bytes]) -> None:
        self.account = account
        self._changes = changes

    def datasets(self, followers: Iterable[_Follower]) -> None:
        """Enter data that was prepared as it was read."""
        for follower in followers:
            for entry in follower:
                origin = {"file": entry["file"], "row": entry["row"]}
                self.account.read(Counter(entry["read"]))
                self._enter(follower.follow(entry, origin, self.account), [])

    def pipeline(
        self, record: ProcessRecord, trained: _Follower, held_out: _Follower | None, rejects: IO[bytes]
    ) -> None:
        """Enter what went through a pipeline."""
        for line in _lines_of(record.rejects):
            rejects.write(line)
        with open_bytes(record.report) as stream:
            head, fates = _report(Elements(stream, str(record.report)))
            self.account.take_over(head)
            entries = _Ahead(fates)
            unused = _lines_of(record.held_out) if held_out is None else iter(())
            written: Amounts = Counter()
            for place in read_trail(record.trail):
                is_eval = place.pop("eval")
                done = self._ended_before(entries, place)
                if is_eval and held_out is None:
                    amounts = measure(loads_any(next(unused)))
                    self.account.end("held out", amounts)
                    followed = _Followed("held out", amounts, amounts, {}, [], place, {}, [])
                else:
                    follower = held_out if is_eval and held_out is not None else trained
                    followed = follower.follow(next(iter(follower)), place, self.account)
                written.update(followed.read)
                self._enter(followed, done)
            self._ended_before(entries, None)
        kept = {unit: head[unit]["kept"] for unit in (TURNS, CHARACTERS)}
        assert {unit: written[unit] for unit in kept} == kept, f"the pipeline wrote {kept}, {dict(written)} was read"

    def _ended_before(self, entries: _Ahead, place: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """Pass on what the pipeline tells of rows that it ended; return what it did to the row that comes next."""
        while (entry := entries.next) is not None:
            if entry["fate"] == "kept":
                if place is None or any(entry.get(key) != place.get(key) for key in ("file", "row", "part")):
                    return []
                entries.advance()
                return [change for change in entry.get("changes", ()) if not _only_marks(change)]
            entries.advance()
            self._changes.write(encoded(entry))
        return []

    def _enter(self, followed: _Followed, done: list[dict[str, Any]]) -> None:
        origin, part = followed.origin, "part" in followed.origin
        changes = [*done, *followed.changes]
        (self.account.parts if part else self.account.rows)[followed.fate] += 1
        plain = followed.fate in ("trained on", "evaluated on", "held out")
        several = len(followed.lines) > 1
        self.account.rows["changed"] += plain and bool(changes) and not part
        if plain and not changes and not part and not several:
            self.account.unchanged.add(origin["file"], origin["row"])
            return
        if followed.form:
            changes.append({"by": PREPARE, **followed.form})
        record = {**origin, "fate": followed.fate, **followed.further}
        if plain:
            record |= dict(followed.made)
        self._changes.write(encoded({**record, "changes": changes} if changes else record))


class _Ahead:
    """An iterator whose next element can be looked at."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self.next: Any = None
        self.advance()

    @property
    def empty(self) -> bool:
        """Whether nothing is left."""
        return self.next is None

    def advance(self) -> None:
        """Go on to the element after."""
        self.next = next(self._items, None)

    def take(self, number: int, key: str | None = None) -> Any:
        """Return the next element if it is this one, or holds it under `key`; then it is used up."""
        found = self.next
        if found is None or (found if key is None else found[key]) != number:
            return None
        self.advance()
        return found


def _only_marks(change: Mapping[str, Any]) -> bool:
    """Tell whether a change is the mark alone by which `split` says which set a row belongs to."""
    return len(change) == 1 and change["by"].startswith(SPLIT)


def _report(elements: Elements) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Return the totals of a pipeline's report, and what it tells of single rows, which comes last in it."""
    elements.next_mark()
    head: dict[str, Any] = {}
    for key, value in elements.members((FATES,)):
        if key == FATES:
            return head, (entry for _, entry in value)
        head[key] = value
    return head, iter(())


def _of_dataset(path: Path | None, name: str) -> Iterator[dict[str, Any]]:
    """Yield what a file tells of a dataset, without what was left out as asked."""
    lines = () if path is None else map(loads_any, _lines_of(path))
    yield from (line for line in lines if line["dataset"] == name and not line.get("left_out"))


def _lines_of(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as lines:
            yield from lines
