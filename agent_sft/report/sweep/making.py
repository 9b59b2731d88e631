"""The tables of how a sweep was made: data, jobs, machine."""

from __future__ import annotations

import shlex

from agent_sft.report.numbers import duration
from agent_sft.report.sweep.facts import SweepFacts
from agent_sft.report.sweep.tables import NONE
from agent_sft.report.tables import Table


def data_table(facts: SweepFacts) -> Table | None:
    """Return what each training read: files with their digests, and what became of the rows."""
    rows = []
    for one in facts.variants:
        if one.training is None or not (one.training.inputs or one.training.rows):
            continue
        training = one.training
        files = "; ".join(f"{name} {short(digest)}" for name, digest in training.inputs.items())
        fates = ", ".join(f"{count:,} {fate}" for fate, count in training.rows.items())
        steps = "; ".join(f"{name}: {_step(step)}" for name, step in training.done.items()) or "nothing"
        rows.append([one.record.name, files or NONE, fates or NONE, steps])
    if not rows:
        return None
    return Table(
        title="What each training read", columns=["variant", "files and digests", "rows", "changed by"], rows=rows
    )


def jobs_table(facts: SweepFacts) -> Table:
    """Return each job with its time, its devices and its command."""
    rows = []
    for job in facts.record.jobs:
        time = duration(job.seconds) if job.seconds else NONE
        told = [job.state, f"{job.attempts}", time, ", ".join(job.devices) or NONE]
        rows.append([job.id, *told, shlex.join(job.command) or NONE])
    return Table(
        title="Each job, with the command that runs it by itself",
        columns=["job", "state", "tries", "time", "on", "command"],
        rows=rows,
    )


def made_with_table(facts: SweepFacts) -> Table:
    """Return the machine and the versions."""
    machine = facts.record.machine
    gpus = machine.get("gpus") or []
    memory = machine.get("memory_bytes")
    rows = [
        ["machine", ", ".join(str(machine[key]) for key in ("host", "platform") if machine.get(key)) or NONE],
        ["processors", f"{machine['cores']}" if machine.get("cores") else NONE],
        ["memory", f"{memory / 2**30:.0f} GiB" if memory else NONE],
        ["GPUs", ", ".join(map(str, gpus)) or "none"],
        *([name, version] for name, version in sorted(facts.record.versions.items())),
    ]
    return Table(title="Where it ran, and with what", columns=["", ""], rows=rows)


def short(digest: str) -> str:
    """Return the beginning of a digest, enough to tell files apart."""
    return digest if len(digest) < 24 else f"{digest[:19]}…"


def _step(step: dict[str, object]) -> str:
    rows = step.get("rows")
    return ", ".join(f"{count:,} {what}" for what, count in rows.items()) if isinstance(rows, dict) else ""
