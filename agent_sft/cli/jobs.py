"""`agent-sft jobs`: what runs, ran and waits."""

from __future__ import annotations

import click

from agent_sft.cli.lazy import LazyGroup

COMMANDS = {
    "list": "List jobs, and what else runs: sweeps, plans, deployments.",
    "get": "Tell all about a job.",
    "wait": "Wait until a job has ended; the exit code is the job's.",
    "logs": "Show what a job said.",
    "artifacts": "List what a job made.",
    "metrics": "Show what was measured while a job trained.",
    "cancel": "End a job; a training saves a checkpoint first.",
    "retry": "Try a failed job again, from its last whole checkpoint on.",
}
"""Each lives in the module `agent_sft.cli.jobs_NAME`."""


@click.group(cls=LazyGroup, known=COMMANDS, prefix="agent_sft.cli.jobs_")
def command() -> None:
    """Look at and look after what `agent-sft train` submitted. A JOB is an id, or the job's directory."""
