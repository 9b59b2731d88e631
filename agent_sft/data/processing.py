"""Data through a pipeline: the rows that come out as OpenAI chat rows, with the rejects and the ledger beside them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from agent_sft.data.ahead import Ahead
from agent_sft.data.amounts import CHARACTERS, TURNS
from agent_sft.data.conversation import Origin
from agent_sft.data.flow import Flow
from agent_sft.data.folders import new_folder
from agent_sft.data.formats import format_named
from agent_sft.data.ledger import INFLOWS, OUTFLOWS, Ledger
from agent_sft.data.pipeline import Pipeline
from agent_sft.data.rewards import Rewards
from agent_sft.data.sources import Given, Opener, open_sources
from agent_sft.errors import UserError
from agent_sft.files import atomic_writer

REJECTS_NAME = "rejects.jsonl"
REPORT_NAME = "data_report.json"

EVAL_SUFFIX = "_eval"
"""What the name of the file with the rows held out ends with."""


@dataclass(frozen=True)
class ProcessReport:
    """What a pipeline did to data."""

    source: str
    form: str
    """What the rows were read as."""
    rows: Mapping[str, int]
    """By fate: read, kept, changed, split, left out, rejected, made, written."""
    rejected: int
    """Rows, and parts of rows that were split, that are rejects."""
    balance: Mapping[str, Mapping[str, int]]
    """Turns and characters by what became of them."""
    transforms: Mapping[str, Mapping[str, int]]
    """Rows changed, left out, rejected, split or made by each transform."""
    first_rejects: tuple[tuple[Origin, str], ...]
    output: Path
    eval_output: Path | None
    """The rows held out by `split`, if there are any."""
    held_out: int
    """How many these are."""
    rejects_path: Path | None
    report_path: Path

    @property
    def files(self) -> list[Path]:
        """The files that were made."""
        return [path for path in (self.output, self.eval_output, self.rejects_path, self.report_path) if path]

    def lines(self) -> list[str]:
        """Return what to print, one fact a line."""
        rows = {fate: self.rows.get(fate, 0) for fate in ("read", "kept", "split", "left out", "rejected", "changed")}
        lines = [
            f"{self.source} ({self.form}): {rows['read']:,} rows, {rows['kept']:,} kept, {rows['changed']:,} of them"
            f" changed, {rows['split']:,} split, {rows['left out']:,} left out, {rows['rejected']:,} rejected"
        ]
        for name, counts in self.transforms.items():
            said = ", ".join(f"{count:,} {what}" for what, count in counts.items())
            lines.append(f"{name}: {said or 'nothing to do'}")
        for unit in (TURNS, CHARACTERS):
            flows = self.balance[unit]
            came_in, became = (
                " + ".join(f"{flows[flow]:,} {flow}" for flow in part if flow == "read" or flows[flow])
                for part in (INFLOWS, OUTFLOWS)
            )
            lines.append(f"{unit}: {came_in} = {became}")
        lines.append(f"output: {self.output}")
        if self.eval_output is not None:
            lines.append(f"held out for the evaluation: {self.eval_output}")
        if self.rejects_path is not None:
            lines.append(f"rejects, with reasons: {self.rejects_path}")
            lines += [f"  row {origin.row}: {reason}" for origin, reason in self.first_rejects]
        return lines


def process_data(
    source: Given | Iterable[Given],
    pipeline: Pipeline,
    *,
    output: Path,
    form: str | None = None,
    rewards: Rewards | None = None,
    opener: Opener | None = None,
    described: Mapping[str, Any] | None = None,
    trail: IO[bytes] | None = None,
    ahead: Ahead | None = None,
) -> ProcessReport:
    """Run a pipeline over a source, or several, and write what comes out, as JSON lines of OpenAI chat rows.

    Rows that `split` held out go to a file of their own, `NAME_eval.jsonl`; `rejects.jsonl` and `data_report.json`
    lie beside the output. Nothing is written before the last row was read.

    Args:
        source: files, globs, or what else `open_sources` takes.
        pipeline: the transforms; a pipeline runs once.
        output: where the rows go.
        form: the format of the rows, recognised from the first ones when not given.
        rewards: which rows are left out for their reward, before the first transform sees them.
        opener: how sources are read that are no JSON (see `open_sources`).
        described: what the report says of the pipeline.
        trail: takes a line for each row that is written, in order: where it came from, whether it was held out.
        ahead: gets what the preparation will make of the rows that are written and not held out.

    Raises:
        UserError: the source cannot be read, a transform failed, no row is left, or a place cannot be written.
    """
    asked = format_named(form) if form is not None else None
    given = [source] if isinstance(source, str | Path) else list(source)
    sources = open_sources(given, opener=opener)
    eval_path = output.with_name(f"{output.stem}{EVAL_SUFFIX}{output.suffix}")
    rejects_path, report_path = output.with_name(REJECTS_NAME), output.with_name(REPORT_NAME)
    places = (output, eval_path, rejects_path, report_path)
    for one in sources:
        if one.path is not None and any(one.path.resolve() == place.resolve() for place in places):
            raise UserError("is a file that the pipeline would write", where=one.name, fix="choose another output")
    if output in places[1:]:
        raise UserError("is a name that is needed for something else", where=str(output), fix="choose another")
    ledger = Ledger(pipeline.names)
    with contextlib.closing(ledger), new_folder(output.parent), contextlib.ExitStack() as stack:
        report_file = stack.enter_context(atomic_writer(report_path))
        rejects_file = stack.enter_context(atomic_writer(rejects_path))
        eval_file = stack.enter_context(atomic_writer(eval_path))
        file = stack.enter_context(atomic_writer(output))
        prepared = ahead.begin(output) if ahead is not None and pipeline.is_built_in else None
        flow = Flow(
            pipeline,
            ledger,
            file,
            eval_file,
            rejects_file,
            rewards=rewards or Rewards(),
            trail=trail,
            prepared=prepared,
        )
        forms = dict.fromkeys(one.title if one else "raw rows" for one in flow.through(sources, asked))
        titles, held_out = ", ".join(forms), flow.held_out
        shown = ", ".join(str(one) for one in given)
        if ledger.rows["written"] == held_out:
            raise _nothing_left(shown, ledger)
        head = {"source": shown, "format": titles, **(described or {})}
        ledger.write(report_file, head)
        for stream in (file, eval_file, rejects_file, report_file):
            stream.flush()  # a full disk shows here, before any of them is in its place
    if ahead is not None and prepared is not None:
        ahead.finish(output, prepared)
    rejected = ledger.rows["rejected"] + ledger.parts["rejected"]
    for path, wanted in ((rejects_path, rejected > 0), (eval_path, held_out > 0)):
        if not wanted:
            path.unlink()
    return ProcessReport(
        source=shown,
        form=titles,
        rows=dict(ledger.rows),
        rejected=rejected,
        balance=ledger.balance.as_json(),
        transforms={name: dict(+tally.rows) for name, tally in ledger.transforms.items()},
        first_rejects=tuple(ledger.first_rejects),
        output=output,
        eval_output=eval_path if held_out else None,
        held_out=held_out,
        rejects_path=rejects_path if rejected else None,
        report_path=report_path,
    )


def _nothing_left(source: str, ledger: Ledger) -> UserError:
    reasons = [f"row {origin.row}: {reason}" for origin, reason in ledger.first_rejects]
    left_out = ledger.rows["left out"] + ledger.parts["left out"]
    reasons += [f"{left_out:,} left out by the pipeline"] if left_out else []
    return UserError(
        f"of {ledger.rows['read']:,} rows none is left to train on; nothing was written",
        where=source,
        fix="\n  ".join(reasons),
    )
