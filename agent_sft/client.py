"""Jobs from Python: submit trainings, follow them, end them, by the code that the command line calls.

from agent_sft import Client, DatasetRef, SFTJob

client = Client()
job = client.create_training_job(SFTJob(model="tiny", dataset_ref=DatasetRef(name="demos", version="0.1.0")))
print(job.id, job.status)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent_sft.config.sft import SFTConfig
from agent_sft.config.slurm import SlurmConfig
from agent_sft.config.yaml_files import validated
from agent_sft.errors import UserError, nearest
from agent_sft.jobs import control, outputs
from agent_sft.jobs.listing import everything
from agent_sft.jobs.status import Job, Status, find_job, job_in
from agent_sft.jobs.submitting import cluster_asked, submit_training
from agent_sft.stages.artifacts import artifacts

TRAINING = "sft"
NAMES = {
    "learning_rate": "lr",
    "gradient_accumulation_steps": "grad_accum",
    "max_sequence_length": "cutoff_len",
}
"""Fields of `SFTJob` whose option of `run_sft.sh` is called otherwise."""
PLAIN = ("steps", "epochs", "batch_size", "lora_rank", "lora_alpha", "checkpoint_interval", "output_dir", *NAMES)


class DatasetRef(BaseModel):
    """A version of a stored dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str = "latest"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class CapabilityRef(BaseModel):
    """A version of a stored capability: a system prompt and tools that are put before every conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str = "latest"

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


Data = DatasetRef | str
"""A stored dataset, or what `--dataset` takes too: a file, a glob, NAME@VERSION, hf:NAME."""


class SFTJob(BaseModel):
    """A supervised fine-tuning. What is None is as `run_sft.sh` has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: str
    """Hub name or folder of the model to start from; `tiny` makes a small random one."""
    capability_ref: CapabilityRef | str | None = None
    """What is put before every conversation; a stored version, NAME@VERSION or a folder."""
    dataset_ref: Data | None = None
    """Conversations; these, or at least one of `trajectory_dataset_refs`, are needed."""
    trajectory_dataset_refs: Sequence[Data] = ()
    """Rollouts of an agent."""
    eval_dataset_ref: Data | None = None
    """Conversations held out for the evaluation loss."""
    steps: int | None = None
    """Optimizer steps, instead of `epochs`."""
    epochs: float | None = None
    """Passes over the data."""
    batch_size: int | None = None
    """Conversations per device and forward pass."""
    gradient_accumulation_steps: int | None = None
    """Forward passes per optimizer step."""
    learning_rate: float | None = None
    """The highest one of the schedule."""
    max_sequence_length: int | None = None
    """Longest example, in tokens."""
    lora_rank: int | None = None
    """Rank of the adapter; where it or `lora_alpha` is given, an adapter is trained, all weights else."""
    lora_alpha: int | None = None
    """Scale of the adapter."""
    checkpoint_interval: int | None = None
    """Save, and keep, a checkpoint every so many optimizer steps."""
    output_dir: Path | str | None = None
    """The run's directory; `saves/<model>/<dataset>` when None."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Other options of `run_sft.sh` by their names: `{"template": "qwen3", "fast": True}`."""
    gpus: int | None = None
    """How many GPUs it takes; all that are visible when None."""
    slots: int | None = None
    """Jobs at a time on this machine where there is no GPU; `AGENT_SFT_JOBS`, or one, when None."""
    executor: Literal["local", "ray", "slurm"] = "local"
    """Where it runs: on this machine, on a Ray cluster, where `gpus` are those of each machine, or in Slurm."""
    ray_address: str | None = None
    """HOST:PORT of the cluster; RAY_ADDRESS, or the one that runs on this machine, when None."""
    nodes: int = 1
    """Machines of the Ray cluster that train together."""
    slurm: dict[str, Any] = Field(default_factory=dict)
    """What is asked of Slurm, by the keys of `--slurm`: `{"partition": "gpu", "nodes": 2, "gpus_per_node": 8}`."""

    def options(self) -> SFTConfig:
        """Return the options of `run_sft.sh` that this stands for.

        Raises:
            UserError: a setting is unknown, or a value cannot be used.
        """
        for name in self.settings:
            if name not in SFTConfig.model_fields or name in ("given", "dry_run", "fresh"):
                fix = nearest(name, SFTConfig.model_fields) or "see the options of run_sft.sh"
                raise UserError(f"there is no setting '{name}'", where="SFTJob", fix=fix)
        given: dict[str, Any] = {"model": self.model, **self.settings}
        if self.capability_ref is not None:
            given["capability"] = str(self.capability_ref)
        if self.dataset_ref is not None:
            given["dataset"] = (str(self.dataset_ref),)
        if self.trajectory_dataset_refs:
            given["trajectory_dataset"] = tuple(map(str, self.trajectory_dataset_refs))
        if self.eval_dataset_ref is not None:
            given["eval_dataset"] = str(self.eval_dataset_ref)
        for field in PLAIN:
            if (value := getattr(self, field)) is not None:
                given[NAMES.get(field, field)] = value
        return SFTConfig.from_options({**given, "given": tuple(given)})


class Client:
    """Submits and looks after the jobs of this user on this machine. Relative paths are relative to this folder."""

    def create_training_job(self, request: SFTJob) -> Job:
        """Submit a training; return at once. It goes on when this process ends.

        Raises:
            UserError: what is asked for cannot work, or a job lives in its directory.
            WorkFailed: Slurm does not answer.
        """
        cluster = cluster_asked(
            request.executor, request.ray_address, gpus=request.gpus, slots=request.slots, nodes=request.nodes
        )
        slurm = _slurm(request)
        return submit_training(request.options(), gpus=request.gpus, slots=request.slots, cluster=cluster, slurm=slurm)

    def list_training_jobs(self, status: Status | None = None) -> list[Job]:
        """Return the trainings as they stand, those that live first, then the newest first.

        Args:
            status: only those that stand so.
        """
        return [job for job in everything() if job.kind == TRAINING and status in (None, job.status)]

    def list_jobs(self) -> list[Job]:
        """Return all that runs, ran or waits: trainings, sweeps and plans of this folder, deployments."""
        return everything()

    def get_training_job(self, job: Job | str) -> Job:
        """Return a job as it stands now.

        Raises:
            UserError: there is no such job, with the nearest id.
        """
        return job_in(_directory(job))

    def wait(self, job: Job | str, timeout: float | None = None) -> Job:
        """Wait until a job has ended; return it with its `status` and `exit_code`.

        Args:
            job: the job or its id.
            timeout: seconds to wait at most.

        Raises:
            TimeoutError: it lives on.
            UserError: there is no such job.
        """
        return control.wait(_directory(job), timeout)

    def logs(self, job: Job | str, *, attempt: int | None = None, follow: bool = False) -> Iterator[str]:
        """Yield the lines that a job said.

        Args:
            job: the job or its id.
            attempt: which attempt, from 1; the newest when None.
            follow: go on until it has ended.

        Raises:
            UserError: there is no such job or attempt.
        """
        return outputs.log_lines(_directory(job), attempt=attempt, follow=follow)

    def metrics(self, job: Job | str) -> list[dict[str, Any]]:
        """Return losses, learning rates and scores, an entry with its `step` for each step that has any.

        Raises:
            UserError: there is no such job.
        """
        return outputs.metrics_of(_directory(job))

    def artifacts(self, job: Job | str) -> dict[str, Path]:
        """Return what a job has made so far, by name; `model` once that is there.

        Raises:
            UserError: there is no such job.
        """
        return dict(artifacts(_directory(job)))

    def cancel(self, job: Job | str, *, at_once: bool = False) -> Job:
        """End a job; return when nothing of it is left.

        Args:
            job: the job or its id.
            at_once: without a checkpoint.

        Raises:
            UserError: it does not live, or its end was asked for already.
            WorkFailed: something of it lives on.
        """
        return control.cancel(_directory(job), at_once=at_once)

    def retry(self, job: Job | str) -> Job:
        """Try a failed job again from its last whole checkpoint on; return it as it waits or runs.

        Raises:
            UserError: it has not failed.
        """
        return control.retry(_directory(job))


def _slurm(request: SFTJob) -> SlurmConfig | None:
    """Return what a job asks of Slurm; None where it does not run there."""
    if request.executor == "slurm":
        if request.nodes != 1:
            raise UserError("is of a Ray cluster", where="SFTJob.nodes", fix="give slurm={'nodes': N}")
        return validated("SFTJob.slurm", request.slurm, SlurmConfig)
    if request.slurm:
        raise UserError("is about a submission to Slurm", where="SFTJob.slurm", fix="give executor='slurm' too")
    return None


def _directory(job: Job | str) -> Path:
    return find_job(job) if isinstance(job, str) else job.directory


__all__ = ["CapabilityRef", "Client", "DatasetRef", "Job", "SFTJob"]
