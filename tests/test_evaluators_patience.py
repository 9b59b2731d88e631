"""When an evaluation gives up, and when it does not."""

from __future__ import annotations

import pytest

from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.results import Trial
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.evaluators import patience
from agent_sft.stages.evaluators.contract import EvalRun
from agent_sft.stages.evaluators.patience import Patience
from agent_sft.stages.reporting import Quiet


def run(why_dead: str | None = None) -> EvalRun:
    return EvalRun("t", Quiet(), StopSignal(), {}, concurrency=3, why_dead=lambda: why_dead)


def trial(error: str | None) -> Trial:
    score = None if error else 1.0
    return Trial(task="t", trial=0, score=score, error=error, ended="error" if error else "done")


def test_it_goes_on_as_long_as_some_trials_can_be_run() -> None:
    watched = Patience(run())
    for _ in range(20):
        for error in ("HTTP 500", "HTTP 500", None):
            watched.saw(trial(error))
            watched.check()


def test_too_many_failures_in_a_row_end_it() -> None:
    watched = Patience(run())
    for _ in range(watched.most - 1):
        watched.saw(trial("HTTP 500: busy"))
    watched.check()
    watched.saw(trial("HTTP 500: busy"))
    with pytest.raises(WorkFailed, match="6 trials in a row could not be run: HTTP 500: busy"):
        watched.check()


@pytest.mark.parametrize("error", ["HTTP 401: no", "Error code: 403 - not you", "Incorrect API key provided"])
def test_a_refused_key_ends_it_at_once(error: str) -> None:
    watched = Patience(run())
    watched.saw(trial(error))
    with pytest.raises(UserError, match="refuses the key"):
        watched.check()


def test_a_dead_server_ends_it_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.0)
    Patience(run()).check()
    with pytest.raises(WorkFailed, match="the server has ended: out of memory"):
        Patience(run("the server has ended: out of memory")).check()
