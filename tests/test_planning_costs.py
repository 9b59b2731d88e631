"""What a plan takes: what the probe measured is what counts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec
import pytest

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.evals.results import RESULTS, write_evaluation
from agent_sft.planning.costs import CostModel, Measured, measured_by
from agent_sft.planning.sweeps import Machine
from agent_sft.report.plan.record import Inspection, ModelFacts
from agent_sft.report.sweep.record import EvaluationRecord, JobRecord, SweepRecord, VariantRecord, write_record
from tests.evaluations import evaluation, trial

FACTS = ModelFacts(
    name="m", model="m", template="qwen", tokens=9, loss_tokens=3, longest=3, median=3, longer=0, examples=3,
    parameters=1000,
)  # fmt: skip
INSPECTION = Inspection(
    sources={}, form="", pipeline="", rows={}, steps=[], rejected=0, first_rejects=[], turns=0, roles={}, tools={},
    duplicates=0, grouped_by=None, groups=0, leaks=0, checkable=None, checked=0, why_not_checkable=None,
    own_eval_data=False, parts=[],
)  # fmt: skip
MACHINE = Machine(gpus=0, cores=2, train=1, at_once=2)


def probe(folder: Path, jobs: dict[str, float]) -> None:
    """The sweep of a probe: a training of 20 steps in 10 of its seconds, and what scored it."""
    run = folder / "variants/m1"
    run.mkdir(parents=True)
    (run / "trainer_state.json").write_text(json.dumps({"global_step": 20, "log_history": []}))
    (run / "train_results.json").write_text(json.dumps({"train_runtime": 10}))
    variants = []
    for name, seconds in (("m1", (2.0, 4.0, 6.0)), ("m1-untrained", (10.0, 10.0, 16.0))):
        place = f"evaluations/{name}/final/drafted"
        write_evaluation(folder / place, evaluation(tasks=["a", "b", "c"], trials=1))
        lines = [
            msgspec.json.encode(trial(task, 0, 0.0, seconds=took)) for task, took in zip("abc", seconds, strict=True)
        ]
        (folder / place / RESULTS).write_bytes(b"\n".join(lines) + b"\n")
        job = f"score/{name}/final/drafted"
        found = [EvaluationRecord(job=job, checkpoint="final", step=20, evaluator="drafted", folder=place)]
        variants.append(
            VariantRecord(
                name=name, group=name, value=None, seed=42, run=None, model="m", train_job=None, evaluations=found
            )
        )
    records = [JobRecord(id=job, kind=job.partition("/")[0], state="done", seconds=took) for job, took in jobs.items()]
    record = SweepRecord(
        name="s", question=None, varied=None, baseline=None, evaluators=[], gpu_price=None, started="", updated="",
        finished=None, command=[], folder="", settings={}, machine={}, versions={}, jobs=records, variants=variants,
    )  # fmt: skip
    write_record(folder, record)


def test_the_probe_tells_how_long_a_server_and_its_answers_take(tmp_path: Path) -> None:
    jobs = {"train/m1": 25.0, "evaluate/m1/final/loss": 7.0}
    probe(tmp_path, {**jobs, "score/m1/final/drafted": 21.0, "score/m1-untrained/final/drafted": 30.0})
    found = measured_by(tmp_path, [FACTS])
    assert found == {"m": Measured(start=15.0, step=0.5, loss=7.0, trial=4.0, untrained=12.0, server=15.0)}
    costs = CostModel(MACHINE, INSPECTION, [FACTS], lora=True, measured=found)
    assert costs.deployment("m") == 15.0


def test_without_tasks_in_the_probe_a_servers_time_is_by_formula(tmp_path: Path) -> None:
    probe(tmp_path, {"train/m1": 25.0, "evaluate/m1/final/loss": 7.0})
    assert measured_by(tmp_path, [FACTS]) == {"m": Measured(start=15.0, step=0.5, loss=7.0)}


@pytest.mark.parametrize(
    ("tasks", "first", "seconds"), [(3, True, 19.0), (12, True, 27.0), (12, False, 14.0), (13, False, 18.0)]
)
def test_an_evaluation_takes_the_server_and_as_many_rounds_as_tasks_do_not_fit_at_once(
    tmp_path: Path, tasks: int, first: bool, seconds: float
) -> None:
    """Four at a time, four seconds each; the first one waits for the server, later ones until it serves their model."""
    (tmp_path / "tasks.jsonl").write_text("{}\n" * tasks)
    asked = EvaluationConfig(evaluator="tasks", task=str(tmp_path), model="m", out=tmp_path / "out", concurrency=4)
    measured = Measured(start=1, step=1, loss=1, trial=4.0, untrained=8.0, server=15.0)
    costs = CostModel(MACHINE, INSPECTION, [FACTS], lora=True, measured={"m": measured})
    assert costs.served("m", asked, first=first) == pytest.approx(seconds)
    longer = math.ceil(tasks / 4) * (8.0 - 4.0)
    assert costs.served("m", asked, first=first, trained=False) == pytest.approx(seconds + longer)
