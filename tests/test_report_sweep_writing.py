"""The report of a sweep: what it says of finished sweeps, of half-finished ones, and of those that cannot tell."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from agent_sft.cli.sweep_report import command
from agent_sft.errors import UserError
from agent_sft.evals.comparison import compare
from agent_sft.report.sweep.record import read_record, write_record
from agent_sft.report.sweep.writing import write_report
from tests.evaluations import written
from tests.support import tree
from tests.sweeps import EVALUATOR, job, scored_record, write_scores, write_sweep, write_training

FORMS = ("index.html", "report.md", "report.json", "report.csv")


def changed(folder: Path, **changes: Any) -> Path:
    """Change the record of a sweep."""
    write_record(folder, msgspec.structs.replace(read_record(folder), **changes))
    return folder


def told(folder: Path) -> dict[str, Any]:
    """The report as JSON."""
    found: dict[str, Any] = json.loads((write_report(folder).parent / "report.json").read_bytes())
    return found


def answers(folder: Path) -> list[str]:
    """The sentences of the report."""
    found: list[str] = told(folder)["answer"][EVALUATOR]
    return found


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of four variants."""
    return write_sweep(tmp_path_factory.mktemp("sweep"))


def test_the_answer_comes_first_with_its_certainty(sweep: Path) -> None:
    first, *further = answers(sweep)
    folders = [sweep / f"evaluations/{share}pct/final/{EVALUATOR}" for share in (0, 5, 10, 20)]
    found = compare(folders, order=[0, 5, 10, 20])  # type: ignore[list-item]
    assert found.trend is not None
    slope = f"{found.trend.slope:.4f}".replace("-", "−")
    start = f"pass^1 falls from {found.variants[0].value:.2f} to {found.variants[-1].value:.2f} as “conversations that"
    assert first.startswith(start)
    assert f"(trend {slope} per %, 95 % interval −" in first
    assert "p < 0.0001; 40 tasks × 4 trials)" in first
    assert further[0].startswith("pass^4 falls from ")
    assert "after Holm for 3 families" in further[1] and "forbidden" in further[1]


def test_all_forms_hold_the_same_numbers(sweep: Path) -> None:
    place = write_report(sweep).parent
    assert sorted(path.name for path in place.iterdir()) == sorted(FORMS)
    content = json.loads((place / "report.json").read_bytes())
    summary = content["variants"]["20pct"]["evaluations"][0]["summary"]["overall"]["estimates"][0]
    rows = list(csv.DictReader(io.StringIO((place / "report.csv").read_text())))
    row = next(r for r in rows if (r["variant"], r["family"], r["measure"]) == ("20pct", "", "pass^1"))
    assert float(row["score"]) == summary["value"] and float(row["low"]) == summary["low"]
    shown = f"{summary['value']:.3f} [{summary['low']:.2f}, {summary['high']:.2f}]"
    assert shown in (place / "report.md").read_text()
    assert f"{summary['value']:.3f}<small>" in (place / "index.html").read_text()


@pytest.mark.slow
def test_the_same_folder_gives_the_same_bytes_wherever_it_lies(sweep: Path, tmp_path: Path) -> None:
    first = {name: (write_report(sweep).parent / name).read_bytes() for name in FORMS}
    elsewhere = shutil.copytree(sweep, tmp_path / "moved")
    shutil.rmtree(elsewhere / "report")
    assert {name: (write_report(elsewhere).parent / name).read_bytes() for name in FORMS} == first


def test_the_report_touches_nothing_else(sweep: Path) -> None:
    before = tree(sweep)
    write_report(sweep)
    after = tree(sweep)
    assert {name for name in after if after[name] != before.get(name)} <= {f"report/{name}" for name in FORMS}


def test_half_a_sweep_is_reported_and_what_is_missing_is_said(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, tasks=8)
    for name in ("10pct", "20pct"):
        shutil.rmtree(folder / "evaluations" / name)
    shutil.rmtree(folder / "variants" / "20pct")
    write_training(folder / "variants" / "20pct", share=20, seed=42, until=25)
    write_scores(folder / f"evaluations/10pct/final/{EVALUATOR}", gives_in=0.1, tasks=8, done=0.5)
    log = folder / "jobs" / "train.20pct" / "2.log"
    log.parent.mkdir(parents=True)
    log.write_text("starting\nCUDA out of memory <here>\n")
    failed = job("train/20pct", "train", "failed", attempts=3, log="jobs/train.20pct/2.log", reason="exit code 1")
    jobs = {one.id: one for one in read_record(folder).jobs}
    jobs["train/20pct"] = failed
    jobs[f"score/10pct/final/{EVALUATOR}"] = job(f"score/10pct/final/{EVALUATOR}", "score", "running")
    jobs[f"score/20pct/final/{EVALUATOR}"] = job(f"score/20pct/final/{EVALUATOR}", "score", "skipped")
    changed(folder, jobs=list(jobs.values()), finished=None)
    content = told(folder)
    assert content["answer"][EVALUATOR][0].startswith("2 of 4 variants are scored so far. ")
    assert f"Not in the comparison by {EVALUATOR}: 10pct: 16 of 32 trials scored so far." in content["unfinished"]
    assert content["failures"] == {"train/20pct": ["starting", "CUDA out of memory <here>"]}
    assert content["variants"]["20pct"]["training"]["steps"] == 25
    page = (folder / "report" / "index.html").read_text()
    assert "train/20pct failed after 3 tries</strong>: exit code 1" in page
    assert "CUDA out of memory &lt;here&gt;" in page and "not finished" in page
    assert "train/20pct failed: exit code 1" in (folder / "report" / "report.md").read_text()


def test_a_sweep_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, tasks=4)
    shutil.rmtree(folder / "evaluations")
    shutil.rmtree(folder / "variants")
    jobs = [job(one.id, one.kind, "waiting", seconds=0.0) for one in read_record(folder).jobs]
    changed(folder, jobs=jobs, finished=None)
    page = write_report(folder).read_text()
    assert "Nothing has been scored yet." in page and "0 of 4 variants done" in page
    assert "0pct is waiting." in page


def test_a_comparison_that_cannot_tell_says_how_many_tasks_it_would_take(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, shares=(0, 5), tasks=12)
    first = answers(folder)[0]
    assert first.startswith(
        "Whether pass^1 changes with “conversations that give in” cannot be told: it is 1.00 at 0 %"
    )
    assert re.search(r"It would take about \d+ tasks to tell a change of this size four times in five\.$", first)


def test_where_nothing_was_seen_the_interval_says_what_could_be(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, shares=(0, 5), tasks=4)
    for name, lost in (("0pct", 1), ("5pct", 2)):
        shutil.rmtree(folder / f"evaluations/{name}")
        scores = {f"t{number}": [float(number != lost)] for number in range(12)}
        written(folder / f"evaluations/{name}/final/{EVALUATOR}", scores)
    first = answers(folder)[0]
    assert re.search(
        r"p = 1\.0000; .* There is no change to speak of; the interval leaves room for one of −0\.\d\d", first
    )


def test_a_tie_is_called_a_tie(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, shares=(0, 5, 10), tasks=8)
    for share in (5, 10):
        write_scores(folder / f"evaluations/{share}pct/final/{EVALUATOR}", gives_in=0.0, tasks=8)
        shutil.copytree(
            folder / f"evaluations/0pct/final/{EVALUATOR}",
            folder / f"evaluations/{share}pct/final/{EVALUATOR}",
            dirs_exist_ok=True,
        )
    assert (
        answers(folder)[0]
        == "pass^1 is a tie: 1.00 in all 3 variants, and no task tells them apart (8 tasks × 4 trials)."
    )


def test_categories_are_compared_with_the_baseline(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path)
    names = {"0pct": "lora", "5pct": "freeze", "10pct": "full", "20pct": "none"}
    variants = [msgspec.structs.replace(one, value=names[one.group]) for one in read_record(folder).variants]
    changed(folder, variants=variants, varied="finetuning_type", baseline="5pct")
    first = answers(folder)[0]
    assert first.startswith("pass^1: against 5pct (0.97), ") and "20pct is worse (−0." in first
    assert "corrected" in first and "trend" not in first
    assert "The trend" not in (folder / "report" / "report.md").read_text()


def test_an_interval_that_reaches_zero_beside_a_small_p_is_explained(tmp_path: Path) -> None:
    scores = {f"t{number}": [1.0] * 4 for number in range(40)}
    worse = {task: ([0.0, 1.0, 1.0, 1.0] if number < 12 else [1.0] * 4) for number, task in enumerate(scores)}
    folder = write_sweep(tmp_path, shares=(0, 5), tasks=4)
    for name, found in (("0pct", scores), ("5pct", worse)):
        shutil.rmtree(folder / f"evaluations/{name}")
        written(folder / f"evaluations/{name}/final/{EVALUATOR}", found)
    variants = [msgspec.structs.replace(one, value=f"v{one.group}") for one in read_record(folder).variants]
    first = answers(changed(folder, variants=variants))[0]
    assert "is worse" in first and first.endswith("where one reaches 0 beside a small p, p decides.")


def test_several_seeds_are_told_from_tasks(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, shares=(0, 20), seeds=(1, 2, 3), tasks=20, of_seeds=0.1)
    content = told(folder)
    assert "; 3 seeds × 20 tasks × 4 trials)" in content["answer"][EVALUATOR][0]
    part = content["scores"][EVALUATOR]["parts"][0]
    group = part["estimates"][1]
    assert list(group["by_seed"]) == ["1", "2", "3"]
    parts = [group["crossed"][key] for key in ("from_seeds", "from_tasks", "from_rest")]
    assert min(parts) >= 0 and sum(parts) > 0
    assert part["comparison"]["seeds"] == 3
    assert (
        "by training seed, and where the variance of the mean comes from" in (folder / "report/report.md").read_text()
    )
    assert "single seeds" in (folder / "report/index.html").read_text()


def test_checkpoints_of_one_run_are_a_learning_curve(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, shares=(20,), tasks=16)
    evaluations, jobs = [], list(read_record(folder).jobs[:2])
    for step in (10, 30, 60):
        place = f"evaluations/20pct/step-{step}/{EVALUATOR}"
        write_scores(folder / place, gives_in=0.9 - 0.012 * step, seed=step, tasks=16)
        evaluations.append(scored_record("20pct", f"step-{step}", step, place))
        jobs.append(job(f"score/20pct/step-{step}/{EVALUATOR}", "score"))
    variants = [msgspec.structs.replace(read_record(folder).variants[0], evaluations=evaluations)]
    assert re.match(r"pass\^1 rises from 0\.\d+ to 0\.\d+ as “training step” rises from 10 to 60", answers(
        changed(folder, variants=variants, jobs=jobs)
    )[0])  # fmt: skip
    assert ">training step</text>" in (folder / "report" / "index.html").read_text()


def test_trials_that_the_infrastructure_failed_are_never_wrong_answers(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, shares=(0, 20), tasks=4)
    for name in ("0pct", "20pct"):
        shutil.rmtree(folder / f"evaluations/{name}")
        written(folder / f"evaluations/{name}/final/{EVALUATOR}", {"a": [1.0, None], "b": [1.0, 0.0], "c": [1.0, 1.0]})
    content = told(folder)
    assert f"1 trial of 20pct could not be run by {EVALUATOR} and have no score." in content["unfinished"]
    assert content["answer"][EVALUATOR][0].startswith("pass^1 is a tie: 0.83 in both variants")


def test_gpus_have_hours_and_a_price(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, shares=(0, 20), tasks=4)
    jobs = [msgspec.structs.replace(one, gpu_seconds=1800.0) for one in read_record(folder).jobs]
    content = told(changed(folder, jobs=jobs, gpu_price=2.5))
    assert content["variants"]["0pct"]["gpu_hours"] == 1.0 and content["variants"]["0pct"]["cost"] == 2.5
    page = (folder / "report" / "index.html").read_text()
    assert "2.50 GPU-hours" in page and "cost 6.25" in page


def test_data_is_named_by_its_digest_and_its_ledger(sweep: Path) -> None:
    text = (write_report(sweep).parent / "report.md").read_text()
    assert re.search(r"syc\\_0pct\.json sha256:[0-9a-f]{12}… \| 960 read, 952 trained on, 8 rejected", text)
    assert "merge\\_turns: 120 changed" in text
    assert "| llamafactory | 0.9.5 |" in text


@pytest.mark.slow
def test_the_command_prints_the_page_or_another_form(sweep: Path) -> None:
    runner = CliRunner()
    page = runner.invoke(command, [str(sweep)], catch_exceptions=False)
    assert page.output.strip() == str(sweep / "report" / "index.html")
    told_ = runner.invoke(command, [str(sweep), "--format", "json"], catch_exceptions=False)
    assert json.loads(told_.output)["name"] == "telecom_sycophancy"


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no sweep here"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_no_better_than_doing_nothing_is_said_to_be(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, shares=(0, 20), tasks=8)
    shutil.rmtree(folder / "evaluations/20pct")
    write_scores(folder / f"evaluations/20pct/final/{EVALUATOR}", gives_in=0.0, tasks=8)
    wrong = folder / f"evaluations/20pct/final/{EVALUATOR}/results.jsonl"
    wrong.write_text(wrong.read_text().replace('"score":1.0', '"score":0.0'))
    assert answers(folder)[-1] == "20pct cannot be told from an agent that does nothing (0.00)."


def test_a_second_evaluator_and_every_checkpoint_have_their_place(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, shares=(0, 20), tasks=8)
    variants, jobs = [], list(read_record(folder).jobs)
    for variant in read_record(folder).variants:
        own = []
        for step in (20, 60):
            place = f"evaluations/{variant.name}/step-{step}/{EVALUATOR}"
            write_scores(folder / place, gives_in=0.3, seed=step, tasks=8)
            own.append(scored_record(variant.name, f"step-{step}", step, place))
        loss = f"evaluations/{variant.name}/final/held_out"
        detail = {"loss": 0.25 + (variant.value == 20), "perplexity": 1.3, "examples": 9}
        written(folder / loss, {"held_out": [0.9]}, evaluator="loss", benchmark="held_out")
        results = folder / loss / "results.jsonl"
        line = json.loads(results.read_text())
        results.write_text(json.dumps({**line, "detail": detail}) + "\n")
        own.append(msgspec.structs.replace(own[0], evaluator="held_out", checkpoint="final", step=60, folder=loss))
        variants.append(msgspec.structs.replace(variant, evaluations=own))
    changed(folder, variants=variants, jobs=jobs, evaluators=[EVALUATOR, "held_out"])
    page = write_report(folder).read_text()
    assert "pass^1 of the checkpoints, with 95 % intervals over tasks." in page
    assert "held_out, loss" in page and "0.2500" in page and "1.2500" in page
    assert set(json.loads((folder / "report" / "report.json").read_bytes())["answer"]) == {EVALUATOR, "held_out"}
