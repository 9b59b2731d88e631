"""The scripts for Slurm are the recorded ones, to the byte: those were run (tests/test_slurm_cluster.py)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent_sft.config.slurm import SlurmConfig
from agent_sft.engines.slurm import script
from agent_sft.engines.slurm.script import Job, Task, array, every_machine, on_ray, one_machine

RECORDED = Path(__file__).parent / "recorded" / "slurm"
FOLDER = Path("/data/my runs")
COMMAND = ["/env/bin/python", "-P", "-m", "agent_sft"]
ASKED = SlurmConfig(
    partition="gpu",
    account="lab",
    time="4:00:00",
    gpus_per_node="a100:8",
    constraint="ib&80gb",
    setup=("module load cuda/12.4",),
    sbatch=("--exclusive", "--comment=ours"),
)


def jobs() -> dict[str, Job]:
    several = ASKED.model_copy(update={"nodes": 4})
    tasks = [
        Task("syc_0", ([*COMMAND, "sft", "data/syc 0.json"], [*COMMAND, "eval", "run", "--model", "saves/syc_0"])),
        Task("syc_5", ([*COMMAND, "sft", "data/syc 5.json"],)),
    ]
    sweep = [*COMMAND, "sweep", "run", "it's a sweep.yaml", "--executor"]
    return {
        "one_machine": one_machine(ASKED, "train", FOLDER, [*COMMAND, "sft", "a b.json"]),
        "no_requeue": one_machine(SlurmConfig(requeue=False, notice=60), "train", FOLDER, [*COMMAND, "sft", "a.json"]),
        "every_machine": every_machine(several, "train", FOLDER, [*COMMAND, "sft", "a b.json"]),
        "array": array(ASKED.model_copy(update={"at_once": 8}), "sweep", FOLDER, tasks),
        "on_ray": on_ray(several, "sweep", FOLDER, [*sweep, "ray", "--ray-address"], Path("/ray/bin/python")),
    }


@pytest.mark.parametrize("name", ["one_machine", "no_requeue", "every_machine", "array", "on_ray"])
def test_a_script_is_the_recorded_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "INSIDE", Path("/clone/agent_sft/engines/slurm/inside"))
    text = jobs()[name].script
    assert text == (RECORDED / f"{name}.sbatch").read_text(encoding="utf-8")
    # SC2016: what stands in single quotes is expanded on each of the machines.
    checked = subprocess.run(
        ["shellcheck", "-e", "SC2016", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout


def test_an_array_is_one_to_slurm_and_to_us() -> None:
    made = jobs()
    assert [name for name, job in made.items() if job.is_array] == ["array"]
    assert "#SBATCH --array=0-1%8\n" in made["array"].script
