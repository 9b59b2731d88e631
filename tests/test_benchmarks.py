"""The benchmarks: their arithmetic, and that each of them runs for real at small size."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.asha_vs_grid import Pair, Search, together
from benchmarks.gpu.analysis import Model, attention_operations, dense_operations, mean_of_last, ratio, summarise
from benchmarks.gpu.conversations import about_tokens, make_conversations
from benchmarks.gpu.page import markdown
from benchmarks.overhead import lines, summary
from benchmarks.plan_estimates import Outcome

MODEL = Model(parameters=1000, layers=2, hidden=8)


def measured(tokens: int, seconds: float, **others: Any) -> dict[str, Any]:
    result = {"tokens": tokens, "seconds": seconds, "steps": 4, "loss_tokens": tokens // 2, "peak_bytes": 5}
    return result | {"losses": [9.0, 7.0, 5.0, 3.0], "attention": "sdpa", **others}


def test_operations_of_a_step() -> None:
    assert dense_operations(MODEL, 10) == 6 * 1000 * 10
    # One conversation of 4 tokens: each of the two products is 2·s²·h, half of it under the mask, three times.
    assert attention_operations(MODEL, 4, [4]) == 2 * (2 * 2 * 4 * 4 * 8 / 2) * 3
    # A token of a long conversation sees more others than one of a short one.
    assert attention_operations(MODEL, 8, [1, 7]) > attention_operations(MODEL, 8, [4, 4])


def test_a_summary_takes_medians_and_the_largest_memory() -> None:
    runs = [measured(100, 1.0), measured(100, 2.0), measured(100, 0.5, peak_bytes=9)]
    summary = summarise(runs, MODEL, [4], rate=6e6)
    assert summary["tokens_per_second"] == 100
    assert summary["tokens_per_second_of_each"] == [100, 50, 200]
    assert summary["mfu"] == pytest.approx(0.1)
    assert summary["mfu_with_attention"] == pytest.approx(0.1 + 6 * 2 * 8 * 4 * 100 / 6e6)
    assert summary["peak_bytes"] == 9
    assert summary["tokens_per_step"] == 25
    assert summary["final_loss"] == 3.0


def test_the_ratio_shows_how_far_neighbouring_runs_differ() -> None:
    seed = summarise([measured(100, 1.0), measured(100, 1.25)], MODEL, [4], 1e6)
    fast = summarise([measured(200, 1.0), measured(240, 1.0)], MODEL, [4], 1e6)
    assert ratio(seed, fast) == {"ratio": pytest.approx(220 / 90), "lowest": 2.0, "highest": 3.0}


def test_the_end_of_a_loss_curve_is_more_than_its_last_point() -> None:
    assert mean_of_last([10, 10, 10, 10, 10, 10, 2, 4]) == 3
    assert mean_of_last([5.0]) == 5.0


def test_conversations_have_the_lengths_asked_for_and_are_the_same_every_time() -> None:
    rows = list(make_conversations(20, 600, 2000, seed=1))
    assert rows == list(make_conversations(20, 600, 2000, seed=1))
    assert rows != list(make_conversations(20, 600, 2000, seed=2))
    sizes = sorted(about_tokens(json.dumps(row)) for row in rows)
    assert sizes[-1] > 2 * sizes[0]
    for row in rows:
        roles = [turn["from"] for turn in row["conversations"]]
        assert roles == ["human", "function_call", "observation", "gpt"] * (len(roles) // 4)


def test_a_page_from_a_cpu_claims_nothing() -> None:
    seed = summarise([measured(100, 1.0)], MODEL, [4], 1e6)
    report = {
        "gpu": False,
        "machine": {"device": "CPU", "rate": 1e12, "size": 1024, "precision": "float32"},
        "versions": {"torch": "2.13.0"},
        "model": vars(MODEL),
        "data": {"conversations": 4, "shortest": 3, "longest": 5, "mean": 4.0},
        "steps": 5,
        "warmup": 1,
        "switches": ["--fast: not bf16: True (there is no GPU)"],
        "summary": {"seed": seed, "fast": seed, "gain": ratio(seed, seed)},
    }
    assert "says nothing of speed" in markdown(report)
    assert "says nothing of speed" not in markdown(report | {"gpu": True})
    assert "- not bf16: True (there is no GPU)" in markdown(report)


def environment(train_python: Path) -> dict[str, str]:
    return {**os.environ, "AGENT_SFT_TRAIN_PYTHON": str(train_python)}


def test_without_a_gpu_the_full_benchmark_says_so(repo: Path, train_python: Path, tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu/train_throughput.py", "--out", str(tmp_path / "out")]
    hidden = environment(train_python) | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=repo, env=hidden, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no NVIDIA GPU" in done.stderr and "--small" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_throughput_at_small_size(repo: Path, train_python: Path, tmp_path: Path) -> None:
    out = tmp_path / "the results"
    command = [sys.executable, "benchmarks/gpu/train_throughput.py", "--small", "--out", str(out)]
    done = subprocess.run(command, cwd=repo, env=environment(train_python), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    seed, fast = report["runs"]["seed"][0], report["runs"]["fast"][0]
    assert len(seed["losses"]) == report["steps"] and len(seed["step_seconds"]) == report["steps"] - report["warmup"]
    # On a CPU nothing is applied: the same settings must give the same losses, and the same tokens.
    assert seed["losses"] == pytest.approx(fast["losses"], rel=1e-4)
    assert seed["tokens"] == fast["tokens"] > seed["loss_tokens"] > 0
    conversations = (report["steps"] - report["warmup"]) * 2
    assert min(seed["rows"]) * conversations <= seed["tokens"] <= max(seed["rows"]) * conversations
    assert 0 < report["summary"]["seed"]["mfu"] < report["summary"]["seed"]["mfu_with_attention"] < 1
    assert report["settings"]["seed"]["gradient_accumulation_steps"] == 2
    assert (out / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert "says nothing of speed" in (out / "report.md").read_text()


def test_the_overhead_is_the_median_of_the_pairs() -> None:
    result = summary([12.0, 13.0, 11.0], [10.0, 12.5, 10.0], goal=1.0)
    assert result["median_difference"] == 1.0 and result["reached"]
    assert (result["median_ours"], result["median_bare"]) == (12.0, 10.0)
    assert not summary([12.0], [10.0], goal=1.0)["reached"]
    assert "tell little" in lines(result)[-1]
    assert "goal: at most 1 s: reached" in lines(summary([1.0] * 5, [1.0] * 5, goal=1.0))[-1]
    assert "varied 2.0-fold" in lines(summary([1.0] * 5, [1.0, 2.0, 1.0, 1.0, 1.0], goal=1.0))[-1]


@pytest.mark.slow
def test_overhead_runs_both_ways(repo: Path, train_python: Path, tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/overhead.py", "--pairs", "1", "--steps", "1", "--goal", "60"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "result.json")],
        cwd=repo,
        env=environment(train_python),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["ours"]) == len(result["bare"]) == 1
    assert min(*result["ours"], *result["bare"]) > 1
    assert "run_sft.sh" in done.stdout


@pytest.mark.slow
def test_data_speed_measures_each_program_by_itself(repo: Path, tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/data_speed.py", "--megabytes", "2", "--repeats", "1", "--goal", "0.001"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "result.json")], cwd=repo, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "result.json").read_text())["figures"]
    assert figures.keys() == {"ours", "merge", "orjson"}
    assert all(found["seconds"] > 0 and 5 < found["peak"] < 250 for found in figures.values())
    missed = subprocess.run([*command, "--peak", "1"], cwd=repo, capture_output=True, text=True, check=False)
    assert missed.returncode == 1 and "at most 1 MB: missed" in missed.stdout


@pytest.mark.slow
def test_token_speed_counts_the_tokens_that_the_bare_call_counts(repo: Path, train_python: Path) -> None:
    command = [sys.executable, "benchmarks/token_speed.py", "--megabytes", "1", "--repeats", "1", "--goal", "0.001"]
    done = subprocess.run(command, cwd=repo, env=environment(train_python), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, bare = (int(word.replace(",", "")) for word in re.findall(r"for ([\d,]+)", done.stdout))
    assert bare < ours < bare * 1.2, "the template's own tokens are all that ours has more"


@pytest.mark.slow
def test_odd_data_goes_through_in_any_number(repo: Path, train_python: Path) -> None:
    command = [sys.executable, "benchmarks/fuzz_data.py", "--count", "60", "--batch", "40", "--seed", "7000"]
    done = subprocess.run(command, cwd=repo, env=environment(train_python), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 and "none refused" in done.stdout


def test_an_estimate_is_held_against_all_that_was_done() -> None:
    outcome = Outcome("two phases", {"probe": 20.0, "candidates": 80.0}, {"probe": 30.0, "candidates": 100.0})
    assert outcome.ratio == pytest.approx(1.3)
    assert "1.30" in outcome.line() and "probe 20/30, candidates 80/100" in outcome.line()


def test_a_shorter_search_is_held_against_the_grid_by_steps_loss_and_score() -> None:
    def search(steps: int, loss: float, score: float) -> Search:
        return Search(steps, "a", loss, untrained=3.0, score=score, folder="", seconds=9.0)

    pairs = [
        Pair(1, search(900, 1.0, 0.9), search(300, 1.1, 0.85), difference=-0.05, low=-0.15, high=0.05, p=0.3),
        Pair(2, search(900, 1.0, 0.9), search(300, 1.2, 0.7), difference=-0.2, low=-0.3, high=-0.1, p=0.001),
    ]
    assert pairs[0].gained == pytest.approx(0.95)
    assert " 33% " in pairs[0].line() and " 95.0% " in pairs[0].line() and "-0.050 (-0.150 to +0.050" in pairs[0].line()
    assert [pair.told for pair in pairs] == [False, True]
    assert "steps: 33% of the grid's; scores: -0.125 in the mean, told apart in 1 of 2" in together(pairs)


@pytest.mark.slow
def test_the_scheduler_is_measured_in_three_ways(repo: Path) -> None:
    few = [
        "--stages",
        "6",
        "--gpus",
        "3",
        "--pairs",
        "1",
        "--events",
        "300",
        "--candidates",
        "4",
        "--cluster-gpus",
        "8",
    ]
    command = [sys.executable, "benchmarks/scheduler.py", *few, "--faster", "36000"]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 stages of 50 ms on 3 GPUs: 0.10 s where nothing costs anything" in done.stdout
    assert "300 lines of journal" in done.stdout
    # Two trainings, the evaluations of both beside the third one, the fourth one after them, its evaluations.
    assert "4 candidates, 12 stages on 8 GPUs: 2.50 h where starting costs nothing" in done.stdout
    missed = subprocess.run(
        [*command, "--part", "journal", "--goal", "0"], cwd=repo, capture_output=True, text=True, check=False
    )
    assert missed.returncode == 1
