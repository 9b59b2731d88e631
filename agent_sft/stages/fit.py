"""Prepared data to what is trained on: no example longer than the cutoff, and loss on the turns that should have it.

Data of which every row is short and every answer carries loss are left where they are, and no engine is started.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import orjson

from agent_sft import __version__
from agent_sft.data.cutoffs import CutoffTable, neighbours
from agent_sft.data.cutting import TOKENS, change_record
from agent_sft.data.dataset_info import INFO_NAME, info_content
from agent_sft.data.fitting import DROPPED, SUPERVISED, TOO_LONG, UNSUPERVISED, Counts, Fitted, Fitting
from agent_sft.data.overflow import beginnings, most_tokens
from agent_sft.data.ranges import Ranges
from agent_sft.data.supervision import is_flagged
from agent_sft.engines.llamafactory.encoding import (
    EncodingFacts,
    TurnCounts,
    counted_turns,
    encoding_settings,
    example_limit,
)
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import atomic_writer, write_atomic, write_json
from agent_sft.runs.directory import Stamp
from agent_sft.stages.base_model import model_identity
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.stage import Stage, example_digests

CHANGES_NAME, TABLE_NAME = "changes.jsonl", "fit_report.json"
SHOWN = 3
"""Rows that an error names."""


@dataclass
class Scan:
    """What is known of a dataset without a tokenizer."""

    rows: int = 0
    long: list[int] = field(default_factory=list)
    """Lines that may be longer than the cutoff."""
    flagged: bool = False
    """Whether turns say for themselves whether they carry loss."""


@dataclass
class Tally:
    """What was done to a dataset."""

    fates: Counter[str] = field(default_factory=Counter)
    examples: int = 0
    tokens: int = 0
    tokens_trained: int = 0
    too_long: list[str] = field(default_factory=list)
    counted: Ranges = field(default_factory=Ranges)
    """Rows whose tokens were counted."""
    tokens_cut: int = 0
    """Of them, the tokens that no example holds."""
    tokens_repeated: int = 0
    """Tokens that examples hold beyond those of their row."""

    def add(self, row: int, fitted: Fitted) -> None:
        """Count a row."""
        if fitted.tokens is not None:
            self.counted.add(row)
        self.examples += len(fitted.rows)
        self.tokens += fitted.tokens or 0
        self.tokens_trained += fitted.tokens_trained or 0
        if fitted.fate is not None:
            self.fates[fitted.fate] += 1
        if fitted.fate == TOO_LONG and len(self.too_long) < SHOWN:
            self.too_long.append(f"row {row} has {fitted.tokens:,} tokens")

    def tokens_json(self) -> dict[str, Any]:
        """Return the tokens of the rows that were counted: before - cut + repeated = trained."""
        return {
            "counted": str(self.counted),
            "before": self.tokens,
            "cut": self.tokens_cut,
            "repeated": self.tokens_repeated,
            "trained": self.tokens_trained,
        }


def fit_stage(plan: TrainingPlan, prepared: Stamp) -> Stage:
    """Return the stage and all that its outcome depends on."""
    base = plan.run.stamp("base") if plan.is_tiny else None
    settings = encoding_settings(plan.arguments)
    settings.pop("model_name_or_path", None)
    return Stage(
        "fit",
        {
            "data": example_digests(prepared),
            "settings": settings,
            "model": model_identity(plan, base),
            "on overflow": plan.config.on_overflow,
            "supervise": plan.config.supervise,
            "versions": {name: plan.versions.get(name) for name in ("llamafactory", "transformers")},
            "agent-sft": __version__,
        },
    )


def fitted(plan: TrainingPlan, prepared: Stamp) -> tuple[TrainingPlan, Stamp] | None:
    """Return the plan and the data that training reads, as they were decided on before; None if they were not."""
    if not plan.trains_on_input:
        return plan, prepared
    stamp = fit_stage(plan, prepared).finished(plan.run)
    if stamp is None:
        return None
    arguments = {**plan.arguments, **stamp.outputs["settings"]}
    if not stamp.outputs["rows"]:
        return replace(plan, arguments=arguments), prepared
    return replace(plan, arguments=arguments, fitted=True), stamp


def fit(plan: TrainingPlan, prepared: Stamp, reporter: Reporter) -> tuple[TrainingPlan, Stamp]:
    """Make examples of the prepared rows, unless that is done; return the plan and the data that training reads.

    Raises:
        UserError: rows are too long and `--on-overflow error` was given, nothing is left, or the template cannot
            give loss to single turns.
        WorkFailed: LLaMA-Factory cannot tokenise a row.
    """
    if plan.trains_on_input:
        fit_stage(plan, prepared).done(plan.run, plan.elsewhere)
    if (known := fitted(plan, prepared)) is not None:
        return known
    names = list(prepared.outputs["rows"])
    scans = {name: _scan(plan.data_dir / f"{name}.jsonl", example_limit(plan.arguments)) for name in names}
    masked = plan.config.supervise != "all_assistant" or any(scan.flagged for scan in scans.values())
    changed = masked or any(scan.long for scan in scans.values())

    def make() -> tuple[list[Path], dict[str, Any]]:
        if not changed:
            return [], {"rows": {}, "settings": {}}
        return _make(plan, scans, masked, reporter)

    fit_stage(plan, prepared).perform(plan.run, make)
    found = fitted(plan, prepared)
    assert found is not None
    return found


def _scan(path: Path, cutoff: int) -> Scan:
    scan = Scan()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            row = orjson.loads(line)
            scan.rows = number
            # A token stands for a byte at least: the longest part of a row is its text, and cheap to measure.
            if most_tokens(row) > cutoff:
                scan.long.append(number)
            scan.flagged = scan.flagged or is_flagged(row["conversations"])
    return scan


def _make(
    plan: TrainingPlan, scans: Mapping[str, Scan], masked: bool, reporter: Reporter
) -> tuple[list[Path], dict[str, Any]]:
    folder = plan.fitted_dir
    python = plan.python
    assert python is not None
    settings = encoding_settings(plan.arguments)
    if plan.is_tiny:
        settings["model_name_or_path"] = str(plan.base_dir)
    info: dict[str, Any] = {}
    rows: dict[str, int] = {}
    tables: dict[str, Any] = {}
    with atomic_writer(folder / CHANGES_NAME) as changes:
        for name, scan in scans.items():
            counted = None if masked else scan.long
            with counted_turns(python, plan.data_dir, name, settings, rows=counted) as (facts, counts):
                _check_template(plan, facts, masked)
                writer = _Writer(plan, name, changes, facts, masked)
                writer.write(folder / f"{name}.jsonl", counts)
            for line in writer.lines(scan):
                reporter.say(f"fit: {line}")
            info = orjson.loads(info_content(info, name, f"{name}.jsonl"))
            rows[name] = writer.tally.examples
            table = {**writer.table.as_json(), "rows_changed": dict(writer.tally.fates)}
            tables[name] = {**table, "tokens": writer.tally.tokens_json()}
    write_atomic(folder / INFO_NAME, orjson.dumps(info, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    write_json(folder / TABLE_NAME, tables)
    files = [folder / f"{name}.jsonl" for name in scans]
    made = [*files, folder / INFO_NAME, folder / CHANGES_NAME, folder / TABLE_NAME]
    return made, {"rows": rows, "settings": {"mask_history": True} if masked else {}}


def _check_template(plan: TrainingPlan, facts: EncodingFacts, masked: bool) -> None:
    if masked and facts.efficient_eos:
        raise UserError(
            f"with the template '{plan.arguments['template']}' LLaMA-Factory gives loss to the ends of all turns",
            where="--supervise",
            fix="use --supervise all_assistant, and no turns that say for themselves whether they carry loss",
        )


class _Writer:
    """Writes the examples of a dataset, and what was done to its rows."""

    def __init__(self, plan: TrainingPlan, name: str, changes: IO[bytes], facts: EncodingFacts, masked: bool) -> None:
        config = plan.config
        self.source = plan.data_dir / f"{name}.jsonl"
        self.name = name
        self.fitting = Fitting(facts.cutoff, config.on_overflow, config.supervise, masked)
        self.table = CutoffTable.of(config.on_overflow, neighbours(facts.cutoff, lower=False))
        self.tally = Tally()
        self._changes = changes

    def write(self, target: Path, counted: Iterator[TurnCounts]) -> None:
        with atomic_writer(target) as stream:
            for number, row, counts in _with_counts(self.source, counted):
                made = self.fitting.apply(row, counts)
                if counts is None:
                    self.table.add_short(len(row["conversations"]) // 2)
                else:
                    starts = beginnings(row["conversations"])
                    self.table.add(counts, starts)
                self.tally.add(number, made)
                for example in made.rows:
                    stream.write(orjson.dumps(example, option=orjson.OPT_APPEND_NEWLINE))
                if made.fate is not None:
                    record = change_record(self.name, number, row, made, counts)
                    self.tally.tokens_cut += record["cut"].get(TOKENS, 0)
                    self.tally.tokens_repeated += record["repeated"].get(TOKENS, 0)
                    self._changes.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            self._check(target)

    def _check(self, target: Path) -> None:
        cutoff = self.fitting.cutoff
        if count := self.tally.fates[TOO_LONG]:
            raise UserError(
                f"{count:,} of {self.table.rows:,} rows are longer than the {cutoff:,} tokens of --cutoff-len: "
                + ", ".join(self.tally.too_long),
                where=str(self.source),
                fix=f"the longest has {self.table.longest:,}; --on-overflow trim, split or drop goes on without them",
            )
        if not self.tally.examples:
            left_out = " and ".join(name for name in (DROPPED, UNSUPERVISED) if self.tally.fates[name])
            raise UserError(
                f"nothing is left to train on: all rows are {left_out}",
                where=str(self.source),
                fix=f"--cutoff-len is {cutoff:,}, the longest row has {self.table.longest:,} tokens;"
                f" --supervise is {self.fitting.supervise}",
            )

    def lines(self, scan: Scan) -> Iterator[str]:
        """Yield what to say, one fact a line."""
        tally, cutoff = self.tally, self.fitting.cutoff
        fates = ", ".join(f"{count:,} {fate}" for fate, count in sorted(tally.fates.items()) if fate != SUPERVISED)
        if scan.long:
            yield (
                f"{self.name}: {len(scan.long):,} of {scan.rows:,} rows could be longer than {cutoff:,} tokens; "
                f"the longest has {self.table.longest:,}" + (f": {fates}" if fates else "")
            )
        elif fates:
            yield f"{self.name}: {fates}"
        if self.fitting.masked:
            share = tally.tokens_trained / tally.tokens if tally.tokens else 1.0
            yield (
                f"{self.name}: loss on {self.fitting.supervise} makes {tally.examples:,} examples of {scan.rows:,}"
                f" rows, {tally.tokens_trained:,} tokens instead of {tally.tokens:,} ({share:.1f} times)"
            )
        if any(fate not in (SUPERVISED,) for fate in tally.fates):
            yield " | ".join(self.table.header())
            yield from (" | ".join(line) for line in self.table.cells())


def _with_counts(path: Path, counted: Iterator[TurnCounts]) -> Iterator[tuple[int, dict[str, Any], Counts | None]]:
    """Yield every row with its number, and its tokens where they were counted."""
    waiting = next(counted, None)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            counts = None
            if waiting is not None and waiting.row == number:
                if waiting.error is not None:
                    raise WorkFailed(f"{path}, row {number}: {waiting.error}")
                counts = Counts(waiting.pairs, waiting.head, waiting.extra, waiting.ends, waiting.prompts)
                with contextlib.suppress(StopIteration):
                    waiting = next(counted)
            yield number, orjson.loads(line), counts
