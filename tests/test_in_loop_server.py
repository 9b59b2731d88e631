"""Checkpoints that are scored on a server beside the training, with the real LLaMA-Factory and vLLM."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import RunCli
from tests.support import short_data

pytestmark = pytest.mark.slow


def test_adapters_are_scored_on_a_server_while_training_goes_on(tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "tasks").mkdir()
    verifier = {"fn_name": "regex", "pattern": "(?s).*"}
    tasks = [{"task_id": str(number), "instruction": f"Line {number}?", "verifier": verifier} for number in range(2)]
    (tmp_path / "tasks" / "tasks.jsonl").write_text("".join(f"{json.dumps(task)}\n" for task in tasks))
    benchmark = {"path": str(tmp_path / "tasks"), "max_tokens": 4, "where": "server"}
    params = {"max_steps": 6, "batch_size": 4, "lora_rank": 4, "best_by": "while", "set": {"save_total_limit": 1}}
    content = {
        "name": "beside",
        "output_dir": str(tmp_path / "outputs"),
        "run": {
            "data": {"path": str(short_data(tmp_path)), "source_kind": "json"},
            "model": {"name": "tiny"},
            "algorithm": {"kind": "sft", "params": params},
        },
        "benchmarks": [{**benchmark, "name": "while", "run_every": 3}, {**benchmark, "name": "after", "split": "test"}],
    }
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(content))
    done = run_cli("experiment", "run", tmp_path / "experiment.yaml")
    assert done.returncode == 0, done.stderr
    assert "benchmarks: scored on a server beside the training: asked for" in done.stderr
    run = tmp_path / "outputs" / "beside"
    measured = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = [(line["step"], line["split"]) for line in measured if line["split"] in ("val", "test")]
    assert scores == [(3, "val"), (6, "val"), (3, "test")]
    # One server took both adapters; the first of equals was kept until it had its score, and chosen.
    assert done.stderr.count("serve: starting vllm") == 1
    assert "into the running server" in done.stderr
    assert (run / "adapter_model.safetensors").read_bytes() == (
        run / "checkpoint-3" / "adapter_model.safetensors"
    ).read_bytes()
    assert len((run / "predictions" / "while.jsonl").read_text().splitlines()) == 4
