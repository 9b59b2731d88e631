"""Experiment files: what they may hold, and what is said of one that holds something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_sft.config.sft import SFTConfig
from agent_sft.errors import UserError
from agent_sft.stages.experiments.resolve import resolve
from tests.conftest import RunCli

ELSEWHERE = """
name: walkthrough
description: As other systems write it.
output_dir: ./outputs
log_store: {kind: jsonl}
callbacks:
  - kind: local_logger
    params: {print_every: 1}
run:
  name: tool_selection
  data:
    source_kind: jsonl
    path: data/train.jsonl
    transforms:
      - kind: jsonl_to_chat
        params: {system_prompt: Choose a tool., user_template: "{query}", assistant_template: "{tool_slug}"}
  model: {name: tiny}
  backend: {kind: local}
  algorithm:
    kind: sft
    params: {learning_rate: 1.0e-4, max_steps: 4, batch_size: 1, lora_rank: 1, max_seq_len: 2048,
             supervise: all_assistant, save_at_fractions: [1.0]}
metadata:
  hypothesis: It learns.
  tags: [sft]
  benchmark:
    - {name: val, path: data/val, run_every: 1, metrics: [pass@1], max_tokens: 64, temperature: 0.0, limit: 3}
"""


def written(folder: Path, text: str = ELSEWHERE, **changes: Any) -> Path:
    """Write an experiment file with other values at some places, `a.b.c`."""
    content = yaml.safe_load(text)
    for place, value in changes.items():
        inner = content
        *above, last = place.split("__")
        for key in above:
            inner = inner[key]
        inner[last] = value
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_file_written_for_another_system_means_the_same_here(tmp_path: Path) -> None:
    found = resolve(written(tmp_path))
    sft = found.sft(tmp_path, template="qwen")
    assert (sft.lr, sft.steps, sft.batch_size, sft.grad_accum, sft.cutoff_len) == (1e-4, 4, 1, 1, 2048)
    assert (sft.finetuning_type, sft.lora_rank, sft.save_at) == ("lora", 1, (1.0,))
    assert [(one.name, one.run_every, one.score_key) for one in sft.benchmarks] == [("val", 1, "val/val/pass@1")]
    assert found.run_dir == Path("outputs/tool_selection")
    assert found.config.expected == "It learns."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run__backend": {"kind": "tinker"}}, "there is no backend of the kind 'tinker'\n  write kind: local"),
        ({"run__algorithm__kind": "stf"}, "did you mean 'sft'?"),
        ({"run__algorithm__params": {"max_step": 3}}, "did you mean 'max_steps'?"),
        ({"run__algorithm__params": {"max_steps": 0}}, "run.algorithm.params: max_steps"),
        ({"run__algorithm__params": {"batch_size": 4, "grad_accum": 3}}, "cannot be spread over 3"),
        ({"run__algorithm__params": {"best_by": "vla"}}, "did you mean 'val'?"),
        ({"run__algorithm__params": {"save_at_fractions": [1.5]}}, "above 0 and up to 1"),
        ({"run__data__transforms": [{"kind": "jsonl_to_caht"}]}, "did you mean 'jsonl_to_chat'?"),
        ({"run__data__source_kind": "jsonnl"}, "did you mean 'jsonl'?"),
        ({"run__data__rows": [{"query": "a"}]}, "source_kind: in_memory"),
        ({"run__modle": {}}, "did you mean 'model'?"),
        ({"run__backend": {"kind": "local", "params": {"nproc_per_nod": 2}}}, "did you mean 'nproc_per_node'?"),
        ({"callbacks": [{"kind": "early_stoping"}]}, "did you mean 'early_stopping'?"),
        ({"callbacks": [{"kind": "local_logger", "params": {"every": 1}}]}, "has no parameter 'every'"),
        ({"callbacks": [{"kind": "early_stopping", "params": {"metric": "nll"}}]}, "there is no metric 'nll'"),
        ({"benchmarks": [{"path": "other/val"}]}, "two benchmarks are called 'val'"),
        ({"benchmarks": [{"path": "x", "metrics": ["accuracy"]}]}, "there is no metric 'accuracy'"),
        ({"benchmarks": [{"path": "x", "metrics": ["pass^4"]}]}, "needs trials: 4"),
        ({"benchmarks": [{"path": "x", "run_evry": 1}]}, "did you mean 'run_every'?"),
        ({"name": "a/b"}, "name"),
    ],
)
def test_what_is_wrong_is_said_with_the_nearest_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve(written(tmp_path, **changes))
    assert message in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_files_in_kinds_are_relative_to_the_experiment_file(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from agent_sft.stages.callbacks.contract import Callback\nclass Watch(Callback):\n    decides = False\n"
    )
    found = resolve(written(tmp_path, callbacks=[{"kind": "own.py:Watch"}]))
    assert [one.kind for one in found.callbacks] == [f"{tmp_path}/own.py:Watch", "local_logger"]


def test_trackers_are_the_trainers_own(tmp_path: Path) -> None:
    trackers = [{"kind": "tensorboard"}, {"kind": "trackio", "params": {"project": "slugs"}}]
    sft = resolve(written(tmp_path, callbacks=trackers)).sft(tmp_path, template="qwen")
    assert sft.report_to == ("tensorboard", "trackio")
    assert sft.set["project"] == "slugs"


def test_rows_can_stand_in_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, run__data={"source_kind": "in_memory", "rows": [{"messages": []}]})
    found = resolve(path)
    found.write_inputs(tmp_path / "run")
    assert (tmp_path / "run" / "rows.jsonl").read_text() == '{"messages":[]}\n'
    assert found.sft(tmp_path / "run", template="qwen").input == (str(tmp_path / "run" / "rows.jsonl"),)


def test_validate_says_what_is_never_scored_in_between_and_touches_nothing(tmp_path: Path, call_cli: RunCli) -> None:
    path = written(tmp_path, benchmarks=[{"name": "late", "path": "data/val", "run_every": 50}])
    done = call_cli("validate", path, cwd=tmp_path)
    assert done.returncode == 0
    assert "benchmark 'late': run_every is 50, the training has 4 steps" in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["experiment.yaml"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"benchmark_every": 5}, "--benchmark-every needs --benchmark"),
        ({"benchmark": ("a/val", "b/val")}, "two benchmarks are called 'val'"),
        ({"benchmark": ("val",), "nnodes": 2, "master_port": 29500}, "leave --benchmark out with --nnodes"),
    ],
)
def test_options_of_a_run_that_contradict(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SFTConfig.from_options({"input": "data.json", **options})


def test_benchmarks_of_a_run_get_its_interval() -> None:
    config = SFTConfig.from_options({"input": "data.json", "benchmark": ("data/val",), "benchmark_every": 5})
    assert [(one.name, one.run_every) for one in config.benchmarks] == [("val", 5)]
