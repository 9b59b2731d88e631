"""A file of rows to a dataset that LLaMA-Factory reads, each row kept or rejected with a reason.

Beside the data a folder holds `dataset_info.json`, `rejects.jsonl` and `data_report.json`; several datasets can
share it, and preparing one leaves what belongs to the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import orjson

from agent_sft.data.ahead import Ahead
from agent_sft.data.capabilities import Capability
from agent_sft.data.dataset_info import INFO_NAME, check_dataset_name, info_content, read_info
from agent_sft.data.dialects import dialect_of
from agent_sft.data.examples import Reading, Writing
from agent_sft.data.folders import new_folder
from agent_sft.data.formats import FORMATS, format_named, openai
from agent_sft.data.report import PrepareReport, Tally
from agent_sft.data.rewards import Rewards
from agent_sft.data.scaffold import Scaffold
from agent_sft.data.sources import Given, Opener, open_sources
from agent_sft.errors import UserError
from agent_sft.files import atomic_writer, read_json

REJECTS_NAME = "rejects.jsonl"
REPORT_NAME = "data_report.json"


class NothingUsable(UserError):
    """No row of the data can be trained on."""


def prepare_dataset(
    source: Given | Iterable[Given],
    *,
    name: str,
    folder: Path,
    template: str = "qwen",
    form: str | None = None,
    rewards: Rewards | None = None,
    opener: Opener | None = None,
    trail: IO[bytes] | None = None,
    ahead: Ahead | None = None,
    capability: Capability | None = None,
) -> PrepareReport:
    """Write the usable rows of a source, or of several, as the dataset `name` of `folder`; the others as rejects.

    Nothing is written before the last row was read: an error leaves `folder` as it was.

    Args:
        source: files, globs, or what else `open_sources` takes; each in a format of its own.
        name: what the dataset is called in `dataset_info.json`.
        folder: where the dataset goes; made if it is missing.
        template: the chat template that it is trained with, which decides what a turn can carry.
        form: the format of the rows, by its name; recognised from the first ones when not given.
        rewards: which rows are left out for their reward.
        opener: how sources are read that are no JSON (see `open_sources`).
        trail: takes a line for each row that is read, in order, with what became of it.
        ahead: what was made of the source already while it was written; used if that is what is asked for.
        capability: what is put before every conversation.

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
    dialect = dialect_of(template)
    scaffold = Scaffold.of(capability, dialect) if capability is not None else None
    reading = Reading(dialect, rewards or Rewards(), {}, scaffold)
    shown = ", ".join(str(one) for one in given)
    made = None
    if ahead is not None and asked is FORMATS[openai.NAME] and rewards is None and capability is None:
        made = ahead.lines_of(shown, name, template)
    with new_folder(folder), contextlib.ExitStack() as stack:
        # What is opened first is put in its place last: the declaration, when the data is there.
        info_file = stack.enter_context(atomic_writer(paths["info_path"]))
        report_file = stack.enter_context(atomic_writer(paths["report_path"]))
        rejects_file = stack.enter_context(atomic_writer(paths["rejects_path"]))
        data_file = stack.enter_context(atomic_writer(data_path, content=made))
        others = _copy_rejects_of_others(paths["rejects_path"], name, rejects_file)
        if ahead is not None and asked is not None and made is not None:
            tally = ahead.hand_over(rejects=rejects_file, trail=trail)
            reading.forms[shown] = asked
        else:
            writing = Writing(reading, name=name, lines=data_file, rejects=rejects_file, trail=trail)
            writing.write_all(sources, asked)
            tally = writing.tally
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
    if ahead is not None and made is not None:
        ahead.close()  # its file has a name now
    if not others and not report.has_rejects:
        paths["rejects_path"].unlink()
    return report


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


def _nothing_usable(source: str, tally: Tally) -> NothingUsable:
    reasons = "\n  ".join(f"row {number}: {reason}" for number, reason in tally.first_rejects)
    rows = "the only row cannot" if tally.rows_read == 1 else f"none of the {tally.rows_read:,} rows can"
    return NothingUsable(f"{rows} be trained on; nothing was written", where=source, fix=reasons)
