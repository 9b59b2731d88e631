"""What to ask of Slurm is said by flags or in a file; what Slurm would not understand is refused here."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.config.slurm import read_slurm
from agent_sft.errors import UserError


def test_flags_override_files_and_lists_are_given_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text("partition: gpu\ntime: '4:00:00'\ngpus_per_node: 8\nnodes: 2\nsetup: module load cuda\n")
    found = read_slurm(["time=30", str(file), "sbatch=--exclusive", "sbatch=--comment=a=b", "requeue=no"])
    assert (found.partition, found.time, found.gpus_per_node, found.nodes) == ("gpu", "30", "8", 2)
    assert found.setup == ("module load cuda",)
    assert found.sbatch == ("--exclusive", "--comment=a=b")
    assert not found.requeue


@pytest.mark.parametrize("time", ["90", "90:30", "4:00:00", "2-12", "2-12:30", "2-12:30:00"])
def test_times_are_slurms(time: str) -> None:
    assert read_slurm([f"time={time}"]).time == time


@pytest.mark.parametrize(
    ("given", "what", "fix"),
    [
        ("time=4h", "time: '4h' is not a time of Slurm", ""),
        ("time=1-", "time: '1-' is not a time of Slurm", ""),
        ("tim=4", "tim: extra inputs are not permitted", "did you mean 'time'"),
        ("nodes=0", "nodes: input should be greater than 0", ""),
        ("gpus_per_node=lots", "gpus_per_node: 'lots' is not a number of GPUs", ""),
        ("partition=", "partition: '' holds spaces, or nothing", ""),
        ("constraint=a b", "constraint: 'a b' holds spaces", ""),
        ("sbatch=exclusive", "sbatch: 'exclusive' is not an option of sbatch", ""),
        ("sbatch=--a\nrm -r /", "is not an option of sbatch", ""),
        ("name=a b", "name: string should match pattern", ""),
        ("gpu", "'gpu' is neither KEY=VALUE nor a YAML file", "such as --slurm partition=gpu"),
        ("missing.yaml", "no such file", ""),
    ],
)
def test_what_is_wrong_is_refused(given: str, what: str, fix: str) -> None:
    with pytest.raises(UserError) as refused:
        read_slurm([given])
    assert what in str(refused.value)
    assert fix in str(refused.value)


def test_a_time_that_yaml_reads_as_a_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster.yaml").write_text("time: 4:00:00\n")
    with pytest.raises(UserError, match="put the time in quotes"):
        read_slurm([str(tmp_path / "cluster.yaml")])
