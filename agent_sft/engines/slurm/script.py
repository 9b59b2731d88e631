"""The script that is submitted: readable from top to bottom, and the same when it is submitted by hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_sft.config.slurm import SlurmConfig

PLACE = Path("slurm")
"""Scripts and logs lie here, in the folder that a job is started in, unless they have another place."""
INSIDE = Path(__file__).parent / "inside"
ADDRESS = '"$address"'
"""The Ray cluster's, as the shell expands it."""
_KILL = 'kill -TERM "$child"'
_ON_EACH_MACHINE = (
    "# What runs on each machine. Slurm sends a signal to all processes of a step, trainers too, which most signals",
    "# would end before they have saved. URG does nothing to any but this shell, which passes it on as TERM.",
    "machine='",
    "  child=",
    '  trap "[[ -z \\$child ]] || kill -TERM \\$child" URG',
    '  "$@" --nnodes "$SLURM_NNODES" --node-rank "$SLURM_NODEID" --master-addr "$head" --master-port "$port" &',
    "  child=$!",
    "  while true; do",
    '    wait "$child"',
    "    status=$?",
    '    kill -0 "$child" 2>/dev/null || exit "$status"',
    "  done",
    "'",
)
_ALL_CORES = '--cpus-per-task="$SLURM_CPUS_ON_NODE"'
"""A step would get one processor of those that the job has."""
FIRST_PORT, PORTS = 20000, 10000
"""The cluster's port is made of the job's number, so that two jobs on a machine do not share one."""


@dataclass(frozen=True)
class Task:
    """Commands that run one after the other, up to the first that fails."""

    name: str
    commands: tuple[Sequence[str], ...]


@dataclass(frozen=True)
class Files:
    """Where a job's script and its log lie: below the folder that it runs in, unless these are whole paths."""

    script: Path
    log: Path
    """`%j` in its name stands for the job's number, `%A_%a` for that of an array and of its task."""


@dataclass(frozen=True)
class Job:
    """What is submitted."""

    name: str
    script: str
    """All of it."""
    files: Files
    is_array: bool = False


def one_machine(
    config: SlurmConfig, name: str, folder: Path, command: Sequence[str], files: Files | None = None
) -> Job:
    """Return a job that runs a command on one machine.

    Args:
        config: what to ask of Slurm.
        name: of the job.
        folder: to run in.
        command: program and arguments.
        files: its script and its log; in `slurm/` of the folder when None.
    """
    return _script(config, name, folder, [f"run {shlex.join(command)}"], files=files)


def every_machine(
    config: SlurmConfig,
    name: str,
    folder: Path,
    command: Sequence[str],
    files: Files | None = None,
    under: Sequence[str] = (),
) -> Job:
    """Return a job that runs a training on several machines, on each of them the same command.

    Args:
        config: what to ask of Slurm.
        name: of the job.
        folder: to run in, seen by all machines.
        command: the training's, to which the machine's number and the first machine's address are added.
        files: its script and its log; in `slurm/` of the folder when None.
        under: a command that runs the one that follows it, on the first machine.
    """
    starts = shlex.join([*under, "srun"])
    lines = [
        *_ON_EACH_MACHINE,
        "export head port",
        "head=$(hostname)",
        f"port=$(({FIRST_PORT} + SLURM_JOB_ID % {PORTS}))",
        f'run {starts} --ntasks-per-node=1 {_ALL_CORES} bash -c "$machine" - {shlex.join(command)}',
    ]
    return _script(config, name, folder, lines, stop='scancel --signal=URG "$SLURM_JOB_ID"', files=files)


def array(config: SlurmConfig, name: str, folder: Path, tasks: Sequence[Task]) -> Job:
    """Return an array: one of its tasks each, independent of each other.

    Args:
        config: what to ask of Slurm, for each of them.
        name: of the job.
        folder: to run in.
        tasks: what each does.
    """
    lines = ['case "$SLURM_ARRAY_TASK_ID" in']
    for number, task in enumerate(tasks):
        lines.append(f"  {number}) # {task.name}")
        lines += [f"    run {shlex.join(command)}" for command in task.commands]
        lines.append("    ;;")
    return _script(config, name, folder, [*lines, "esac"], tasks=len(tasks))


def on_ray(config: SlurmConfig, name: str, folder: Path, command: Sequence[str], ray: Path) -> Job:
    """Return a job that starts Ray on all of its machines and runs a command there.

    Args:
        config: what to ask of Slurm.
        name: of the job.
        folder: to run in, seen by all machines.
        command: ends with the option that takes the cluster's address, which is added.
        ray: the Python of Ray's environment.
    """
    cores = '--num-cpus="$SLURM_CPUS_ON_NODE"'
    start = f"{shlex.quote(str(ray.with_name('ray')))} start --block --disable-usage-stats {cores}"
    waiting = f"{shlex.quote(str(ray))} {shlex.quote(str(INSIDE / 'wait_for_nodes.py'))} {ADDRESS}"
    others = "$((SLURM_NNODES - 1))"
    lines = [
        "# Ray's head on the first machine, which is this one, workers on the others: steps, which end with the job.",
        "head=$(hostname)",
        f"port=$(({FIRST_PORT} + SLURM_JOB_ID % {PORTS}))",
        "address=$head:$port",
        f'srun --nodes=1 --ntasks=1 --nodelist="$SLURMD_NODENAME" {_ALL_CORES} \\',
        f'  {start} --head --port="$port" --temp-dir="/tmp/ray-$SLURM_JOB_ID" --include-dashboard=false &',
        f"run {waiting} 1",
        f'srun --nodes="{others}" --ntasks="{others}" --ntasks-per-node=1 --exclude="$SLURMD_NODENAME" {_ALL_CORES} \\',
        f"  {start} --address={ADDRESS} &",
        f'run {waiting} "$SLURM_NNODES"',
        "",
        f"run {shlex.join(command)} {ADDRESS}",
    ]
    return _script(config, name, folder, lines)


def _run(config: SlurmConfig, stop: str) -> Iterator[str]:
    """Yield the lines by which a command is run so that it saves before the time is up.

    Args:
        config: what to ask of Slurm.
        stop: the shell's command that asks it to.
    """
    to_it = f"[[ -z $child ]] || {stop}"
    if config.requeue:
        yield "# Before the time is up Slurm sends USR1: what runs is asked to save and to end, and the job goes back"
        yield "# into the queue; its next turn goes on from there. TERM asks it to save and to end, and no more."
        yield "requeue=no ended=no child="
        yield f"trap 'requeue=yes; {to_it}' USR1"
    else:
        yield "# Before the time is up Slurm sends TERM: what runs saves and ends."
        yield "ended=no child="
    yield f"trap 'ended=yes; {to_it}' TERM"
    yield ""
    if config.requeue:
        yield "again() {"
        yield '  echo "the time is up: the job goes back into the queue"'
        yield '  scontrol requeue "$SLURM_JOB_ID"'
        yield from ("  exit 143", "}", "")
    yield "# run COMMAND...: waits for its end, however often a signal comes meanwhile. What fails ends the job."
    yield "run() {"
    yield "  local status"
    yield "  [[ $ended == no ]] || exit 143"
    if config.requeue:
        yield "  [[ $requeue == no ]] || again"
    yield '  "$@" &'
    yield "  child=$!"
    yield "  while true; do"
    yield '    wait "$child"'
    yield "    status=$?"
    yield '    kill -0 "$child" 2>/dev/null || break'
    yield "  done"
    yield "  child="
    if config.requeue:
        yield "  [[ $requeue == no || $ended == yes || $status != 143 ]] || again"
    yield '  ((status == 0)) || exit "$status"'
    yield "}"


def _script(
    config: SlurmConfig,
    name: str,
    folder: Path,
    lines: Sequence[str],
    *,
    tasks: int | None = None,
    stop: str = _KILL,
    files: Files | None = None,
) -> Job:
    number = "%A_%a" if tasks is not None else "%j"
    files = files or Files(PLACE / f"{name}.sbatch", PLACE / f"{name}-{number}.log")
    options = (f"#SBATCH {option}" for option in _options(config, name, folder, files.log, tasks))
    head = ["#!/bin/bash", *options, "", "set -uo pipefail", *config.setup]
    text = "\n".join([*head, "", *_run(config, stop), "", *lines]) + "\n"
    return Job(name, text, files, is_array=tasks is not None)


def _options(config: SlurmConfig, name: str, folder: Path, log: Path, tasks: int | None) -> Iterator[str]:
    """Yield what follows each `#SBATCH`."""
    yield f"--job-name={name}"
    # sbatch reads these lines by the shell's rules of quoting.
    yield f"--chdir={shlex.quote(str(folder))}"
    yield f"--output={shlex.quote(str(log))}"
    yield "--open-mode=append"
    if tasks is not None:
        yield f"--array=0-{tasks - 1}{f'%{config.at_once}' if config.at_once else ''}"
    yield f"--nodes={config.nodes}"
    yield "--ntasks-per-node=1"
    for key in ("partition", "account", "qos", "time", "gpus_per_node", "cpus_per_task", "mem", "constraint"):
        if (value := getattr(config, key)) is not None:
            yield f"--{key.replace('_', '-')}={shlex.quote(str(value))}"
    if config.requeue:
        yield "--requeue"
        yield f"--signal=B:USR1@{config.notice}"
    else:
        yield "--no-requeue"
        yield f"--signal=B:TERM@{config.notice}"
    yield from config.sbatch
