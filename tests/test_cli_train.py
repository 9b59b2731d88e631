"""`agent-sft train sft`: a training as a job, from the command line to the model, killed on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from agent_sft.data.store import Store
from agent_sft.jobs.status import job_in
from tests.conftest import ROOT, RunCli
from tests.jobs import killed, until
from tests.support import conversations, final_step, short_data


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("AGENT_SFT_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("AGENT_SFT_JOBS", raising=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder in which one works, and the dataset `demos@0.1.0`."""
    folder = tmp_path / "place"
    data = short_data(tmp_path / "data")
    Store.at().push(data, "demos", "0.1.0", rows=json.loads(data.read_text()))
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "no data was given"),
        (("--dataset", "demos@0.2.0"), "did you mean '0.1.0'?"),
        (("--dataset", "demo@0.1.0"), "did you mean 'demos'?"),
        (("--dataset", "nothing.json"), "no such file"),
        (("--dataset", "demos@0.1.0", "--capability", "agent@1.0.0"), "there is no capability 'agent'"),
        (("--dataset", "demos@0.1.0", "--learning-rate", "-1"), "--lr: input should be greater than 0"),
        (("--dataset", "demos@0.1.0", "--gpus", "99"), "--gpus: 99 GPUs are asked for"),
        (("--dataset", "demos@0.1.0", "--slots", "0"), "--slots"),
    ],
)
def test_what_cannot_work_is_refused_before_there_is_a_job(
    place: Path, call_cli: RunCli, options: tuple[str, ...], said: str
) -> None:
    done = call_cli("train", "sft", "--model", "tiny", *options, cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert list(place.iterdir()) == []
    assert json.loads(call_cli("jobs", "list", "--json", cwd=place).stdout) == []


def test_a_dry_run_shows_the_command_and_touches_nothing(place: Path, call_cli: RunCli) -> None:
    options = ("--dataset", "demos@0.1.0", "--steps", "100", "--batch-size", "8", "--learning-rate", "1e-4")
    more = ("--gradient-accumulation-steps", "1", "--max-sequence-length", "4000", "--lora-rank", "16")
    done = call_cli("train", "sft", "--model", "tiny", *options, *more, "--dry-run", cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "command: agent-sft sft --model tiny --dataset demos@0.1.0 --steps 100 --batch-size 8 --lr 0.0001"
        " --grad-accum 1 --cutoff-len 4000 --lora-rank 16 --finetuning-type lora --dataset-name demos-0.1.0"
    )
    for line in ("max_steps: 100", "finetuning_type: lora", "lora_rank: 16", "output_dir: saves/tiny/demos-0.1.0"):
        assert line in done.stdout
    assert list(place.iterdir()) == []


@pytest.mark.slow
def test_a_training_killed_with_its_supervisor_goes_on_when_it_is_tried_again(
    place: Path, tmp_path: Path, call_cli: RunCli
) -> None:
    held_out = tmp_path / "held.json"
    held_out.write_text(json.dumps(conversations()[:2]))
    call_cli("capability", "push", ROOT / "examples" / "capabilities" / "telecom-agent")
    data = ("--dataset", "demos@latest", "--eval-dataset", held_out)
    asked = ("--model", "tiny", *data, "--capability", "telecom-agent@latest")
    shape = ("--steps", "40", "--batch-size", "1", "--checkpoint-interval", "10", "--lora-rank", "2")
    submitted = call_cli("train", "sft", *asked, *shape, cwd=place)
    assert submitted.returncode == 0, submitted.stderr
    assert submitted.stdout == "tiny-demos-0.1.0\n"
    run = place / "saves" / "tiny" / "demos-0.1.0"
    again = call_cli("train", "sft", *asked, *shape, cwd=place)
    assert (again.returncode, "the job tiny-demos-0.1.0 is " in again.stderr) == (2, True)
    until(lambda: list(run.glob("checkpoint-10/trainer_state.json")), "no checkpoint")
    ended = killed(job_in(run))
    assert (ended.status, ended.attempt) == ("failed", 1)
    assert final_step_of(run) < 40
    retried = call_cli("jobs", "retry", "tiny-demos-0.1.0", "--json", cwd=tmp_path)
    assert json.loads(retried.stdout)["attempt"] == 2
    done = call_cli("jobs", "wait", "tiny-demos-0.1.0", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "tiny-demos-0.1.0: succeeded\n")
    assert "train: going on from checkpoint-" in call_cli("jobs", "logs", "tiny-demos-0.1.0").stdout
    assert final_step(run) == 40
    record = yaml.safe_load((run / "run.yaml").read_text())
    assert record["capability"]["version"] == record["options"]["capability"].partition("@")[2] == "1.0.0"
    for name in ("demos-0.1.0", "demos-0.1.0_eval"):
        rows = [json.loads(line) for line in (run / "data" / f"{name}.jsonl").read_text().splitlines()]
        assert {row["system"] for row in rows} == {record["capability"]["system_prompt"]}
        assert {json.loads(row["tools"])[0]["function"]["name"] for row in rows} == {"get_plan"}
    job = json.loads(call_cli("jobs", "list", "--json", cwd=tmp_path).stdout)[0]
    assert (job["status"], job["step"], job["steps"], job["exit_code"]) == ("succeeded", 40, 40, 0)
    artifacts = json.loads(call_cli("jobs", "artifacts", job["id"], "--json").stdout)
    assert {"model", "checkpoint-10", "checkpoint-40", "data report"} <= set(artifacts)
    metrics = json.loads(call_cli("jobs", "metrics", job["id"], "--json").stdout)
    assert [entry["step"] for entry in metrics] == list(range(1, 41))
    assert "eval_loss" in metrics[-1]
    other = call_cli("train", "sft", *asked, "--lora-rank", "4", cwd=place)
    assert (other.returncode, "trained here with other options" in other.stderr) == (2, True)
    shutil.rmtree(run / "checkpoint-40")
    (run / "adapter_model.safetensors").write_bytes(b"")
    assert job_in(run).reason == "trained, but adapter_model.safetensors of its model is missing or damaged"


def final_step_of(run: Path) -> int:
    """The last step that the trainer logged."""
    lines = (run / "trainer_log.jsonl").read_text().splitlines()
    return int(json.loads(lines[-1])["current_steps"])
