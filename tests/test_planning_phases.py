"""`agent-sft plan`: what a user sees of it, from the first look at the data to the final report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent_sft.cli.plan_show import Terminal
from agent_sft.planning.approving import Grants
from agent_sft.planning.folder import find_plan
from agent_sft.planning.phases import run_plan
from agent_sft.report.plan.record import PlanRecord, Scoreboard
from agent_sft.runs.processes import StopSignal
from tests.conftest import MadeOnce, RunCli
from tests.support import SMALL

PLAN = (
    *("plan", "sums.jsonl", "--model", "tiny", "--rates", "2e-3,5e-4,1e-4", "--epochs", "3", "--search", "asha"),
    *("--no-deploy", "--no-probe"),
)


def sums(folder: Path, rows: int = 40) -> Path:
    """Write conversations with an answer that can be checked."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sums.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": f"{n} + 1?"}, {"role": "assistant", "content": f"{n + 1}"}]}
        for n in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def record(folder: Path, name: str) -> dict[str, Any]:
    """Read a record of the plan."""
    found: dict[str, Any] = json.loads((folder / "plans" / "sums" / name).read_bytes())
    return found


@pytest.fixture
def waiting(made_once: MadeOnce, call_cli: RunCli, tmp_path: Path) -> Path:
    """A folder in which a plan waits for its approval."""

    def make(folder: Path) -> None:
        sums(folder)
        done = call_cli(*PLAN, cwd=folder)
        assert done.returncode == 0, done.stderr
        (folder / "said").write_text(done.stdout)

    made = made_once("planned", make)
    return shutil.copytree(made, tmp_path / "work")


@pytest.mark.slow
def test_without_a_terminal_the_plan_waits_with_all_that_is_to_be_approved(waiting: Path, call_cli: RunCli) -> None:
    said = (waiting / "said").read_text()
    assert "waiting for approval: approve it with `agent-sft plan approve sums`" in said
    plan, inspection = record(waiting, "plan.json"), record(waiting, "inspection.json")
    assert [one["rate"] for one in plan["candidates"]] == [0.002, 0.0005, 0.0001]
    parts = {part["name"]: part["rows"] for part in inspection["parts"]}
    assert parts == {"training": 32, "search": 25, "choosing": 7, "judging": 8}
    assert inspection["checkable"] == "numbers"
    rows = {name: set((waiting / "plans/sums/data" / f"{name}.jsonl").read_text().splitlines()) for name in parts}
    assert not rows["judging"] & rows["training"]
    assert not rows["choosing"] & rows["search"]
    assert len(rows["judging"] | rows["training"]) == 40
    told = (waiting / "plans/sums/plan.md").read_text()
    for words in ("machine-hours", "LoRA rank", "held out for the choice", "of this machine's memory"):
        assert words in told
        assert words in said
    assert not (waiting / "plans/sums/candidates").exists(), "nothing is trained before it is approved"
    status = call_cli("plan", "status", cwd=waiting)
    assert status.stdout.startswith("sums: waiting for approval (plan, ")


@pytest.mark.slow
def test_another_plan_than_the_one_that_was_seen_waits_again(waiting: Path, call_cli: RunCli) -> None:
    with (waiting / "sums.jsonl").open("a") as stream:
        stream.write(
            json.dumps({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]})
        )
    done = call_cli("plan", "approve", "sums", cwd=waiting)
    assert done.returncode == 0
    assert "waiting for approval: it is another plan than the one you saw" in done.stdout
    assert not (waiting / "plans/sums/candidates").exists()


@pytest.mark.slow
def test_a_plan_beyond_its_budget_is_refused(waiting: Path, call_cli: RunCli) -> None:
    done = call_cli(*PLAN, "--yes", "--gpu-price", "2", "--budget", "0.01", cwd=waiting)
    assert done.returncode == 1
    assert "over budget: the plan is estimated at 0.0" in done.stdout
    assert "of 0.010)" in done.stdout
    assert record(waiting, "state.json")["standing"] == "over budget"
    assert not (waiting / "plans/sums/candidates").exists()


class Refusing:
    """Somebody who is asked and says no."""

    def plan(self, plan: PlanRecord) -> bool:
        return False

    def promotion(self, board: Scoreboard) -> bool:
        return False


@pytest.mark.slow
def test_a_plan_that_is_refused_starts_nothing_and_can_be_approved_later(
    waiting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(waiting)
    config = find_plan("sums").config()
    outcome = run_plan(
        config, asker=Refusing(), shown=Terminal(), stop=StopSignal(), command=["agent-sft"], grants=Grants()
    )
    assert (outcome.standing, outcome.exit_code) == ("refused", 0)
    assert not outcome.folder.candidates.exists()
    assert record(waiting, "state.json")["standing"] == "refused"


@pytest.mark.slow
def test_nothing_can_be_promoted_before_it_was_tried(waiting: Path, call_cli: RunCli) -> None:
    done = call_cli("plan", "promote", "sums", cwd=waiting)
    assert (done.returncode, "no candidate has been scored yet" in done.stderr) == (2, True)
    unknown = call_cli("plan", "approve", "sum", cwd=waiting)
    assert (unknown.returncode, "did you mean 'sums'?" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (9, (), "is too small: 5 conversations would be left to train candidates on"),
        (40, ("--group-by", "metadata.call"), "row 1 has no metadata.call"),
        (40, ("--eval-data", "none.jsonl"), "no such file"),
        (40, ("--budget", "5"), "give --gpu-price too"),
        (40, ("--rates", "fast"), "'fast' is not a list of numbers"),
        (40, ("--draft", "--task", "x.py"), "two ways to judge"),
    ],
)
def test_what_cannot_be_planned_is_refused_and_leaves_nothing(
    tmp_path: Path, call_cli: RunCli, rows: int, options: tuple[str, ...], said: str
) -> None:
    sums(tmp_path, rows)
    done = call_cli("plan", "sums.jsonl", "--model", "tiny", *options, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "plans").exists() or not any((tmp_path / "plans").iterdir())


@pytest.mark.slow
def test_evaluation_data_of_ones_own_chooses_and_judges_and_leaks_are_left_out(
    tmp_path: Path, call_cli: RunCli
) -> None:
    sums(tmp_path)
    lines = (tmp_path / "sums.jsonl").read_text().splitlines()[:3]
    lines += [
        line.replace(" + 1?", " + 1, please?") for line in (tmp_path / "sums.jsonl").read_text().splitlines()[3:9]
    ]
    (tmp_path / "eval.jsonl").write_text("\n".join(lines))
    done = call_cli(*PLAN, "--eval-data", "eval.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    inspection = record(tmp_path, "inspection.json")
    parts = {part["name"]: part["rows"] for part in inspection["parts"]}
    assert parts == {"training": 37, "search": 37, "choosing": 5, "judging": 4}
    assert inspection["leaks"] == 3
    assert "3 conversations left out: the evaluation data ask the same" in done.stdout


def test_an_evaluator_cannot_be_made_of_answers_that_nothing_checks(tmp_path: Path, call_cli: RunCli) -> None:
    shutil.copy(SMALL, tmp_path / "telecom.json")
    rows = json.loads(SMALL.read_text())
    for number, row in enumerate(rows):
        row["conversations"][1:] = [{"from": "gpt", "value": f"Well, {number * 'so '} it is."}]
    (tmp_path / "telecom.json").write_text(json.dumps(rows))
    done = call_cli("plan", "telecom.json", "--model", "tiny", "--draft", cwd=tmp_path)
    assert (done.returncode, "cannot be checked by a program" in done.stderr) == (1, True), done.stderr


@pytest.mark.slow
def test_without_a_final_run_the_plan_scores_the_winner_as_it_is(tmp_path: Path, call_cli: RunCli) -> None:
    sums(tmp_path)
    done = call_cli(*PLAN, "--skip-final", "--gpu-price", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the winner is deployed as it is" in done.stdout
    costs = {one["phase"]: one for one in record(tmp_path, "plan.json")["costs"]}
    assert costs["final run"]["detail"] == "nothing trained, 2 evaluations"
    assert 0 < costs["final run"]["device_hours"] < costs["candidates"]["device_hours"]


@pytest.mark.slow
def test_a_plan_goes_all_the_way_with_an_approval_at_each_gate(waiting: Path, call_cli: RunCli) -> None:
    tried = call_cli("plan", "approve", "sums", cwd=waiting)
    assert tried.returncode == 0, tried.stderr
    assert "waiting for promotion: promote the winner with `agent-sft plan promote sums`" in tried.stdout
    board = record(waiting, "scoreboard.json")
    assert board["samples"] == 7
    assert board["winner"] == 1, "a rate of 0.002 learns something, one of 0.0001 does not"
    assert [(line["state"], line["steps"]) for line in board["lines"]] == [("done", 39), ("done", 39), ("stopped", 13)]
    assert "91 of 117 training steps were made" in tried.stdout
    assert "how long is known when" not in tried.stderr + tried.stdout, "the plan has told how long it takes"
    shown = (waiting / "plans/sums/scoreboard.md").read_text()
    assert "- model of all: tiny" in shown, "what all candidates have in common takes no column"
    assert "| candidate | rank | rate | loss |" in shown
    run = waiting / "plans/sums/candidates/variants" / board["lines"][0]["candidate"]["name"]
    steps = [json.loads(line) for line in (run / "trainer_log.jsonl").read_text().splitlines()]
    assert [step["current_steps"] for step in steps if "loss" in step] == [*range(1, 40)], "no step is made twice"
    assert {step["total_steps"] for step in steps} == {39}, "the schedule is that of the whole training"
    assert not (waiting / "plans/sums/final").exists(), "the final run waits for the promotion"

    stopped = call_cli("plan", "promote", "sums", "--candidate", "3", cwd=waiting)
    assert (stopped.returncode, "candidate 3 was stopped at step 13 of 39" in stopped.stderr) == (2, True)
    ended = call_cli("plan", "promote", "sums", cwd=waiting)
    assert ended.returncode == 0, ended.stderr
    judged = record(waiting, "judgement.json")
    assert (judged["candidate"], judged["trained"], judged["samples"]) == (1, True, 8)
    assert [one["name"] for one in judged["models"]] == ["untrained", "final"]
    assert Path(waiting / judged["model"] / "adapter_model.safetensors").is_file()
    options = (waiting / judged["model"] / "run.yaml").read_text()
    assert "data/training.jsonl" in options, "it is trained on all that judges nothing"
    report = (waiting / "plans/sums/final_report.md").read_text()
    for words in ("Expected and real", "Scoreboard", "Made of", "sha256:", "It is not served"):
        assert words in report
    assert (waiting / "plans/sums/final_report.html").read_text().startswith("<!DOCTYPE html>")

    again = call_cli(*PLAN, cwd=waiting)
    assert again.returncode == 0, again.stderr
    assert "starts (" not in again.stderr, "nothing is done twice"
