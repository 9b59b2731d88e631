"""A file of rows to a dataset that LLaMA-Factory reads, each row kept or rejected with a reason.

Beside the data a folder holds `dataset_info.json`, `rejects.jsonl` and `data_report.json`; several datasets can
share it, and preparing one leaves what belongs to the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import orjson

from agent_sft.data.carrier import carry
from agent_sft.data.common import example_of_chat
from agent_sft.data.conversation import Origin
from agent_sft.data.dataset_info import INFO_NAME, check_dataset_name, info_content, read_info
from agent_sft.data.dialects import Dialect, dialect_of
from agent_sft.data.folders import new_folder
from agent_sft.data.formats import FORMATS, Format, detect, format_named, openai, sharegpt
from agent_sft.data.ledger import encoded
from agent_sft.data.report import PrepareReport, Tally
from agent_sft.data.sharegpt import Example, normalise
from agent_sft.data.sources import Given, Opener, open_sources
from agent_sft.data.turns import Unusable, has_plain_roles
from agent_sft.errors import UserError
from agent_sft.files import atomic_writer, read_json

REJECTS_NAME = "rejects.jsonl"
REPORT_NAME = "data_report.json"


LOOKED_AT = 20
"""How many rows are looked at to find out what they are."""


class NothingUsable(UserError):
    """No row of the data can be trained on."""


class LeftOut(Exception):
    """A row is not wanted: nothing is wrong with it."""


@dataclass(frozen=True)
class Reading:
    """How rows become examples."""

    dialect: Dialect
    min_reward: float | None
    forms: dict[str, Format]
    """By source."""

    def examples(self, origin: Origin, row: Any) -> tuple[Example, ...]:
        """Return what is trained on of a row.

        A ShareGPT row that can be used as it stands keeps its texts to the byte.

        Raises:
            Unusable: nothing can be; the message is the reason.
            LeftOut: its reward is below the one that was asked for.
        """
        form = self.forms[origin.file]
        if form is FORMATS[sharegpt.NAME]:
            self._check_reward(row if isinstance(row, dict) else {})
            try:
                return (normalise(row, self.dialect),)
            except Unusable as unusable:
                try:
                    return carry(form.read(row, origin), self.dialect)
                except Unusable as carried:
                    # Roles by other names are understood by the second reading alone: it knows what is wrong.
                    raise (unusable if has_plain_roles(row) else carried) from None
        conversation = form.read(row, origin)
        self._check_reward(conversation.metadata)
        return carry(conversation, self.dialect)

    def common_example(self, origin: Origin, row: Any) -> dict[str, Any] | None:
        """Return the only row to write for a row to which nothing has to be done; None where `examples` has to look."""
        if self.forms[origin.file] is not FORMATS[openai.NAME] or self.min_reward is not None:
            return None
        return example_of_chat(row, self.dialect)

    def _check_reward(self, metadata: Any) -> None:
        if self.min_reward is None:
            return
        reward = metadata.get("reward")
        if isinstance(reward, bool) or not isinstance(reward, int | float):
            raise Unusable("it has no reward, which --min-reward looks at")
        if reward < self.min_reward:
            raise LeftOut(f"its reward, {reward:g}, is below {self.min_reward:g}")


def prepare_dataset(
    source: Given | Iterable[Given],
    *,
    name: str,
    folder: Path,
    template: str = "qwen",
    form: str | None = None,
    min_reward: float | None = None,
    opener: Opener | None = None,
    trace: Callable[[Origin, int], None] | None = None,
) -> PrepareReport:
    """Write the usable rows of a source, or of several, as the dataset `name` of `folder`; the others as rejects.

    Nothing is written before the last row was read: an error leaves `folder` as it was.

    Args:
        source: files, globs, or what else `open_sources` takes; each in a format of its own.
        name: what the dataset is called in `dataset_info.json`.
        folder: where the dataset goes; made if it is missing.
        template: the chat template that it is trained with, which decides what a turn can carry.
        form: the format of the rows, by its name; recognised from the first ones when not given.
        min_reward: leave out rollouts with a reward below it.
        opener: how sources are read that are no JSON (see `open_sources`).
        trace: told of every row, in order, how many examples were made of it.

    Raises:
        NothingUsable: no row can be trained on.
        UserError: the name or a source cannot be used, or `folder` cannot be written.
    """
    check_dataset_name(name)
    asked = format_named(form) if form is not None else None
    data_path = folder / f"{name}.jsonl"
    paths = {
        "data_path": data_path,
        "info_path": folder / INFO_NAME,
        "rejects_path": folder / REJECTS_NAME,
        "report_path": folder / REPORT_NAME,
    }
    given = [source] if isinstance(source, str | Path) else list(source)
    sources = open_sources(given, opener=opener)
    for one in sources:
        if one.path is not None and any(_is_same_file(path, one.path) for path in paths.values()):
            raise UserError(
                "is the file that preparing it would write",
                where=one.name,
                fix="choose another output folder or name",
            )
    info = read_info(paths["info_path"])
    reading = Reading(dialect_of(template), min_reward, {})
    tally = Tally()
    with new_folder(folder), contextlib.ExitStack() as stack:
        # What is opened first is put in its place last: the declaration, when the data is there.
        info_file = stack.enter_context(atomic_writer(paths["info_path"]))
        report_file = stack.enter_context(atomic_writer(paths["report_path"]))
        rejects_file = stack.enter_context(atomic_writer(paths["rejects_path"]))
        data_file = stack.enter_context(atomic_writer(data_path))
        others = _copy_rejects_of_others(paths["rejects_path"], name, rejects_file)
        for one in sources:
            for origin, row in _recognised(one.rows(), one.name, asked, reading.forms):
                place = {"source": one.name} if len(sources) > 1 else {}
                reject = {"dataset": name, **place, "row": origin.row}
                if (common := reading.common_example(origin, row)) is not None and (line := _line_or_none(common)):
                    data_file.write(line)
                    tally.keep_unchanged(len(common["conversations"]))
                    if trace is not None:
                        trace(origin, 1)
                    continue
                try:
                    examples = reading.examples(origin, row)
                    lines = [_line(example.as_row()) for example in examples]
                except (Unusable, LeftOut) as unusable:
                    reason = str(unusable)
                    left_out = isinstance(unusable, LeftOut)
                    tally.reject(origin.row, reason, left_out=left_out)
                    further = {"left_out": True} if left_out else {}
                    examples = ()
                    rejects_file.write(encoded({**reject, "reason": reason, **further, "data": row}))
                else:
                    tally.keep(examples)
                    data_file.writelines(lines)
                if trace is not None:
                    trace(origin, len(examples))
        shown = ", ".join(str(one) for one in given)
        if not tally.rows_kept:
            raise _nothing_usable(shown, tally)
        titles = ", ".join(dict.fromkeys(found.title for found in reading.forms.values()))
        report = PrepareReport.from_tally(
            tally, dataset=name, source=shown, template=template, form=titles, recognised=asked is None, **paths
        )
        reports = read_json(paths["report_path"])
        reports = {**(reports if isinstance(reports, dict) else {}), name: report.as_json()}
        report_file.write(orjson.dumps(reports, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        info_file.write(info_content(info, name, data_path.name))
        for stream in (data_file, rejects_file, report_file, info_file):
            stream.flush()  # a full disk shows here, before any of them is in its place
    if not others and not report.has_rejects:
        paths["rejects_path"].unlink()
    return report


def _recognised(
    rows: Iterator[tuple[Origin, Any]], name: str, asked: Format | None, forms: dict[str, Format]
) -> Iterator[tuple[Origin, Any]]:
    """Yield the rows of a source, its format noted in `forms` before the first one."""
    first = list(islice(rows, LOOKED_AT))
    forms[name] = asked or detect((row for _, row in first), name)
    yield from chain(first, rows)


def _is_same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:  # one of them is not there
        return False


def _copy_rejects_of_others(path: Path, name: str, target: IO[bytes]) -> bool:
    """Copy the rejects of the folder's other datasets; tell whether there are any."""
    if not path.is_file():
        return False
    found = False
    with path.open("rb") as stream:
        for line in stream:
            try:
                reject = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(reject, dict) and reject.get("dataset", name) != name:
                target.write(line)
                found = True
    return found


def _line(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        raise Unusable("one of its texts holds half a character (a lone \\ud800 to \\udfff)") from error


def _line_or_none(row: dict[str, Any]) -> bytes | None:
    try:
        return _line(row)
    except Unusable:
        return None


def _nothing_usable(source: str, tally: Tally) -> NothingUsable:
    reasons = "\n  ".join(f"row {number}: {reason}" for number, reason in tally.first_rejects)
    rows = "the only row cannot" if tally.rows_read == 1 else f"none of the {tally.rows_read:,} rows can"
    return NothingUsable(f"{rows} be trained on; nothing was written", where=source, fix=reasons)
