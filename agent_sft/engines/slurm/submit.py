"""Handing a script to Slurm."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from agent_sft.engines.slurm.script import Job
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import write_atomic

PLACE = Path("slurm")
"""Scripts and logs lie here, in the folder that a job is started in."""
SECONDS = 120.0
"""How long sbatch may take: a controller that does not answer is asked again by it for a while."""
_ABOUT_SLURM = re.compile(r"[Uu]nable to contact|[Uu]nable to connect|[Cc]onnection|timed out|[Aa]uthentication|munge")
"""Words of sbatch about Slurm itself; others are about what was asked for."""


@dataclass(frozen=True)
class Submitted:
    """A job that Slurm has."""

    id: str
    script: Path
    log: str
    """Relative to the folder that it runs in; of an array with `*` for its tasks."""

    def how_to_watch(self) -> list[str]:
        """Return what to type about it."""
        return [
            f"squeue --job {self.id}        whether it waits or runs",
            f"tail -F {self.log}",
            f"scancel {self.id}             ends it",
        ]


def submit(job: Job, folder: Path) -> Submitted:
    """Write a job's script into a folder and submit it.

    Args:
        job: the job.
        folder: that it runs in, which gets `slurm/NAME.sbatch`.

    Raises:
        UserError: there is no sbatch here, or Slurm refuses what was asked for.
        WorkFailed: Slurm does not answer, or refuses for another reason.
    """
    if shutil.which("sbatch") is None:
        fix = "run it on a machine from which jobs are submitted, or leave --executor slurm out; --dry-run shows it"
        raise UserError("there is no sbatch here", where="--executor slurm", fix=fix)
    path = folder / PLACE / f"{job.name}.sbatch"
    write_atomic(path, job.script)
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", str(path)],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkFailed(f"sbatch does not end: Slurm's controller did not answer for {SECONDS:.0f} s") from error
    if done.returncode != 0:
        said = "; ".join(line.removeprefix("sbatch: error: ") for line in done.stderr.splitlines() if line.strip())
        if not said or _ABOUT_SLURM.search(said):
            raise WorkFailed(f"sbatch failed (exit code {done.returncode}): {said or 'it said nothing'}")
        raise UserError(f"Slurm refuses it: {said}", where=str(path), fix="see `sinfo`, and --slurm")
    number = done.stdout.strip().partition(";")[0]
    return Submitted(number, path, str(PLACE / f"{job.name}-{number}{'_*' if job.is_array else ''}.log"))
