"""The scoreboard of a plan's candidates, and the final model beside the untrained one."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.results import RESULTS, write_evaluation
from agent_sft.planning.board import check_promotable, judgement, ranking, scoreboard
from agent_sft.planning.halving import Rung
from agent_sft.planning.sweeps import BASE, FINAL, Machine
from agent_sft.report.plan.record import Candidate, Scoreboard
from agent_sft.report.sweep.record import EvaluationRecord, JobRecord, State, SweepRecord, VariantRecord
from tests.evaluations import evaluation, trial, written

MACHINE = Machine(gpus=0, cores=2, train=1, at_once=2)


class Board:
    """A sweep's folder with evaluations, and its record."""

    def __init__(self, folder: Path, *evaluators: str) -> None:
        self.folder, self.evaluators = folder, evaluators
        self.jobs: list[JobRecord] = []
        self.variants: list[VariantRecord] = []
        self.candidates: list[Candidate] = []

    def add(self, name: str, failed: str | None = None, at: str = "final") -> None:
        """Add a variant: trained, and scored by each evaluator at a checkpoint; or failed in its training."""
        train = f"train/{name}"
        state: State = "failed" if failed else "done"
        self.jobs.append(
            JobRecord(id=train, kind="train", state=state, seconds=1800, devices=["cores 1"], reason=failed)
        )
        found = []
        for evaluator in self.evaluators:
            job = f"evaluate/{name}/{at}/{evaluator}"
            self.jobs.append(JobRecord(id=job, kind="evaluate", state="skipped" if failed else "done"))
            place = f"evaluations/{name}/{at}/{evaluator}"
            found.append(EvaluationRecord(job=job, checkpoint=at, step=9, evaluator=evaluator, folder=place))
        self.variants.append(
            VariantRecord(
                name=name, group=name, value=None, seed=42, run=None, model=name, train_job=train, evaluations=found
            )
        )
        number = len(self.candidates) + 1
        self.candidates.append(
            Candidate(number=number, name=name, model="m", rank=8 * number, rate=1e-4, epochs=1, batch=4, steps=9)
        )

    def losses(self, name: str, values: list[float], at: str = "final") -> None:
        place = self.folder / "evaluations" / name / at / "loss"
        write_evaluation(place, evaluation(evaluator="loss", tasks=["held"], trials=1))
        count = len(values)
        detail = {"loss": sum(values) / count, "losses": values, "tokens": [9] * count, "characters": [30] * count}
        (place / RESULTS).write_bytes(msgspec.json.encode(trial("held", 0, 0.5, detail=detail)) + b"\n")

    def scores(self, name: str, values: list[int]) -> None:
        tasks: dict[str, list[float | None]] = {f"t{number}": [float(value)] for number, value in enumerate(values)}
        written(self.folder / "evaluations" / name / "final" / "drafted", tasks)

    @property
    def record(self) -> SweepRecord:
        return SweepRecord(
            name="s", question=None, varied=None, baseline=None, evaluators=[], gpu_price=None, started="", updated="",
            finished=None, command=[], folder="", settings={}, machine={}, versions={}, jobs=self.jobs,
            variants=self.variants,
        )  # fmt: skip

    def made(self, decider: str | None = None) -> Scoreboard:
        return scoreboard(self.record, self.folder, self.candidates, decider, MACHINE)


def around(mean: float, seed: int, count: int = 20) -> list[float]:
    chance = random.Random(seed)
    return [mean + chance.gauss(0, 0.05) for _ in range(count)]


def test_the_best_is_told_from_the_others(tmp_path: Path) -> None:
    board = Board(tmp_path, "loss")
    for number, (name, mean) in enumerate((("a", 1.5), ("b", 1.0), ("c", 1.3))):
        board.add(name)
        board.losses(name, around(mean, number))
    made = board.made()
    assert (made.measure, made.winner, made.tie, made.samples) == ("loss", 2, False, 20)
    assert [line.against for line in made.lines] == ["worse", "the best", "worse"]
    assert "told from all others" in made.sentences[0]
    assert made.lines[0].device_hours == pytest.approx(0.25), "half an hour on one of two processors"


def test_a_tie_is_called_a_tie(tmp_path: Path) -> None:
    board = Board(tmp_path, "loss")
    for number, (name, mean) in enumerate((("a", 1.0), ("b", 1.001), ("c", 2.0))):
        board.add(name)
        board.losses(name, around(mean, number))
    made = board.made()
    assert made.tie
    assert sorted(line.against for line in made.lines) == ["a tie", "the best", "worse"]
    assert made.sentences[0].startswith("A tie: candidate ")
    assert "conversations to tell a difference of this size" in made.sentences[1]


def test_of_two_that_are_the_same_the_smaller_one_wins(tmp_path: Path) -> None:
    board = Board(tmp_path, "loss")
    for name in ("a", "b"):
        board.add(name)
        board.losses(name, around(1.0, 1))
    board.candidates.reverse()
    assert board.made().winner == 1


def test_a_candidate_that_failed_does_not_count_and_cannot_be_promoted(tmp_path: Path) -> None:
    board = Board(tmp_path, "loss")
    board.add("a", failed="out of memory")
    board.add("b")
    board.losses("b", around(1.0, 1))
    made = board.made()
    assert (made.winner, made.lines[0].state, made.lines[0].against) == (2, "failed", "")
    assert made.sentences[-1] == "Candidate 1 failed and does not count."
    assert "out of memory" in str(made.lines[0].reason)
    check_promotable(made, 2)
    for number, said in ((1, "candidate 1 failed"), (3, "there is no candidate 3")):
        with pytest.raises(UserError, match=said):
            check_promotable(made, number)


def test_where_all_failed_there_is_no_winner(tmp_path: Path) -> None:
    board = Board(tmp_path, "loss")
    board.add("a", failed="out of memory")
    with pytest.raises(WorkFailed, match="out of memory"):
        board.made()


def test_an_evaluator_decides_where_there_is_one(tmp_path: Path) -> None:
    board = Board(tmp_path, "loss", "drafted")
    for name, loss, right in (("a", 1.0, 4), ("b", 1.2, 18)):
        board.add(name)
        board.losses(name, around(loss, 1))
        board.scores(name, [1] * right + [0] * (20 - right))
    made = board.made("drafted")
    assert (made.measure, made.winner, made.tie, made.samples) == ("pass^1", 2, False, 20)
    assert made.lines[1].score == pytest.approx(0.9)
    assert made.lines[0].difference == pytest.approx(-0.7)


def test_a_tie_by_an_evaluator_names_the_clearest_of_the_others(tmp_path: Path) -> None:
    board = Board(tmp_path, "loss", "drafted")
    for name, right in (("a", 9), ("b", 10), ("c", 10)):
        board.add(name)
        board.losses(name, around(1.0, 1))
        board.scores(name, [1] * right + [0] * (20 - right))
    made = board.made("drafted")
    assert (made.winner, made.tie) == (2, True)
    assert "it cannot be told from candidates 1, 3" in made.sentences[0]
    assert made.sentences[1].startswith("The clearest of them, candidate 1: difference −0.05")


def test_the_final_model_is_held_against_the_untrained_one(tmp_path: Path) -> None:
    board = Board(tmp_path / "final", "loss")
    for name, mean in ((BASE, 3.0), (FINAL, 1.0)):
        board.add(name)
        board.losses(name, around(mean, 1))
    found = judgement(board.record, board.folder, board.candidates[1], None, trained=True, model=tmp_path)
    assert found.sentences[0].startswith("Training made the held-out loss better: 3.0")
    assert found.models[0].folders == {"loss": f"final/evaluations/{BASE}/final/loss"}
    board.losses(FINAL, around(3.0, 2))
    same = judgement(board.record, board.folder, board.candidates[1], None, trained=True, model=tmp_path)
    assert same.sentences[0].startswith("Whether training changed the held-out loss cannot be told")


def test_those_that_were_stopped_are_compared_with_the_winner_at_their_step(tmp_path: Path) -> None:
    board = Board(tmp_path, "loss")
    for name in ("a", "b", "c"):
        board.add(name, at="final" if name == "b" else "step-3")
    for number, (name, mean) in enumerate((("a", 2.5), ("b", 2.0), ("c", 2.001))):
        board.losses(name, around(mean, number), at="step-3")
    board.losses("b", around(1.0, 9))
    assert ranking(board.record, tmp_path, board.candidates[::2], None) == ["c", "a"]
    rung = Rung(1 / 3, 3)
    made = scoreboard(board.record, tmp_path, board.candidates, None, MACHINE, {"a": rung, "c": rung})
    assert made.winner == 2
    assert [(line.state, line.steps, line.against) for line in made.lines] == [
        ("stopped", 3, "worse"),
        ("done", 9, "the best"),
        ("stopped", 3, "a tie"),
    ]
    assert made.lines[0].difference == pytest.approx(0.5, abs=0.1), "at step 3, not at the end"
    assert made.sentences == [
        f"Candidate 2 is the one that is left (held-out loss {made.lines[1].loss:.4f} nats per token on 20 "
        "conversations); 2 were stopped: 15 of 27 training steps were made, 56%. A tie: it could not be told from 3 "
        "when those were stopped."
    ]
    with pytest.raises(UserError, match="candidate 1 was stopped at step 3 of 9"):
        check_promotable(made, 1)
