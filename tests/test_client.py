"""Jobs from Python: what the documentation and the notebook show runs as it stands there."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_sft import CapabilityRef, Client, DatasetRef, SFTJob
from agent_sft.data.capabilities import push_capability
from agent_sft.data.store import Store
from agent_sft.errors import UserError
from tests.conftest import ROOT
from tests.jobs import WAITS, running, submitted
from tests.support import SMALL, short_data


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("AGENT_SFT_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("AGENT_SFT_JOBS", raising=False)
    monkeypatch.chdir(tmp_path)


def examples() -> list[str]:
    """The Python that docs/jobs.md shows, on the model that is made on the spot."""
    page = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return [code.replace("meta-llama/Llama-3.1-8B-Instruct", "tiny").replace("llama3", "qwen") for code in shown]


def test_the_documented_example_submits_a_job(tmp_path: Path) -> None:
    data = short_data(tmp_path / "data")
    for name in ("support-demos", "support-eval", "trajectories-a", "trajectories-b"):
        Store.at().push(data, name, "0.1.0", rows=json.loads(data.read_text()))
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "capability.yaml").write_text("name: support-agent\nversion: 1.0.0\n")
    (tmp_path / "agent" / "system_prompt.md").write_text("You help.\n")
    push_capability(tmp_path / "agent")
    holds_the_slot = running(submitted(tmp_path, WAITS))
    names: dict[str, Any] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for code in examples():
            exec(code, names)
    assert said.getvalue() == "tiny-support-demos-0.1.0 queued\n"
    client, job = names["client"], names["job"]
    assert [one.id for one in client.list_training_jobs("queued")] == [job.id]
    assert job.command[-2:] == ("--dataset-name", "support-demos-0.1.0")
    assert {"--capability", "support-agent@1.0.0", "--lora-rank", "--eval-dataset", "support-eval@0.1.0"} <= set(
        job.command
    )
    with pytest.raises(TimeoutError):
        client.wait(job, timeout=0.1)
    assert client.cancel(job).status == "cancelled"
    assert client.cancel(holds_the_slot.id, at_once=True).status == "cancelled"
    assert client.list_training_jobs() == [client.get_training_job(job.id)]


def test_a_request_becomes_the_options_of_the_command() -> None:
    job = SFTJob(
        model="m",
        capability_ref=CapabilityRef(name="c", version="1.0.0"),
        dataset_ref=DatasetRef(name="d", version="1.0.0"),
        trajectory_dataset_refs=(DatasetRef(name="t"), "logs/*.json"),
        gradient_accumulation_steps=4,
        max_sequence_length=4096,
        learning_rate=1e-4,
        settings={"template": "qwen3", "set": {"packing": True}},
    )
    options = job.options()
    assert (options.dataset, options.trajectory_dataset) == (("d@1.0.0",), ("t@latest", "logs/*.json"))
    assert options.capability == "c@1.0.0"
    assert (options.grad_accum, options.cutoff_len, options.lr, options.template) == (4, 4096, 1e-4, "qwen3")
    assert {"lr", "grad_accum", "cutoff_len", "set", "model"} <= set(options.given)
    assert "epochs" not in options.given, "what was not asked for is left to the defaults"


def test_requests_that_cannot_work() -> None:
    with pytest.raises(UserError, match="no data was given"):
        Client().create_training_job(SFTJob(model="tiny"))
    with pytest.raises(UserError, match=r"there is no setting 'tempate'\n  did you mean 'template'\?"):
        SFTJob(model="tiny", dataset_ref="d.json", settings={"tempate": "qwen"}).options()
    with pytest.raises(UserError, match="there is no dataset 'demos'"):
        Client().create_training_job(SFTJob(model="tiny", dataset_ref=DatasetRef(name="demos", version="0.1.0")))
    with pytest.raises(UserError, match="there is no job 'nothing'"):
        Client().get_training_job("nothing")


@pytest.mark.slow
def test_the_package_is_light_until_something_of_it_is_asked_for() -> None:
    program = "import sys, agent_sft; print(*sys.modules); from agent_sft import Client, Experiment, Job"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"pydantic", "orjson", "agent_sft.client"} & set(done.stdout.split())
    import agent_sft

    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = agent_sft.Clint  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "examples"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / SMALL.name).symlink_to(SMALL)
    monkeypatch.chdir(folder)
    notebook = json.loads((ROOT / "examples" / "training_jobs.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for cell in notebook["cells"]:
            assert not cell.get("outputs"), "what a run printed is not kept"
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
    assert "succeeded 0 step 6 of 6" in said.getvalue()
    assert "train: log in " in said.getvalue()
    assert (names["artifacts"]["model"] / "adapter_model.safetensors").is_file()
    assert [entry["step"] for entry in names["client"].metrics(names["job"])] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"slurm": {"time": "60"}}, "SFTJob.slurm: is about a submission to Slurm"),
        ({"executor": "slurm", "nodes": 2}, "SFTJob.nodes: is of a Ray cluster"),
        ({"executor": "slurm", "gpus": 2}, "--gpus: Slurm gives the machines"),
        ({"executor": "slurm", "slurm": {"partitoin": "gpu"}}, "did you mean 'partition'?"),
        ({"executor": "slurm", "settings": {"nnodes": 2, "master_port": 29500}}, "--nnodes: is for machines that are"),
    ],
)
def test_what_cannot_be_asked_of_slurm_is_refused(tmp_path: Path, asked: dict[str, Any], said: str) -> None:
    data = short_data(tmp_path / "data")
    with pytest.raises(UserError) as refused:
        Client().create_training_job(SFTJob(model="tiny", dataset_ref=str(data), **asked))
    assert said in str(refused.value)
    assert not (tmp_path / "saves").exists()
