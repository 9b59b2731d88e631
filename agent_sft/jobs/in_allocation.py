"""The supervisor of a job in Slurm: runs on the machine that Slurm gave, once for each turn that the job has there.

Run as a program by the script that was submitted, with the run's directory, the number of the attempt, and the command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from agent_sft.errors import UserError
from agent_sft.jobs.alive import ASKED_TO_END
from agent_sft.jobs.record import CANCELLED, ENDED, attempts_of, lock_of, record_of
from agent_sft.jobs.supervisor import NAME, run_here, supervise, write_end
from agent_sft.runs.directory import now
from agent_sft.runs.lock import PATIENCE, hand_over, run_lock
from agent_sft.runs.queue import Taken

LOCK_SECONDS = 150
"""A machine that died may keep its locks on a shared file system this long: NFS lets go of them after 90 s or so."""


def main(arguments: Sequence[str]) -> int:
    """Supervise one turn of an attempt.

    Args:
        arguments: the run's directory, the number of the attempt, and the command.
    """
    place, number, *command = arguments
    run = Path(place)
    os.environ.setdefault(PATIENCE, str(LOCK_SECONDS))
    try:
        with run_lock(lock_of(run), f"see `agent-sft jobs get {run}`") as lock:
            hand_over(lock_of(run), lock, os.getpid(), f"{NAME} of {run}")
            attempt = attempts_of(run)[-1]
            if attempt.number != int(number):
                sys.stderr.write(f"error: attempt {number} is over: attempt {attempt.number} has begun\n")
                return UserError.exit_code
            if attempt.fact(CANCELLED) is not None:
                write_end(run, attempt, ASKED_TO_END)
                return ASKED_TO_END
            (attempt.path / ENDED).unlink(missing_ok=True)  # an earlier turn's
            turn = int(os.environ.get("SLURM_RESTART_COUNT") or 0) + 1
            job, nodes = (os.environ.get(f"SLURM_JOB_{name}", "") for name in ("ID", "NODELIST"))
            record_of(run).record("turn begins", attempt=attempt.number, turn=turn, job=job, nodes=nodes, at=now())
            taken = Taken((f"job {job} of Slurm on {nodes}",), ())
            return supervise(run, command, os.dup(lock), lambda _need, _stop: nullcontext(taken), run_here)
    except UserError as error:
        sys.stderr.write(f"error: the job cannot be started: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
