"""What goes wrong around a sweep: a disk that fills, a provider that is down, no room for a model."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent_sft.evals.results import read_results
from agent_sft.report.sweep.record import read_record
from agent_sft.sweep.schedule import run_sweep
from tests.conftest import ROOT, RunCli
from tests.provider import KEY, Fault, Request, provider
from tests.sweep_jobs import Said, attempts, pairs, states


@pytest.mark.slow
def test_a_disk_that_fills_is_told_and_the_rest_goes_on_as_far_as_it_can(tmp_path: Path) -> None:
    sums = pairs(tmp_path, 0.1)
    sums.out.mkdir()
    # A small file system of its own, mounted where nobody else sees it, as user namespaces allow.
    script = f"""
    mount -t tmpfs -o size=1m tmpfs '{sums.out}'
    '{sys.executable}' -m tests.sweep_jobs '{tmp_path}' 0.1 fill || echo "exit $?"
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-euc", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.endswith("exit 1\n"), done.stdout + done.stderr
    assert "train/a: failed: no space left on device" in done.stdout
    assert "no space left on device" in done.stdout
    assert "Traceback" not in done.stderr
    assert not sums.made("evaluate/a/final/sums").exists()
    assert "retry" not in done.stdout


@pytest.mark.slow
def test_a_model_for_which_there_is_no_space_is_not_trained(tmp_path: Path) -> None:
    sums = pairs(tmp_path, 0.05)
    outside = replace(sums.outside(), needed_bytes=lambda _plan, job: 10**18 if job.id == "train/a" else 1000)
    said = Said()
    record = run_sweep(sums.plan(), reporter=said, stop=said.stop, command=[], outside=outside)
    assert states(record)["train/a"] == "failed"
    assert attempts(record)["train/a"] == 0
    assert "no space: its checkpoints take about 1000000000.0 GB" in said.text
    assert states(record)["evaluate/a/final/sums"] == "skipped"
    assert states(record)["evaluate/d/final/sums"] == "done"


@pytest.mark.slow
def test_a_provider_that_is_down_for_a_while_is_waited_for(run_cli: RunCli, tmp_path: Path) -> None:
    rows = [
        {"task_id": str(number), "instruction": "Say yes", "verifier": {"fn_name": "regex", "pattern": "yes"}}
        for number in range(6)
    ]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    begun: list[float] = []
    answered = 0

    def answer(_request: Request) -> str | Fault:
        """Three answers, then nothing but faults for a while."""
        nonlocal answered
        answered += 1
        if answered > 3 and not begun:
            begun.append(time.monotonic())
        if begun and time.monotonic() - begun[0] < 2:
            return Fault(503)
        return "yes"

    with provider(answer) as server:
        config = {
            "name": "waits",
            "models": [f"{server.url}#served"],
            "evaluators": [
                {"evaluator": "tasks", "task": "tasks", "concurrency": 1, "limits": {"max_retries": 0}},
            ],
            "retries": 9,
        }
        (tmp_path / "waits.yaml").write_text(json.dumps(config))
        done = run_cli(
            *("sweep", "run", "waits.yaml"),
            cwd=tmp_path,
            env={"AGENT_SFT_API_KEY": KEY, "AGENT_SFT_RETRY_SECONDS": "1"},
            timeout=120,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    record = read_record(tmp_path / "sweeps" / "waits")
    (job,) = record.jobs
    assert (job.state, job.kind) == ("done", "evaluate")
    assert job.attempts > 1
    assert "(trials could not be run); retry 1 of 9 in 1 s" in done.stderr
    _, trials = read_results(tmp_path / "sweeps" / "waits" / record.variants[0].evaluations[0].folder)
    assert [trial.score for trial in trials] == [1] * 6
    assert KEY not in done.stdout + done.stderr
