"""`sweep run --dry-run`: everything that would happen, and nothing that does."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_sft.config.sweep_file import read_sweep
from agent_sft.report.sweep.record import JobRecord
from agent_sft.sweep.dry_run import dry_run
from agent_sft.sweep.estimate import Times, disk_needed
from agent_sft.sweep.graph import SweepPlan
from agent_sft.sweep.plan import build_plan
from tests.conftest import ROOT
from tests.support import tree
from tests.sweep_plans import make_files, make_model, make_record, plan_of

SWEEPS = sorted(path.name for path in (ROOT / "configs/sweeps").glob("*.yaml"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that commands are started in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clone(here: Path) -> Path:
    """A folder with the repository's own files in it, and nothing that was made there."""
    for name in ("configs", "ds_configs", "examples", "merge_consecutive_turns.py"):
        (here / name).symlink_to(ROOT / name)
    return here


def shipped(name: str) -> SweepPlan:
    path = Path("configs/sweeps") / name
    return build_plan(read_sweep(path, {}), source=str(path))


def jobs_of(plan: SweepPlan) -> dict[str, list[str]]:
    """The lines of each job of a dry run, without the indentation."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in dry_run(plan):
        if (match := re.match(r"(\S+/\S+): ", line)) is not None:
            lines = found.setdefault(match[1], [])
        lines.append(line.strip())
    return found


def settings_in(lines: list[str]) -> dict[str, Any]:
    """The YAML that a training is shown with."""
    first = next(place for place, line in enumerate(lines) if line.startswith("# ") and line.endswith("train.yaml"))
    keys = [line for line in lines[first + 1 :] if re.match(r"\w+: ", line)]
    settings: dict[str, Any] = yaml.safe_load("\n".join(keys))
    return settings


@pytest.mark.parametrize("name", SWEEPS)
def test_the_shipped_sweeps_plan_and_touch_nothing(name: str, clone: Path) -> None:
    before = tree(clone)
    plan = shipped(name)
    lines = list(dry_run(plan))
    assert lines[0] == f"sweep {Path(name).stem} in sweeps/{Path(name).stem}"
    assert not [line for line in lines if "refused" in line and "tau2" not in line]
    assert tree(clone) == before


def test_the_telecom_sweep_is_the_experiment(clone: Path) -> None:
    """500 conversations with 0, 5, 10, 20 % of them sycophantic, merged; 3 epochs under ZeRO-3; tau2's telecom."""
    plan = shipped("telecom_sycophancy.yaml")
    jobs = jobs_of(plan)
    shares = (0, 5, 10, 20)
    assert [variant.value for variant in plan.variants] == [*shares]
    for share in shares:
        name = f"telecom_syc_{share}pct"
        data = f"workdir/telecom_syc/{name}_500_merged.json"
        merged = [lines for job, lines in jobs.items() if job.startswith("prepare/") and data in " ".join(lines)]
        assert f"--input examples/data/{name}_500_processed.json --output {data}" in " ".join(merged[0])
        lines = jobs[f"train/{name}"]
        command = next(line for line in lines if line.startswith("$ agent-sft sft "))
        assert shlex.split(command)[3] == data
        for option in (
            *("--skip-process", "--epochs 3", "--deepspeed ds_configs/ds_zero3.json"),
            *("--model Qwen/Qwen2.5-7B-Instruct", f"--dataset-name {name}"),
        ):
            assert f" {option} " in f"{command} "
        wanted = {
            "model_name_or_path": "Qwen/Qwen2.5-7B-Instruct",
            "template": "qwen",
            "num_train_epochs": 3.0,
            "learning_rate": 5e-6,
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 2,
            "cutoff_len": 12000,
            "finetuning_type": "full",
            "deepspeed": "ds_configs/ds_zero3.json",
            "dataset": name,
        }
        settings = settings_in(lines)
        assert {key: settings[key] for key in wanted} == wanted
        assert any("torch.distributed.run" in line for line in lines)
        scored = jobs[f"score/{name}/final/telecom"]
        assert any(line.startswith("# server Qwen2.5-7B-Instruct") for line in scored)
        words = shlex.split(next(line for line in scored if line.startswith("tau2 run ")))
        options = dict(pairwise(words))
        assert options["--agent-llm"] == f"hosted_vllm/{name}"
        user = options["--user-llm"].removeprefix("openai/")  # the provider, as litellm spells it
        assert (options["--domain"], options["--num-trials"], user) == ("telecom", "4", "gpt-4.1")


def test_the_quickstart_says_what_is_made_and_shared(clone: Path) -> None:
    jobs = jobs_of(shipped("quickstart.yaml"))
    assert jobs["prepare/0"][0] == "prepare/0: runs: not done yet"
    assert "python examples/mini_telecom/make_data.py workdir/mini_telecom" in jobs["prepare/0"][2]
    assert jobs["train/syc_5pct"][0] == "train/syc_5pct: runs: after prepare/0, train/base"
    servers = [line for lines in jobs.values() for line in lines if line.startswith("# server ")]
    assert servers == ["# server base, for 4 evaluations", *["# server base, as above"] * 3]


def test_every_checkpoint_of_an_adapter_is_scored_on_the_server_of_its_base(clone: Path) -> None:
    lines = jobs_of(shipped("lora_checkpoints.yaml"))["score/syc_0pct/every/mini_telecom"]
    assert "# so for each checkpoint that the training saves, and for the last model" in lines
    assert "# server base-adapters, for 1 evaluation" in lines


def test_what_would_be_refused_is_said(here: Path) -> None:
    make_files(here, "a.json")
    plan = plan_of(here, data=["a.json"], sft={"model": "tiny", "template": "llama3"})
    assert any("would be refused: --template" in line for line in jobs_of(plan)["train/a"])


def test_a_server_of_adapters_is_shown_on_the_model_that_they_belong_to(here: Path) -> None:
    make_files(here, "a.json")
    make_model(here / "model", num_attention_heads=2, hidden_size=8, num_hidden_layers=1)
    (here / "model/model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    template = "{% for tool in tools %}<tool_call>{{ tool }}</tool_call>{% endfor %}"
    (here / "model/chat_template.jinja").write_text(template)
    sft = {"model": "model", "finetuning_type": "lora", "lora_rank": 16, "force_template": True}
    lines = jobs_of(plan_of(here, data=["a.json"], sft=sft))["score/a/final/tasks"]
    assert "# started before, on model: adapters are loaded while it runs" in lines
    (command,) = [line for line in lines if "vllm" in line and "--enable-lora" in line]
    assert "--max-lora-rank 16" in command or "--max-lora-rank=16" in command


def test_times_are_those_measured_before_or_not_known(here: Path) -> None:
    make_files(here, "a_0.json", "a_5.json", "a_9.json")
    plan = plan_of(here, data=["a_{0,5,9}.json"], base={"input": "a_0.json", "model": "tiny"})
    assert {Times(plan.out).seconds(job) for job in plan.jobs} == {None}
    assert any("time: not known before" in line for line in dry_run(plan))

    def took(job: str, seconds: float) -> JobRecord:
        return JobRecord(id=job, kind=job.partition("/")[0], state="done", seconds=seconds)

    records = [took("train/base", 100), took("train/a_0", 40), took("train/a_5", 60), took("score/a_0/final/tasks", 7)]
    make_record(plan, records)
    times = Times(plan.out)
    known = {job.id: times.seconds(job) for job in plan.jobs}
    assert (known["train/base"], known["train/a_5"], known["train/a_9"]) == (100, 60, 50)
    assert known["score/a_9/final/tasks"] == 7
    estimated = Times(plan.out, {"train/a_5": 1000, "train/a_9": 90})
    seconds = {job.id: estimated.seconds(job) for job in plan.jobs}
    assert (seconds["train/a_5"], seconds["train/a_9"]) == (60, 90), "what was measured counts more than an estimate"
    (line,) = [line for line in dry_run(plan) if line.startswith("time: ")]
    assert line == "time: about 4 min 31 s if nothing overlapped, as measured in this sweep"


def test_disk_is_known_where_the_model_is_and_said_where_it_is_not(here: Path) -> None:
    from agent_sft.sweep.doneness import Doneness, training_plan

    make_files(here, "a.json")
    shape = {"hidden_size": 8, "num_attention_heads": 2, "vocab_size": 10, "intermediate_size": 16}
    make_model(here / "model", model_type="qwen2", num_hidden_layers=1, **shape)

    def needed(model: str, **more: Any) -> tuple[int, int]:
        plan = plan_of(here, data=["a.json"], sft={"model": model, "force_template": True, **more})
        trainings = {"train/a": training_plan(Doneness(plan).training(plan.jobs[0]), ())}
        disk = disk_needed(plan, trainings, None)
        assert disk.free > 0
        return disk.bytes, len(disk.unknown)

    once, unknown = needed("model", epochs=1)
    assert once > 0
    assert unknown == 0
    # Of 4 + 8 bytes a parameter in each checkpoint, and 4 in the model; the second is written before the first goes.
    assert needed("model", epochs=2)[0] / once == (2 * 12 + 4) / (12 + 4)
    assert needed("some/model") == (0, 1)
    assert needed("tiny")[0] == 32 << 20
