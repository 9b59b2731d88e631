"""Handing a script to Slurm."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_sft.engines.slurm.script import Job
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import write_atomic

SECONDS = 120.0
"""How long sbatch may take: a controller that does not answer is asked again by it for a while."""
_ABOUT_SLURM = re.compile(r"[Uu]nable to contact|[Uu]nable to connect|[Cc]onnection|timed out|[Aa]uthentication|munge")
"""Words of sbatch about Slurm itself; others are about what was asked for."""
_NEVER = "Requested node configuration is not available"
"""What sbatch says of more than there is. Submitted it would wait, on most clusters, for machines to be added."""


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
            f"scancel --batch --signal=TERM {self.id}   ends it, with a checkpoint; without the options at once",
        ]


def submit(job: Job, folder: Path) -> Submitted:
    """Write a job's script and submit it. Of what is refused nothing is left.

    Args:
        job: the job.
        folder: that it runs in.

    Raises:
        UserError: there is no sbatch here, Slurm does not answer, or it refuses what was asked for.
        WorkFailed: it fails without a word.
    """
    if shutil.which("sbatch") is None:
        fix = "run it on a machine from which jobs are submitted, or leave --executor slurm out; --dry-run shows it"
        raise UserError("there is no sbatch here", where="--executor slurm", fix=fix)
    path = folder / job.files.script
    with _written(path, job.script):
        number = _accepted(path, folder)
    log = str(job.files.log).replace("%A_%a", f"{number}_*").replace("%j", number).replace("%%", "%")
    return Submitted(number, path, log)


@contextmanager
def _written(path: Path, script: str) -> Iterator[None]:
    """Write a script; take it back where what is done with it fails."""
    before = path.read_text(encoding="utf-8") if path.is_file() else None
    is_new = not path.parent.exists()
    write_atomic(path, script)
    try:
        yield
    except (UserError, WorkFailed):
        if before is not None:
            write_atomic(path, before)
        else:
            path.unlink()
        if is_new:
            path.parent.rmdir()
        raise


def _accepted(path: Path, folder: Path) -> str:
    """Return the number that Slurm gives to a script.

    Raises:
        UserError: Slurm refuses what is asked for, or does not answer.
        WorkFailed: it fails without a word.
    """
    tried = _sbatch(path, folder, "--test-only")
    if tried.returncode and _NEVER in tried.stderr and not _some_are_down():
        what = "Slurm has no such machines, and would let it wait for ever"
        raise UserError(what, where="--slurm", fix="ask for fewer nodes, GPUs, processors or memory: see `sinfo -Nl`")
    done = _sbatch(path, folder, "--parsable")
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]
    said = "; ".join(line.removeprefix("sbatch: error: ") for line in done.stderr.splitlines() if line.strip())
    if not said:
        raise WorkFailed(f"sbatch failed (exit code {done.returncode}) without a word")
    if _ABOUT_SLURM.search(said):
        raise UserError(f"Slurm does not answer: {said}", where="--executor slurm", fix="see `scontrol ping`")
    raise UserError(f"Slurm refuses it: {said}", where="--slurm", fix="see `sinfo`; --dry-run shows what is asked")


def _sbatch(path: Path, folder: Path, option: str) -> subprocess.CompletedProcess[str]:
    command = ["sbatch", option, str(path)]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        what = f"Slurm does not answer: sbatch has not ended after {SECONDS:.0f} s"
        raise UserError(what, where="--executor slurm", fix="see `scontrol ping`") from error


def _some_are_down() -> bool:
    """Tell whether machines are away that may come back: with them Slurm may have what it has not now."""
    states = "--states=down,drain,fail,maint,no_respond,power_down,powering_down,powered_down,reboot,unknown"
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%D", states], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    return done.returncode != 0 or bool(done.stdout.strip())
