"""Which conversations are shown of a sweep, why trials failed, and conversations of every evaluator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_sft.evals.results import Trial
from agent_sft.report.sweep.conversations import read_conversations
from agent_sft.report.sweep.facts import read_sweep
from agent_sft.report.sweep.failing import by_reason, read_attempts, reasons
from agent_sft.report.sweep.transcripts import LONGEST_TURN, as_html, pick, show
from tests.sweeps import EVALUATOR, write_sweep


def failed(**changes: object) -> Trial:
    return Trial(**{"task": "a", "trial": 0, "score": 0.0, "ended": "user_stop", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (failed(detail={"explanation": "C03 1 → 7 GB; not refused"}), ["… … → … GB", "not refused"]),
        (failed(detail={"reason": "expected 4, got 5.5"}), ["expected …, got …"]),
        (failed(ended="max_messages"), ["ended by max messages"]),
        (failed(), ["no reason given"]),
        (failed(score=1.0), []),
    ],
)
def test_reasons_are_the_evaluators_without_what_is_the_single_tasks(trial: Trial, expected: list[str]) -> None:
    assert reasons(trial) == expected


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(tmp_path_factory.mktemp("sweep"), tasks=16)


def test_failures_come_first_and_other_variants_do_the_same_trial(sweep: Path) -> None:
    attempts = read_attempts(read_sweep(sweep), EVALUATOR)
    picks = pick(attempts)
    kinds = [one.rank[0] for one in picks]
    assert kinds == sorted(kinds) and set(kinds) == {0, 1, 2}
    lost = {one.task for one in picks if not one.trial.succeeded}
    for task in lost:
        of_task = {one.group: one.trial for one in picks if one.task == task}
        assert len(of_task) == 4, "every variant's conversation of a task that one failed"
        first = min(trial.trial for trial in of_task.values() if not trial.succeeded)
        assert {trial.trial for trial in of_task.values() if trial.succeeded} <= {first}


def test_what_has_no_room_is_left_out_and_counted(sweep: Path) -> None:
    attempts = read_attempts(read_sweep(sweep), EVALUATOR)
    everything, some = show(attempts), show(attempts, room=5_000)
    shown = sum(len(found) for found in some.tasks.values())
    assert everything.left_out == 0 and everything.unreadable == 0
    assert shown > 0 and shown + some.left_out == sum(len(found) for found in everything.tasks.values())
    assert all(not one.trial.succeeded for found in some.tasks.values() for one, _ in found)
    assert sum(len(markup) for found in some.tasks.values() for _, markup in found) <= 5_000


def test_what_conversations_begin_with_is_shown_once(sweep: Path) -> None:
    shown = show(read_attempts(read_sweep(sweep), EVALUATOR))
    assert len(shown.system) == 1 and "Never add data" in shown.system[0]
    assert not any("Never add data" in markup for found in shown.tasks.values() for _, markup in found)


def test_reasons_are_counted_the_commonest_first(sweep: Path) -> None:
    counted = by_reason(read_attempts(read_sweep(sweep), EVALUATOR))
    sums = [sum(counts) for _, counts in counted]
    assert sums == sorted(sums, reverse=True) and counted[0][1][0] <= counted[0][1][-1]


def test_conversations_of_other_evaluators_are_read_too(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi <b>"}, {"role": "assistant", "content": "x" * (LONGEST_TURN + 5)}]
    (tmp_path / "transcripts.jsonl").write_text(json.dumps({"task": "a", "trial": 1, "messages": messages}) + "\n")
    simulation = {"id": "s1", "task_id": "b", "messages": messages, "reward_info": {"reward": 1.0}}
    (tmp_path / "results.json").write_text(json.dumps({"info": {}, "simulations": [simulation]}))
    trials = [
        failed(task="a", trial=1, transcript="transcripts.jsonl#a/1"),
        failed(task="b", transcript="results.json#s1"),
        failed(task="c", transcript="gone.eval#samples/c_epoch_1.json"),
        failed(task="d"),
    ]
    found = read_conversations(tmp_path, trials)
    assert set(found) == {("a", 1), ("b", 0)}
    shown = as_html(found["a", 1])
    assert "Hi &lt;b&gt;" in shown and "… 5 more characters" in shown and len(shown) < LONGEST_TURN + 400
