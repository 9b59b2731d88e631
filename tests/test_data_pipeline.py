"""Pipelines and the ledger: whatever transforms do, every row, turn and character is accounted for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent_sft.config.process import read_process
from agent_sft.data.amounts import CHARACTERS, compare, measure
from agent_sft.data.conversation import Origin
from agent_sft.data.ledger import Ledger
from agent_sft.data.pipeline import Pipeline, load_pipeline, run_pipeline
from agent_sft.data.processing import ProcessReport, process_data
from agent_sft.data.transforms import Row, leave_out, noted, reject
from agent_sft.data.transforms.fix_arguments import FixArguments
from agent_sft.data.transforms.merge_turns import MergeTurns
from agent_sft.errors import UserError
from tests.rows import chat, result, said, user

TEXT = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["<think>x</think>a", "<tool_call>", "a\nb"])
ARGUMENTS = st.dictionaries(TEXT, TEXT | st.integers(), max_size=2)
MESSAGE = (
    st.builds(user, TEXT)
    | st.builds(said, TEXT)
    | st.builds(lambda text, arguments: said(text, ("f", arguments)), TEXT | st.none(), ARGUMENTS | TEXT)
    | st.builds(result, TEXT)
    | st.builds(lambda text: {"role": "system", "content": text}, TEXT)
)
ROW = st.builds(lambda messages, tools: chat(*messages, tools=tools), st.lists(MESSAGE, max_size=6), st.just([]))

ODD_DEEDS = ("keep", "drop", "change", "in place", "split", "reject", "leave out", "note", "make", "forget", "reverse")


class Odd:
    """Does to each row what chance says."""

    name = "odd"

    def __init__(self, deeds: list[str]) -> None:
        self.deeds = deeds

    def __call__(self, rows: Iterable[Row]) -> Iterator[Any]:
        """Yield them, or not."""
        kept = []
        for number, row in enumerate(rows):
            deed = self.deeds[number % len(self.deeds)]
            if deed == "change":
                yield {**row, "messages": [*row["messages"], user("more")]}
            elif deed == "in place":
                row["messages"][:] = row["messages"][1:]
                yield row
            elif deed == "split":
                yield {**row, "messages": row["messages"][:1]}
                yield reject({**row, "messages": row["messages"][1:2]}, "second part")
                yield {**row, "messages": row["messages"][2:]}
            elif deed == "reject":
                yield reject(row, "bad")
            elif deed == "leave out":
                yield leave_out(row, "not wanted")
            elif deed == "note":
                yield noted(row, "seen")
            elif deed == "make":
                yield row
                yield chat(user("new"))
            elif deed == "forget":
                yield {"messages": row["messages"]}
            elif deed == "reverse":
                kept.append(row)
            elif deed == "keep":
                yield row
        yield from reversed(kept)


def through(pipeline: Pipeline, rows: list[Row]) -> tuple[Ledger, list[Row], list[tuple[int, Any]]]:
    ledger = Ledger(pipeline.names)
    rejects: list[tuple[int, Any]] = []
    numbered = ((Origin(file="f", row=number), row, row) for number, row in enumerate(rows, start=1))
    out = run_pipeline(pipeline, numbered, ledger, lambda origin, by, reason, row: rejects.append((origin.row, row)))
    return ledger, [row for _, row in out], rejects


def total(rows: Iterable[Row]) -> Counter[str]:
    return sum((measure(row) for row in rows), Counter())


@pytest.mark.slow
@given(st.lists(ROW, max_size=3), st.lists(ROW, max_size=3))
def test_what_is_removed_and_added_is_exactly_the_difference(before: list[Row], after: list[Row]) -> None:
    removed, added = compare(before, after)
    assert min([*removed.values(), *added.values(), 0]) == 0
    assert total(before) + added == +(total(after) + removed)
    assert compare(before, before) == (Counter(), Counter())


def test_a_join_is_counted_as_the_joint_alone() -> None:
    before, after = chat(user("a" * 50), user("b" * 50)), chat(user("a" * 50 + "\n" + "b" * 50))
    assert compare([before], [after]) == (Counter(turns=1, characters=0), Counter(turns=0, characters=1))


@given(
    st.lists(ROW, max_size=8),
    st.lists(st.lists(st.sampled_from(ODD_DEEDS), min_size=1, max_size=4), max_size=3),
    st.lists(st.sampled_from(["fix_arguments", "merge_turns", "remove_think", "trim_trailing", "to_hermes", "dedup"])),
)
@pytest.mark.slow
def test_the_totals_add_up_whatever_transforms_do(rows: list[Row], odd: list[list[str]], kinds: list[str]) -> None:
    from agent_sft.data.transforms.registry import make_transform

    steps: list[Any] = [(f"odd {number}", Odd(deeds)) for number, deeds in enumerate(odd)]
    steps += [(f"{kind} {number}", make_transform(kind, {}, where="test")) for number, kind in enumerate(kinds)]
    before = total(rows)
    ledger, out, _ = through(Pipeline(tuple(steps), takes_raw_rows=False), json.loads(json.dumps(rows)))
    assert not any(ledger.balance.difference().values())
    flows = ledger.balance.flows
    assert +flows["read"] == +before
    assert +flows["kept"] == +total(out)
    fates = ("kept", "split", "left out", "rejected")
    assert ledger.rows["read"] + ledger.rows["made"] == sum(ledger.rows[fate] for fate in fates)
    assert ledger.rows["read"] == len(rows)
    assert ledger.rows["written"] == len(out) == ledger.rows["kept"] + ledger.parts["kept"]


def processed(folder: Path, rows: Any, *transforms: Any, output: str = "out/data.jsonl") -> ProcessReport:
    """Write rows and a pipeline to files and run it."""
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({"transforms": list(transforms)}))
    return process_data(folder / "rows.jsonl", load_pipeline(folder / "pipeline.yaml"), output=folder / output)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_row_has_its_fate_in_the_report(tmp_path: Path) -> None:
    call = {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{x"}}]}
    rows = [
        chat(user("a"), said("b")),
        chat(user("a"), said("b")),
        chat(user("c"), said("d"), said("e")),
        chat(user("g"), {"role": "assistant", "content": None, **call}, result("x", "1"), said("h")),
        chat(user("i"), said("<think>never ends")),
    ]
    report = processed(tmp_path, rows, "remove_think", "merge_turns", "trim_trailing", "dedup")
    assert lines(report.output) == [chat(user("a"), said("b")), chat(user("c"), said("d\ne"))]
    ledger = json.loads(report.report_path.read_text())
    assert ledger["rows"] == {"read": 5, "written": 2, "kept": 2, "changed": 1, "left out": 1, "rejected": 2}
    source = str(tmp_path / "rows.jsonl")
    assert ledger["unchanged"] == {source: "1"}
    fates = {entry["row"]: entry for entry in ledger["fates"]}
    assert (fates[2]["fate"], fates[2]["by"], fates[2]["reason"]) == (
        "left out",
        "dedup",
        f"the same as row 1 of {source}",
    )
    assert fates[3]["changes"] == [
        {"by": "merge_turns", "removed": {"turns": 1}, "added": {"characters": 1}},
    ]
    assert (fates[4]["fate"], fates[4]["by"]) == ("rejected", "read")
    assert (fates[5]["by"], fates[5]["reason"]) == ("remove_think", "turn 2: reasoning that never ends")
    assert report.rejects_path is not None
    assert [(one["row"], one["data"]) for one in lines(report.rejects_path)] == [(4, rows[3]), (5, rows[4])]
    for unit in ("turns", "characters"):
        flows = ledger[unit]
        out = sum(flows[flow] for flow in ("kept", "removed", "left out", "rejected"))
        assert flows["read"] + flows["added"] == out
    assert "row 4: " in "\n".join(report.lines())


def test_a_row_that_is_split_has_parts(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "class Halve:\n"
        "    def __call__(self, rows):\n"
        "        for row in rows:\n"
        "            yield {**row, 'messages': row['messages'][:2]}\n"
        "            yield {**row, 'messages': row['messages'][2:]}\n"
    )
    report = processed(tmp_path, [chat(user("a"), said("b"), user("c"), said("d"))], {"kind": "own.py:Halve"})
    assert lines(report.output) == [chat(user("a"), said("b")), chat(user("c"), said("d"))]
    ledger = json.loads(report.report_path.read_text())
    assert (ledger["rows"]["split"], ledger["parts"]) == (1, {"kept": 2})
    assert [entry["part"] for entry in ledger["fates"]] == [1, 2]


def test_the_rows_held_out_go_to_a_file_of_their_own(tmp_path: Path) -> None:
    rows = [chat(user(str(number)), said("x"), metadata={"task": number // 2}) for number in range(40)]
    report = processed(tmp_path, rows, {"kind": "split", "params": {"by": "metadata.task", "eval": 0.3}})
    assert report.eval_output is not None
    train, held_out = lines(report.output), lines(report.eval_output)
    assert len(train) + len(held_out) == 40
    assert not {row["metadata"]["task"] for row in train} & {row["metadata"]["task"] for row in held_out}
    assert all("split" not in row for row in train + held_out)


def test_raw_rows_are_taken_where_templates_come_first(tmp_path: Path) -> None:
    params = {"user_template": "Query: {query}", "assistant_template": "<answer>{slug}</answer>"}
    report = processed(tmp_path, [{"query": "é", "slug": "X"}], {"kind": "jsonl_to_chat", "params": params})
    metadata = {"query": "é", "slug": "X"}
    assert lines(report.output) == [chat(user("Query: é"), said("<answer>X</answer>"), metadata=metadata)]
    with pytest.raises(UserError, match="has no 'slug'") as error:
        processed(
            tmp_path / "2", [{"query": "a", "slug": "b"}, {"query": "a"}], {"kind": "jsonl_to_chat", "params": params}
        )
    assert error.value.where == f"{tmp_path / '2' / 'rows.jsonl'}, row 2, transform 'jsonl_to_chat'"
    assert not (tmp_path / "2" / "out").exists()


def test_when_nothing_is_left_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of 1 rows none is left") as error:
        processed(tmp_path, [chat(user("a"), said("<think>"))], "remove_think")
    assert "row 1: turn 2: reasoning that never ends" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_running_it_twice_changes_nothing_more(tmp_path: Path, repo: Path) -> None:
    pipeline = repo / "configs" / "process" / "telecom.yaml"
    source = repo / "examples" / "data" / "telecom_small_24.json"
    first = process_data(source, load_pipeline(pipeline), output=tmp_path / "a" / "data.jsonl")
    second = process_data(first.output, load_pipeline(pipeline), output=tmp_path / "b" / "data.jsonl")
    assert first.output.read_bytes() == second.output.read_bytes()
    assert second.rows["changed"] == 0


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("transforms: [{kind: merge_turns, parms: {}}]", "parms"),
        ("transfroms: []", "transforms: field required"),
        ("transforms: merge_turns", "must be a list of transforms"),
        ("[1]", "must hold `transforms:`"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_file_that_is_no_pipeline_is_refused(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=what) as error:
        read_process(path)
    assert str(path) in str(error.value.where)


def test_files_in_parameters_are_relative_to_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "policy.md").write_text("Be kind.")
    report = processed(
        tmp_path, [chat(user("a"), said("b"))], {"kind": "system_prompt", "params": {"policy": "policy.md"}}
    )
    assert lines(report.output)[0]["messages"][0] == {"role": "system", "content": "Be kind."}


def test_the_worked_example_redacts_what_it_finds(tmp_path: Path, repo: Path) -> None:
    kind = f"{repo / 'examples' / 'transforms' / 'strip_pii.py'}:StripPII"
    row = chat(
        user("Write to a.b@example.org or call +49 1529 790567."), said("Yes.", ("f", {"phone": "+49 1529 790567"}))
    )
    report = processed(tmp_path, [row], {"kind": kind, "params": {"phone": "<number>"}})
    (new,) = lines(report.output)
    assert new["messages"] == [user("Write to <email> or call <number>."), row["messages"][1]]
    assert report.rows["changed"] == 1


def test_messages_changed_in_place_are_looked_at_again() -> None:
    def lengthen(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            row["messages"][0]["content"] = "a longer text"
            yield row

    steps = (("fix_arguments", FixArguments()), ("lengthen", lengthen), ("merge_turns", MergeTurns()))
    pipeline = Pipeline(cast(Any, steps), takes_raw_rows=False)
    rows = [(Origin(file="f", row=1), chat(user("a"), said("b")), None)]
    ledger = Ledger(pipeline.names)
    ((_, row),) = run_pipeline(pipeline, rows, ledger, lambda *_: None)
    assert ledger.balance.flows["kept"] == measure(row)
    assert ledger.balance.flows["read"][CHARACTERS] == measure(row)[CHARACTERS] - len("a longer text") + len("a")
    assert not any(ledger.balance.difference().values())
