"""The ledger of a run: every input row has its fate, and turns, characters and tokens add up to the last one."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_sft.data.account import DatasetRecord, ProcessRecord, account
from agent_sft.data.account_report import ENDS, UNITS, Account
from agent_sft.data.amounts import measure
from agent_sft.data.cutting import change_record
from agent_sft.data.fitting import Counts, Fitting
from agent_sft.data.formats import detect
from agent_sft.data.pipeline import load_pipeline
from agent_sft.data.preparing import prepare_dataset
from agent_sft.data.processing import process_data
from agent_sft.data.ranges import Ranges, parse_ranges
from agent_sft.data.rewards import Rewards
from agent_sft.data.rows import to_row
from agent_sft.data.sources import open_sources
from agent_sft.data.trail import measure_prepared
from agent_sft.data.turns import Unusable
from benchmarks.odd_conversations import make_case

DATA = sorted((Path(__file__).resolve().parents[1] / "examples" / "data").glob("*.json"))
SHIPPED = Path(__file__).resolve().parents[1] / "configs" / "process" / "telecom.yaml"
ALL = [
    "fix_arguments", "check_tools", "merge_turns", "remove_think", "trim_trailing", "dedup",
    {"kind": "sample", "params": {"n": 60, "seed": 1}},
    {"kind": "split", "params": {"by": "messages.1.content", "eval": 0.3}},
]  # fmt: skip


@dataclass
class Run:
    """What a run left, and its ledger."""

    account: Account
    changes: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    datasets: dict[str, list[dict[str, Any]]]
    """What LLaMA-Factory reads, by use."""


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def counted(row: dict[str, Any]) -> Counts:
    """As many tokens as characters: what counts is that they add up."""
    said = [len(turn["value"]) for turn in row["conversations"]]
    head = len(row["system"]) + len(row["tools"])
    pairs = [[said[at], said[at + 1]] for at in range(0, len(said), 2)]
    pairs[0][0] += head
    return Counts(tuple((prompt, answer) for prompt, answer in pairs), head, 0)


def carried_out(
    folder: Path,
    sources: Sequence[Path],
    transforms: list[Any] | Path | None = None,
    *,
    fitting: Fitting | None = None,
    uses_held_out: bool = True,
    rewards: Rewards | None = None,
    evaluation: Path | None = None,
) -> Run:
    """Take data through all stages as a run does, tokens counted apart."""
    process, given, held_out = None, list(sources), folder / "processed" / "d_eval.jsonl"
    if transforms is not None:
        pipeline = transforms if isinstance(transforms, Path) else folder / "pipeline.yaml"
        if isinstance(transforms, list):
            pipeline.write_text(yaml.safe_dump({"transforms": transforms}))
        trail = folder / "process.jsonl"
        with trail.open("wb") as stream:
            report = process_data(
                given,
                load_pipeline(pipeline),
                output=folder / "processed" / "d.jsonl",
                rewards=rewards,
                trail=stream,
            )
        process = ProcessRecord(report.report_path, trail, folder / "processed" / "rejects.jsonl", held_out)
        given = [report.output]
    evaluates = held_out.exists() and uses_held_out
    named = {"d": given}
    if evaluates or evaluation:
        named["d_eval"] = [evaluation or held_out]
    records, datasets = {}, {}
    fitted = folder / "fitted.jsonl" if fitting is not None else None
    changes: list[dict[str, Any]] = []
    for name, places in named.items():
        with (folder / f"{name}.trail").open("wb") as stream:
            ask = rewards if transforms is None and name == "d" else None
            made = prepare_dataset(places, name=name, folder=folder / "data", rewards=ask, trail=stream)
        rows, tokens = lines(made.data_path), None
        if fitting is not None:
            rows, tokens = fit_rows(name, rows, fitting, changes)
        use: Any = "trained on" if name == "d" else "evaluated on"
        datasets[use] = rows
        rejects = folder / "data" / "rejects.jsonl"
        records[name] = DatasetRecord(name, use, folder / f"{name}.trail", rejects, fitted, tokens)
    if fitted is not None:
        fitted.write_text("".join(json.dumps(change) + "\n" for change in changes))
    told, refused = io.BytesIO(), io.BytesIO()
    found = account(
        process, records["d"], records.get("d_eval"), evaluates_held_out=evaluates, changes=told, rejects=refused
    )
    read = [[json.loads(line) for line in one.getvalue().splitlines()] for one in (told, refused)]
    return Run(found, read[0], read[1], datasets)


def fit_rows(
    name: str, rows: list[Any], fitting: Fitting, changes: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    tokens: Counter[str] = Counter()
    seen = Ranges()
    for number, row in enumerate(rows, start=1):
        counts = counted(row)
        made = fitting.apply(row, counts)
        kept += made.rows
        seen.add(number)
        tokens.update(before=made.tokens or 0, trained=made.tokens_trained or 0)
        if made.fate is not None:
            changes.append(change_record(name, number, row, made, counts))
            for flow in ("cut", "repeated"):
                tokens[flow] += changes[-1][flow].get("tokens", 0)
    return kept, {"counted": str(seen), **{key: tokens[key] for key in ("before", "cut", "repeated", "trained")}}


def check(run: Run, sources: Sequence[Path], *, canonical: bool) -> None:
    """Hold a ledger against the files themselves: what was read, and what LLaMA-Factory reads in the end."""
    totals = run.account.as_json()
    rows = 0
    read: Counter[str] = Counter()
    for source in open_sources(sources):
        given = list(source.rows())
        form = detect((row for _, row in given[:20]), source.name)
        for origin, row in given:
            rows += 1
            try:
                read.update(measure(to_row(form.read(row, origin))))
            except Unusable:
                read.update(measure(row if isinstance(row, dict) else {"": row}))
    assert totals["rows"]["read"] == rows
    for unit in UNITS:
        if canonical:
            assert totals[unit]["read"] == read[unit]
        came = totals[unit]["read"] + sum(totals[unit]["by"].values())
        assert came == sum(totals[unit][end] for end in ENDS)
        for use in ("trained on", "evaluated on"):
            made = sum(measure_prepared(row)[unit] for row in run.datasets.get(use, ()))
            assert totals[unit][use] == made
    assert totals["examples"] == {use: len(found) for use, found in run.datasets.items()}
    # Every row stands in one place: among those that were not changed, or with a line of its own.
    unchanged = [(file, row) for file, text in totals["unchanged"].items() for row in parse_ranges(text)]
    told = {(line["file"], line["row"]) for line in run.changes}
    assert len(unchanged) == len(set(unchanged))
    assert not told & set(unchanged)
    assert len([place for place in told if not place[0].startswith("made by")]) + len(unchanged) == rows
    assert len(run.rejects) == sum(line["fate"] == "rejected" for line in run.changes)
    assert all(reject["reason"] and "data" in reject for reject in run.rejects)
    named: Counter[str] = Counter()
    for line in run.changes:
        named[line["fate"]] += len(list(parse_ranges(line.get("examples", ""))))
    assert not any(named[fate] for fate in ("rejected", "left out", "held out", "dropped"))


@pytest.mark.parametrize("transforms", [None, SHIPPED, ALL], ids=["as it is", "shipped", "all"])
@pytest.mark.parametrize("source", DATA, ids=[path.stem for path in DATA])
def test_the_example_data_adds_up(tmp_path: Path, source: Path, transforms: Any) -> None:
    rows = json.loads(source.read_text(encoding="utf-8"))[:60]
    path = tmp_path / source.name
    path.write_text(json.dumps(rows))
    fitting = Fitting(2500, "trim", "all_assistant", False)
    run = carried_out(tmp_path, [path], transforms, fitting=fitting)
    check(run, [path], canonical=transforms is not None)
    assert run.account.lines()


@pytest.mark.parametrize("seed", range(12))
def test_odd_data_from_several_files_adds_up(tmp_path: Path, seed: int) -> None:
    """Rows of all kinds, formats mixed, every policy, with and without a pipeline."""
    chance = random.Random(seed)
    paths = []
    for form in ("sharegpt", "openai"):
        rows: list[Any] = []
        while len(rows) < 40:
            case = make_case(chance)
            if case.form == form:
                rows.append(case.row)
        path = tmp_path / f"{form}.jsonl"
        plain = {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}
        chat = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
        usable = {"conversations": list(plain)} if form == "sharegpt" else {"messages": list(chat)}
        path.write_text("".join(json.dumps(row) + "\n" for row in [usable, *rows, usable]))
        paths.append(path)
    policy: Any = chance.choice(["trim", "split", "drop"])
    supervise: Any = chance.choice(["all_assistant", "last_assistant", "tool_calls", "final_answer"])
    fitting = Fitting(chance.choice([40, 200, 2000]), policy, supervise, supervise != "all_assistant")
    transforms = [None, SHIPPED, ALL][seed % 3]
    run = carried_out(tmp_path, paths, transforms, fitting=fitting, uses_held_out=bool(seed % 2))
    check(run, paths, canonical=transforms is not None)
    [one, *_] = run.account.tokens.values()
    assert one["before"] - one["cut"] + one["repeated"] == one["after"]
    assert one["examples_counted"] == one["examples_prepared"]


def messages(*texts: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_each_fate_is_told_of_the_row_of_the_input(tmp_path: Path) -> None:
    first = write(
        tmp_path / "a.jsonl",
        messages("q", "plain"),
        messages("q", "trimmed", "bye"),
        {"messages": [{"role": "robot", "content": "x"}]},
        messages("what LLaMA-Factory would rewrite: {{idx}}", "a"),
        messages("q", "plain"),
        messages("q" * 30, "a" * 30, "q" * 30, "a" * 30),
    )
    second = write(tmp_path / "b.jsonl", messages("q" * 90, "too long by itself"), messages("z", "plain"))
    fitting = Fitting(80, "trim", "all_assistant", False)
    run = carried_out(tmp_path, [first, second], ["trim_trailing", "dedup"], fitting=fitting)
    told = {(Path(line["file"]).name, line["row"]): line for line in run.changes}
    fates = {place: line["fate"] for place, line in told.items()}
    assert fates == {
        ("a.jsonl", 2): "trained on", ("a.jsonl", 3): "rejected", ("a.jsonl", 4): "rejected",
        ("a.jsonl", 5): "left out", ("a.jsonl", 6): "trained on", ("b.jsonl", 1): "dropped",
    }  # fmt: skip
    assert told["a.jsonl", 2]["changes"][0] == {"by": "trim_trailing", "removed": {"turns": 1, "characters": 3}}
    assert (told["a.jsonl", 3]["by"], told["a.jsonl", 4]["by"]) == ("read", "prepare")
    assert told["a.jsonl", 5]["reason"].startswith("the same as row 1 of")
    cut = {"turns": 2, "characters": 60, "tokens": 60}
    assert told["a.jsonl", 6]["changes"] == [{"by": "fit", "what": "trimmed", "removed": cut}]
    assert told["a.jsonl", 6]["examples"] == "3"
    assert [(Path(reject["file"]).name, reject["row"]) for reject in run.rejects] == [("a.jsonl", 3), ("a.jsonl", 4)]
    assert run.rejects[1]["data"]["messages"][1]["content"] == "a"
    assert run.account.lines()[0] == (
        "rows: 8 read = 4 trained on + 1 left out + 2 rejected + 1 dropped; 2 of them changed"
    )


def test_a_low_reward_ends_a_row_before_the_pipeline(tmp_path: Path) -> None:
    low, high = messages("q", "same") | {"reward": 0}, messages("q", "same") | {"reward": 1}
    path = write(tmp_path / "a.jsonl", low, high, messages("q", "no reward"))
    run = carried_out(tmp_path, [path], ["dedup"], rewards=Rewards(0.5))
    assert [(line["row"], line["fate"], line["by"]) for line in run.changes] == [
        (1, "left out", "reward"), (3, "rejected", "read"),
    ]  # fmt: skip
    assert run.account.rows["trained on"] == 1


def test_rows_held_out_are_evaluated_on_or_set_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *(messages(f"q{number}", "a") for number in range(40)))
    split = {"kind": "split", "params": {"by": "messages.0.content", "eval": 0.5}}
    used = carried_out(tmp_path, [path], [split])
    assert used.account.rows["trained on"] + used.account.rows["evaluated on"] == 40
    assert (used.changes, used.account.rows["changed"]) == ([], 0), "to be held out is no change"
    assert used.account.rows["evaluated on"] == len(used.datasets["evaluated on"]) > 5
    other = write(tmp_path / "b.jsonl", messages("q", "other"))
    apart = carried_out(tmp_path, [path], [split], uses_held_out=False, evaluation=other)
    assert apart.account.rows["held out"] == used.account.rows["evaluated on"]
    assert (apart.account.rows["evaluated on"], apart.account.rows["read"]) == (1, 41)


def test_a_split_row_is_told_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "halves.py").write_text(
        "class Halves:\n"
        "    name = 'halves'\n"
        "    def __call__(self, rows):\n"
        "        for row in rows:\n"
        "            for at in range(0, len(row['messages']), 2):\n"
        "                yield {**row, 'messages': row['messages'][at:at + 2]}\n"
    )
    path = write(tmp_path / "a.jsonl", messages("q", "a", "q2", "a2"), messages("q", "a"))
    run = carried_out(tmp_path, [path], [{"kind": "halves.py:Halves"}])
    assert [(line["row"], line["part"], line["examples"]) for line in run.changes] == [(1, 1, "1"), (1, 2, "2")]
    assert (run.account.rows["split"], run.account.parts["trained on"], run.account.rows["trained on"]) == (1, 2, 1)


def test_a_ledger_that_does_not_add_up_is_a_fault() -> None:
    found = Account()
    found.read({"turns": 2, "characters": 5})
    found.rows["trained on"] += 1
    with pytest.raises(AssertionError, match="turns: 2 came in, 0 are accounted for"):
        found.check()
