"""`agent-sft sweep run`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.support import tree
from tests.sweep_plans import make_files, write_sweep


@pytest.fixture
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def test_the_seeds_experiment_by_flags_alone(run_cli: RunCli, tmp_path: Path) -> None:
    make_files(tmp_path, *(f"data/telecom_syc_{share}pct.json" for share in (0, 5, 10, 20)))
    done = run_cli(
        *("sweep", "run", "--data", "data/telecom_syc_*pct.json", "--epochs", "3", "--model", "tiny"),
        *("--set", "warmup_steps=3", "--domain", "telecom", "--trials", "4", "--user-model", "openai/gpt-4.1"),
        *("--tau2-dir", "tau2-bench", "--jobs", "2", "--seeds", "1,2", "--skip-process", "--dry-run"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "sweep telecom_syc_pct in sweeps/telecom_syc_pct"
    assert "  variant telecom_syc_10pct-seed2: value 10, seed 2" in lines
    assert any("2 jobs at a time at most" in line for line in lines)
    trained = [line for line in lines if line.startswith("  $ agent-sft sft ")]
    assert len(trained) == 8
    for option in ("--epochs 3", "--set warmup_steps=3", "--skip-process", "--model tiny", "--seed 1"):
        assert option in trained[0]
    assert sum("tau2 run --domain telecom " in line for line in lines) == 8
    assert not (tmp_path / "sweeps").exists()


def test_flags_override_the_file(run_cli: RunCli, tmp_path: Path) -> None:
    make_files(tmp_path, "a.json")
    path = write_sweep(tmp_path, data=["a.json"], sft={"model": "tiny", "epochs": 5})
    before = tree(tmp_path)
    done = run_cli(
        *("sweep", "run", path.name, "--epochs", "1", "--grid", "lr=1e-3,2e-3", "--baseline", "lr0.002"),
        *("--name", "other", "--task", "t.jsonl", "--evaluator", "tasks", "--out", "there", "--dry-run"),
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: sweep.yaml, baseline: there is no variant 'lr0.002'")
    done = run_cli(
        *("sweep", "run", path.name, "--epochs", "1", "--grid", "lr=1e-3,2e-3", "--baseline", "a-lr0.002"),
        *("--name", "other", "--task", "t.jsonl", "--evaluator", "tasks", "--out", "there", "--dry-run"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sweep other in there\n")
    assert "  variant a-lr0.002: value 0.002, seed 42, baseline" in done.stdout
    assert "--epochs 1 " in done.stdout
    assert tree(tmp_path) == before


def test_variants_by_flags(run_cli: RunCli, tmp_path: Path) -> None:
    make_files(tmp_path, "a.json")
    path = write_sweep(tmp_path, sft={"model": "tiny", "input": "a.json"})
    flags = ("--variant", "plain", "--variant", "warm: {lr: 1e-3, set: {warmup_steps: 3}}", "--dry-run")
    done = run_cli("sweep", "run", path.name, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plain, warm = (line for line in done.stdout.splitlines() if line.startswith("  $ agent-sft sft "))
    assert "--lr" not in plain
    assert "--lr 0.001 --set warmup_steps=3" in warm or "--set warmup_steps=3 --lr 0.001" in warm
    done = run_cli("sweep", "run", path.name, "--variant", "[a, b]", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --variant: '[a, b]' is not of the form NAME: {KEY: VALUE}")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["missing.yaml"], "error: missing.yaml: no such file"),
        ([], "error: the sweep's options: nothing to compare"),
        (["--data", "a.json"], "error: the sweep's options, evaluators: there is no evaluator"),
        (["--data", "b.json", "--task", "t"], "error: the sweep's options, data: b.json: no such file"),
        (["--data", "a.json", "--task", "t", "--seeds", "1;2"], "error: --seeds: '1;2' is not a list of whole numbers"),
        (["--data", "a.json", "--task", "t", "--grid", "lr"], "error: --grid: 'lr' is not of the form KEY=VALUE,VALUE"),
        (["--data", "a.json", "--task", "t", "--output-dir", "x"], "error: the sweep's options, sft.output_dir: "),
        (["--data", "a.json", "--trials", "3"], "error: --trials: there is no evaluator to give it to"),
    ],
)
def test_what_is_wrong_is_said_at_once(args: list[str], said: str, run_cli: RunCli, tmp_path: Path) -> None:
    make_files(tmp_path, "a.json")
    done = run_cli("sweep", "run", *args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)
    assert not (tmp_path / "sweeps").exists()


def test_what_would_fail_in_an_hour_is_refused_before_anything_starts(run_cli: RunCli, tmp_path: Path) -> None:
    make_files(tmp_path, "a.json")
    task = {"task_id": "1", "instruction": "Hello?", "verifier": {"fn_name": "contain", "expected": "x"}}
    (tmp_path / "tasks.jsonl").write_text(json.dumps(task))
    sft = {"model": "tiny", "set": {"warmup_step": 3}}
    asked = {"evaluator": "tasks", "task": "tasks.jsonl"}
    write_sweep(tmp_path, data=["a.json"], sft=sft, evaluators=[asked])
    done = run_cli("sweep", "run", "sweep.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: train/a, --set: LLaMA-Factory has no setting 'warmup_step'")
    write_sweep(tmp_path, data=["a.json"], sft={"model": "tiny"}, evaluators=[asked])
    done = run_cli("sweep", "run", "sweep.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: evaluator tasks, tasks.jsonl: ")
    assert "did you mean 'contains'?" in done.stderr
    assert not (tmp_path / "sweeps").exists()
