"""Odd conversations in any number through the data path, and what it writes through the real LLaMA-Factory.

Every row is kept or rejected with a reason; what is kept is accepted by LLaMA-Factory's converter and tokenised by
its processor; preparing what was prepared changes nothing; and the ledger of a pipeline adds up to what was read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agent_sft.config.process import ProcessConfig
from agent_sft.data.conversation import Conversation, Origin
from agent_sft.data.dialects import dialect_of
from agent_sft.data.examples import Reading
from agent_sft.data.formats import FORMATS
from agent_sft.data.ledger import FLOWS
from agent_sft.data.pipeline import make_pipeline
from agent_sft.data.preparing import prepare_dataset
from agent_sft.data.processing import process_data
from agent_sft.data.rewards import Rewards
from agent_sft.data.turns import Unusable
from benchmarks.odd_conversations import Case, make_case
from tests.accepting import ask

STAGES = ("fix_arguments", "check_tools", "merge_turns", "remove_think", "trim_trailing", "dedup")
PLAIN = {
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "openai": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
}
"""The first row of every file: a row that is one."""


def examine(case: Case) -> list[dict[str, Any]]:
    """Return the rows that a case becomes, nothing where it is rejected.

    Raises:
        AssertionError: preparing what was prepared would change it, or a reject has no reason.
    """
    origin = Origin(file="odd", row=1)
    reading = Reading(dialect_of(case.template), Rewards(), {"odd": FORMATS[case.form]})
    try:
        _check_nothing_is_left_behind(case, FORMATS[case.form].read(case.row, origin))
    except Unusable as unusable:
        assert str(unusable).strip(), "a reject has its reason"
    try:
        rows = [example.as_row() for example in reading.examples(origin, case.row)]
    except Unusable as unusable:
        assert str(unusable).strip(), "a reject has its reason"
        return []
    assert rows, "a row that is kept becomes an example"
    again = Reading(reading.dialect, Rewards(), {"odd": FORMATS["sharegpt"]})
    for row in rows:
        [example] = again.examples(origin, row)
        assert example.as_row() == row and not example.changes, (example.changes, row)
    return [row for row in rows if _is_text(row)]


def through_files(cases: Iterable[Case], folder: Path) -> tuple[dict[str, list[dict[str, Any]]], Counter[str]]:
    """Prepare and process cases as files, one for each template and format.

    Returns:
        The rows that were written, by template, and how many rows were read, kept and rejected.

    Raises:
        AssertionError: a row is missing, or the ledger does not add up to the characters in the files.
    """
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for case in cases:
        groups[case.template, case.form].append(case.row)
    written: dict[str, list[dict[str, Any]]] = defaultdict(list)
    fates: Counter[str] = Counter()
    for (template, form), given in groups.items():
        source = folder / f"{template}_{form}.jsonl"
        source.write_text("".join(f"{json.dumps(row)}\n" for row in [PLAIN[form], *given]))
        place = folder / source.stem
        report = prepare_dataset(source, name="odd", folder=place, template=template)
        rejects = _lines(place / "rejects.jsonl")
        assert report.rows_read == len(given) + 1 == report.rows_kept + len(rejects)
        assert all(reject["reason"] for reject in rejects)
        made = _lines(report.data_path)
        assert len(made) == report.examples
        again = prepare_dataset(report.data_path, name="again", folder=place, template=template)
        assert again.data_path.read_bytes() == report.data_path.read_bytes() and not again.changes
        written[template] += made
        fates += Counter(read=report.rows_read, kept=report.rows_kept, rejected=len(rejects))
        _process(source, form, len(given) + 1, folder / f"{source.stem}_processed")
    return written, fates


def _process(source: Path, form: str, count: int, folder: Path) -> None:
    config = ProcessConfig.model_validate({"transforms": list(STAGES)})
    pipeline = make_pipeline(config, where="benchmark", folder=folder)
    report = process_data(source, pipeline, output=folder / "out.jsonl", form=form)
    rows = report.rows
    assert rows["read"] == count
    assert rows["read"] == sum(rows.get(fate, 0) for fate in ("kept", "split", "left out", "rejected"))
    for flows in report.balance.values():
        assert flows["read"] + flows["added"] == sum(flows[flow] for flow in FLOWS[2:])
    assert report.balance["characters"]["kept"] == sum(map(characters, _lines(report.output)))
    assert len(_lines(folder / "rejects.jsonl")) == report.rejected


def characters(row: Mapping[str, Any]) -> int:
    """Return how many characters of a processed row can be trained on, counted plainly."""
    total = len(_compact(row["tools"])) if row.get("tools") else 0
    for message in row["messages"]:
        total += len(message.get("content") or "") + len(message.get("reasoning_content") or "")
        for call in message.get("tool_calls", ()):
            arguments = call["function"]["arguments"]
            total += len(call["function"]["name"])
            total += len(arguments if isinstance(arguments, str) else _compact(arguments))
    return total


def refused(rows: Mapping[str, Sequence[dict[str, Any]]], python: Path, scratch: Path) -> list[tuple[str, Any, str]]:
    """Ask LLaMA-Factory about rows; return the template, the row and the error of each that it does not take."""
    batches = [(template, list(given)) for template, given in rows.items()]
    answers = ask(python, {"batches": batches}, scratch)
    return [
        (template, row, answer["error"])
        for (template, given), judged in zip(batches, answers, strict=True)
        for row, answer in zip(given, judged, strict=True)
        if answer["error"] is not None
    ]


def _check_nothing_is_left_behind(case: Case, conversation: Conversation) -> None:
    """Check that every text without marks is in the conversation as it was given."""
    read = [conversation.system, *(turn.text or "" for turn in conversation.turns)]
    for turn in case.row.get("conversations", ()):
        role, text = turn.get("from"), turn.get("value")
        if isinstance(text, str) and "<" not in text and role in ("human", "gpt", "observation"):
            assert text in read, (text, read)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _is_text(row: dict[str, Any]) -> bool:
    """Tell whether no half character is in a row, which writing it would refuse."""
    try:
        _compact(row).encode()
    except UnicodeEncodeError:
        return False
    return True


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="conversations (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first one; each has its own (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=10_000, help="asked about at a time (default: %(default)s)")
    options = parser.parse_args()
    named = os.environ.get("AGENT_SFT_TRAIN_PYTHON", ".venvs/train/bin/python")
    began, totals = time.monotonic(), Counter[str]()
    for first in range(options.seed, options.seed + options.count, options.batch):
        cases = []
        for number in range(first, min(first + options.batch, options.seed + options.count)):
            cases.append(make_case(Random(number)))
            try:
                examine(cases[-1])
            except Exception as error:
                print(f"conversation {number}, {cases[-1]!r}: {error!r}", file=sys.stderr)
                return 1
        with tempfile.TemporaryDirectory() as folder:
            written, fates = through_files(cases, Path(folder))
            faults = refused(written, Path(named), Path(folder))
        if faults:
            template, row, fault = faults[0]
            print(f"{len(faults)} rows are not taken; with {template}: {fault}\n{json.dumps(row)}", file=sys.stderr)
            return 1
        totals += fates + Counter(examples=sum(map(len, written.values())))
        said = ", ".join(f"{count:,} {what}" for what, count in totals.items())
        print(f"{time.monotonic() - began:.0f} s: {said}; none refused by LLaMA-Factory", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
