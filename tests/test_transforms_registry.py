"""Finding transforms, and what a user is told whose transform does not do what it should."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.transforms import Row, register_transform, registry
from agent_sft.data.transforms.registry import BUILT_IN, find_transform, known_kinds, make_transform
from agent_sft.data.transforms.running import Step, run
from agent_sft.errors import UserError
from tests.rows import chat, said, user


def rows(count: int = 3) -> Iterator[Row]:
    for number in range(1, count + 1):
        yield {**chat(user(f"a{number}"), said("b")), "origin": {"file": "data.json", "row": number}}


def steps(transform: Callable[[Iterable[Row]], Any], count: int = 3) -> list[Step]:
    return list(run("mine", transform, rows(count)))  # type: ignore[arg-type]


def test_every_built_in_kind_is_found_by_its_name(repo: Path) -> None:
    folder = repo / "agent_sft" / "data" / "transforms"
    helpers = {"__init__", "chat", "contract", "fields", "registry", "running", "schemas"}
    assert {path.stem for path in folder.glob("*.py")} - helpers == set(BUILT_IN)
    for kind in BUILT_IN:
        assert find_transform(kind).name == kind


@pytest.mark.parametrize(
    ("kind", "params", "what", "fix"),
    [
        ("merge_turn", {}, "there is no transform of the kind 'merge_turn'", "did you mean 'merge_turns'?"),
        ("zzz", {}, "there is no transform of the kind 'zzz'", "known are check_tools, dedup"),
        ("merge_turns", {"joints": " "}, "'merge_turns' has no parameter 'joints'", "did you mean 'joint'?"),
        ("trim_trailing", {"x": 1}, "'trim_trailing' has no parameter 'x'", "it has none"),
        ("sample", {"sed": 3}, "'sample' has no parameter 'sed'", "did you mean 'seed'?"),
        ("sample", {}, "'sample' needs the parameter 'n'", None),
        ("sample", {"n": 0}, "the parameter 'n' of 'sample': input should be greater than 0 (given: 0)", None),
        ("none.py:X", {}, "no such file", "it was named as the transform"),
    ],
)
def test_a_wrong_kind_or_parameter_is_named(kind: str, params: dict[str, Any], what: str, fix: str | None) -> None:
    with pytest.raises(UserError) as error:
        make_transform(kind, params, where="pipeline.yaml")
    assert error.value.what == what
    assert (error.value.fix or "").startswith(fix or "")
    assert error.value.where is not None


def test_a_class_in_a_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("class Mine:\n    name = 'mine'\n    def __call__(self, rows):\n        return list(rows)[:1]\n")
    mine = make_transform("own.py:Mine", {}, where="p", folder=tmp_path)
    assert len([step for step in run("mine", mine, rows()) if step.after]) == 1
    with pytest.raises(UserError, match="has no class 'Min'") as error:
        find_transform("own.py:Min", folder=tmp_path)
    assert error.value.fix == "did you mean 'Mine'?"
    (tmp_path / "broken.py").write_text("import nothing_like_this")
    with pytest.raises(UserError, match="cannot be imported: ModuleNotFoundError"):
        find_transform("broken.py:X", folder=tmp_path)


def test_a_package_brings_transforms_along_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("from_elsewhere", "agent_sft.data.transforms.sample:Sample", registry.GROUP)

    def entry_points(group: str, name: str | None = None) -> list[EntryPoint]:
        assert group == "agent_sft.transforms"
        return [point] if name in (None, point.name) else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    monkeypatch.setattr(registry.TRANSFORMS, "registered", {})
    assert "from_elsewhere" in known_kinds()
    assert find_transform("from_elsewhere").__name__ == "Sample"


def test_two_transforms_cannot_have_the_same_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.TRANSFORMS, "registered", {})
    register_transform("twice")(type("A", (), {}))
    with pytest.raises(UserError, match="two transforms are called 'twice'"):
        register_transform("twice")(type("B", (), {}))


# running

CIRCLE: dict[str, Any] = {}
CIRCLE["itself"] = CIRCLE


def test_a_transform_that_raises_is_named_with_file_row_and_kind() -> None:
    def raises(given: Iterable[Row]) -> Iterator[Row]:
        for row in given:
            if row["origin"]["row"] == 2:
                raise KeyError("query")
            yield row

    with pytest.raises(UserError, match=r"the transform raised KeyError: 'query' \(.*registry.py, line \d+\)") as error:
        steps(raises)
    assert error.value.where == "data.json, row 2, transform 'mine'"


def test_a_transform_that_exits_is_told_of_like_one_that_raises() -> None:
    def leaves(given: Iterable[Row]) -> Iterator[Row]:
        raise SystemExit(3)
        yield

    with pytest.raises(UserError, match="the transform raised SystemExit: 3"):
        steps(leaves)


@pytest.mark.parametrize(
    ("transform", "what"),
    [
        (lambda given: None, "gave nothing instead of rows"),
        (lambda given: 3, "gave an int instead of rows"),
        (lambda given: {"messages": []}, "gave a dict instead of rows"),
        (lambda given: "rows", "gave a str instead of rows"),
        (lambda given: (None for _ in given), "gave nothing among its rows"),
        (lambda given: [[row] for row in given], "gave a list among its rows"),
        (lambda given: ({"text": "x"} for _ in given), "gave a row that is no conversation: it has no 'messages'"),
        (lambda given: ({**row, "messages": {1, 2}} for row in given), "as JSON: Object of type set is not"),
        (
            lambda given: ({**row, "messages": [{"role": "user", "content": 5}]} for row in given),
            r"message 1 \(user\): 'content' is a number, not a text",
        ),
        (lambda given: ({**row, "messages": [{"content": "x"}]} for row in given), "message 1 is no object with"),
        (lambda given: ({**row, "messages": ()} for row in given), "'messages' is a tuple, not an array"),
        (lambda given: ({**row, "metadata": {"x": math.nan}} for row in given), "cannot be written as JSON"),
        (lambda given: ({**row, "metadata": {"x": object()}} for row in given), "cannot be written as JSON"),
        (lambda given: ({**row, "metadata": CIRCLE} for row in given), "cannot be written as JSON: Circular"),
    ],
)
def test_what_is_no_row_is_refused(transform: Any, what: str) -> None:
    with pytest.raises(UserError, match=what) as error:
        steps(transform)
    assert "transform 'mine'" in str(error.value.where)


def test_a_transform_may_change_rows_in_place_and_return_what_it_was_given() -> None:
    def in_place(given: Iterable[Row]) -> Iterable[Row]:
        for row in given:
            row["messages"][0]["content"] = "new"
        return given

    found = steps(in_place)
    assert [step.before and step.before["messages"][0]["content"] for step in found] == ["a1", "a2", "a3"]
    assert [step.after[0].row["messages"][0]["content"] for step in found] == ["new"] * 3


def test_a_lazy_transform_gets_one_row_at_a_time() -> None:
    taken = []

    def counted() -> Iterator[Row]:
        for row in rows(5):
            taken.append(row)
            yield row

    stream = run("mine", lambda given: (row for row in given), counted())  # type: ignore[arg-type]
    next(stream)
    assert len(taken) == 2  # the next one shows that the first is whole


def test_rows_that_are_swallowed_split_reordered_or_made_are_all_told() -> None:
    def odd(given: Iterable[Row]) -> Iterator[Row]:
        first, _, third = given
        yield {**third}
        yield {**first, "messages": first["messages"][:1]}
        yield {**first, "messages": first["messages"][1:]}
        yield chat(user("made"), said("up"))

    found = [(step.before and step.before["origin"]["row"], len(step.after)) for step in steps(odd)]
    assert found == [(3, 1), (1, 2), (None, 1), (2, 0)]
