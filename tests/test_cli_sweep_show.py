"""How a sweep looks: one line for what will happen, one for each variant."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from agent_sft.cli.sweep_show import Pace, most_telling, opening_line, table, words
from agent_sft.report.sweep.record import EvaluationRecord, JobRecord, SweepRecord, VariantRecord
from agent_sft.sweep.outside import Opening
from agent_sft.sweep.progress import Line, Progress
from agent_sft.sweep.slots import Capacity
from tests.evaluations import written


@pytest.mark.parametrize(
    ("opening", "line"),
    [
        (
            Opening({"prepare": 1, "train": 5, "evaluate": 4}, 0, Capacity((), 2), 372.0),
            "1 preparation, 5 trainings, 4 evaluations to do on 2 processors: about 6 min 12 s",
        ),
        (
            Opening({"train": 1}, 3, Capacity((0,), 64), None),
            "1 training to do (3 done already) on 1 GPU: how long is known when the first have ended",
        ),
        (
            Opening({"train": 1}, 0, Capacity((0,), 64), None, "an hour on one card of the last generation"),
            "1 training to do on 1 GPU: an hour on one card of the last generation",
        ),
        (
            Opening({"train": 1}, 0, Capacity((0,), 64), 60.0, "an hour on one card of the last generation"),
            "1 training to do on 1 GPU: about 1 min 0 s",
        ),
        (Opening({}, 9, Capacity((0, 1), 64), 0.0), "all 9 jobs are done already"),
    ],
)
def test_the_first_line_says_what_will_happen(opening: Opening, line: str) -> None:
    assert opening_line(opening) == line


def test_a_variant_in_words() -> None:
    line = Line("syc_5", "evaluating", done=12, total=96, loss=0.5312, score=0.75, devices=("gpu 1",))
    assert words(line) == "syc_5: evaluating 12/96, loss 0.531, score 0.750"


def record(state: str, running: str) -> SweepRecord:
    jobs = [
        JobRecord(id="train/a", kind="train", state="done" if state != "training" else "running", devices=["gpu 0"]),
        JobRecord(id="score/a/final/e", kind="score", state=running, devices=["gpu 1"]),  # type: ignore[arg-type]
    ]
    evaluation = EvaluationRecord(
        job="score/a/final/e", checkpoint="final", step=9, evaluator="e", folder="evaluations/a/final/e"
    )
    variant = VariantRecord(
        name="a",
        group="a",
        value=1,
        seed=42,
        run="variants/a",
        model="m",
        train_job="train/a",
        evaluations=[evaluation],
    )
    return SweepRecord(
        name="s",
        question=None,
        varied=None,
        baseline="a",
        evaluators=["e"],
        gpu_price=None,
        started="",
        updated="",
        finished=None,
        command=[],
        folder="",
        settings={},
        machine={},
        versions={},
        jobs=jobs,
        variants=[variant],
    )


def test_progress_is_read_from_what_the_jobs_write(tmp_path: Path) -> None:
    run = tmp_path / "variants" / "a"
    run.mkdir(parents=True)
    log = run / "trainer_log.jsonl"
    log.write_text('{"current_steps": 3, "total_steps": 9, "loss": 1.5}\n{"current_steps": 4, "tot')
    progress = Progress(tmp_path)
    (line,) = progress.lines(record("training", "waiting"))
    assert (line.stage, line.done, line.total, line.loss, line.devices) == ("training", 3, 9, 1.5, ("gpu 0",))
    with log.open("a") as stream:
        stream.write('al_steps": 9, "loss": 1.25}\n')
    (line,) = progress.lines(record("training", "waiting"))
    assert (line.done, line.loss) == (4, 1.25)
    (line,) = progress.lines(record("trained", "waiting"))
    assert (line.stage, line.done, line.loss) == ("trained", None, 1.25)
    written(tmp_path / "evaluations" / "a" / "final" / "e", {"x": [1.0, 0.0], "y": [1.0]})
    (line,) = progress.lines(record("trained", "running"))
    assert (line.stage, line.done, line.total, line.devices) == ("evaluating", 3, 4, ("gpu 1",))
    assert line.score == pytest.approx(2 / 3)


def test_a_table_for_terminals() -> None:
    lines = [Line("a", "done", score=0.5), Line("b", "training", done=2, total=9, loss=1.0, devices=("gpu 0",))]
    shown = io.StringIO()
    Console(file=shown, width=100).print(table(lines, Pace()))
    rows = [line.split() for line in shown.getvalue().splitlines()]
    assert rows[1] == ["a", "done", "0.500"]
    assert rows[2] == ["b", "training", "2/9", "1.000", "gpu", "0"]


def test_what_runs_and_what_failed_is_shown_where_there_is_no_room_for_all() -> None:
    stages = ["done"] * 50 + ["training", "waiting", "failed", "evaluating"] + ["waiting"] * 100
    lines = [Line(str(number), stage) for number, stage in enumerate(stages)]
    shown, rest = most_telling(lines, 4)
    assert [line.stage for line in shown] == ["training", "waiting", "failed", "evaluating"]
    assert rest == "and 100 waiting, 50 done"
    assert most_telling(lines, 200) == (lines, "")
    assert len(most_telling(lines, 0)[0]) == 1
