"""Results on disk: what was asked for, what there is, and what is still missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.errors import UserError
from agent_sft.evals.results import failed, missing, read_results, write_evaluation, write_trial
from tests.evaluations import evaluation, trial


def test_what_is_written_is_read_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    asked = evaluation()
    written = [trial("b", 0, 0.5, family="hard", violations=1, detail={"why": "ü"}), trial("a", 1), trial("a", 0, 0.0)]
    write_evaluation(tmp_path, asked)
    for one in written:
        write_trial(tmp_path, one)
    assert read_results(tmp_path) == (asked, [written[2], written[1], written[0]])


def test_what_is_missing_and_what_failed_are_told_apart(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation())
    assert missing(*read_results(tmp_path)) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    write_trial(tmp_path, trial("a", 1, None))
    write_trial(tmp_path, trial("b", 0, 0.0))
    asked, trials = read_results(tmp_path)
    assert missing(asked, trials) == [("a", 0), ("b", 1)]
    assert [one.place for one in failed(trials)] == [("a", 1)]


def test_a_trial_that_is_run_again_replaces_the_first(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation())
    write_trial(tmp_path, trial("a", 0, None))
    write_trial(tmp_path, trial("a", 0, 1.0))
    _, trials = read_results(tmp_path)
    assert [one.score for one in trials] == [1.0]
    assert len((tmp_path / "results.jsonl").read_bytes().splitlines()) == 2, "nothing is ever taken out"


@pytest.mark.parametrize("left", [1, 5, 40, 100_000])
def test_a_line_cut_off_by_a_kill_is_no_result_and_does_not_spoil_the_next(tmp_path: Path, left: int) -> None:
    write_evaluation(tmp_path, evaluation())
    write_trial(tmp_path, trial("a", 0))
    whole = (tmp_path / "results.jsonl").read_bytes()
    long = whole.replace(b'"done"', b'"' + b"x" * 200_000 + b'"')
    (tmp_path / "results.jsonl").write_bytes(whole + long[:left])
    assert len(read_results(tmp_path)[1]) == 1
    write_trial(tmp_path, trial("b", 1))
    assert [one.place for one in read_results(tmp_path)[1]] == [("a", 0), ("b", 1)]
    assert (tmp_path / "results.jsonl").read_bytes().startswith(whole + b'{"task":"b"')


def test_a_last_line_that_lacks_only_its_end_counts_once(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation())
    write_trial(tmp_path, trial("a", 0))
    path = tmp_path / "results.jsonl"
    path.write_bytes(path.read_bytes().rstrip())
    before = len(read_results(tmp_path)[1])
    write_trial(tmp_path, trial("b", 1))
    assert len(read_results(tmp_path)[1]) == before + 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", "line 2"),
        ('{"task": "a", "trial": 0}', "score"),
        ('{"task": "a", "trial": 0, "score": 1.5, "ended": "done"}', "between 0 and 1"),
        ('{"task": "a", "trial": 0, "score": null, "ended": "done"}', "either a 'score' or an 'error'"),
        ('{"task": "a", "trial": 0, "score": 0, "ended": "done", "error": "gone"}', "either a 'score' or an 'error'"),
        ('{"task": "a", "trial": -1, "score": 0, "ended": "done"}', "counts from 0"),
        ('{"task": "a", "trial": 0, "score": 0, "ended": "done", "turn": 1}', "turn"),
        ('{"task": "a", "trial": 0, "score": 0, "ended": "done", "tool_errors": 1}', "more than 'tool_calls'"),
        ('{"task": "c", "trial": 0, "score": 0, "ended": "done"}', "does not ask for"),
        ('{"task": "a", "trial": 2, "score": 0, "ended": "done"}', "does not ask for"),
    ],
)
def test_a_bad_line_is_named_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    write_evaluation(tmp_path, evaluation())
    write_trial(tmp_path, trial("a", 1))
    with (tmp_path / "results.jsonl").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(UserError, match=r"results\.jsonl") as refused:
        read_results(tmp_path)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no evaluation is here"),
        (b"{", "evaluation.json"),
        (b'{"evaluator": "tasks"}', "missing required field"),
        (b"\xff", "evaluation.json"),
    ],
)
def test_a_folder_without_a_whole_evaluation_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "evaluation.json").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_results(tmp_path)


def test_an_evaluation_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        evaluation(tasks=["a", "a"])
    with pytest.raises(ValueError, match="at least 1"):
        evaluation(trials=0)
