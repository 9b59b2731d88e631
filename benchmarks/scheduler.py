"""What a sweep's scheduler costs: stages a second, its journal read again, a thousand candidates on 500 GPUs.

    python benchmarks/scheduler.py

Three parts, or those that are named with --part:

stages      1,000 stages of 50 ms on 64 GPUs that are only counted, through the scheduler that sweeps use, each stage
            a process of its own; in the same minutes the same 1,000 commands through `xargs -P 64`. With --executor
            ray they are tasks of a Ray cluster, one machine of so many GPUs, that is started for it.
journal     a sweep of which 100,000 lines of journal are newer than its last record is read, as after a kill.
simulation  1,000 candidates, each trained and evaluated twice, on 500 GPUs: nothing runs, an hour passes in a second,
            everything that the scheduler does is real. What it takes, and what it writes.

Exit 1 where the journal takes longer than --goal seconds.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent_sft.config.sweep import SweepConfig  # noqa: E402
from agent_sft.engines.environments import engine_python  # noqa: E402
from agent_sft.engines.slurm.script import INSIDE  # noqa: E402
from agent_sft.report.sweep.record import JOURNAL, RECORD, SweepRecord, read_record  # noqa: E402
from agent_sft.runs.lock import run_lock  # noqa: E402
from agent_sft.runs.processes import Child, StopSignal  # noqa: E402
from agent_sft.sweep.executor import Executor, Handle, LocalExecutor  # noqa: E402
from agent_sft.sweep.graph import Job, Slots, SweepPlan, Variant  # noqa: E402
from agent_sft.sweep.journal import Journal  # noqa: E402
from agent_sft.sweep.outside import Opening, Outside  # noqa: E402
from agent_sft.sweep.ray_executor import RayExecutor  # noqa: E402
from agent_sft.sweep.remaining import played  # noqa: E402
from agent_sft.sweep.schedule import Scheduler  # noqa: E402
from agent_sft.sweep.slots import Capacity, Share  # noqa: E402

WAIT = INSIDE / "wait_for_nodes.py"
PARTS = ("stages", "journal", "simulation")
TRAINING_GPUS, TRAINING_HOURS = 4, 1.0
EVALUATIONS, EVALUATION_HOURS = 2, 0.25
WORDS = ("--option", "a value of usual length") * 10
"""What a stage's command has after its name, so that what is written is as long as it is in earnest."""


class Silent:
    """A reporter that shows nothing."""

    def say(self, text: str) -> None:
        """Show nothing, but what has failed."""
        if ": failed: " in text:
            raise SystemExit(text)

    def opens(self, opening: Opening) -> None:
        """Show nothing."""

    def show(self, record: SweepRecord, remaining: float | None) -> None:
        """Show nothing."""

    def ended(self) -> None:
        """Show nothing."""


@dataclass
class Pretended:
    """Where nothing runs: a stage ends when its time, made shorter, has passed."""

    gpus: int
    seconds: Callable[[str], float]
    started: list[float] = field(default_factory=list)
    here: bool = True

    def capacity(self) -> Capacity:
        """Return GPUs that are only counted."""
        return Capacity(tuple(range(self.gpus)), 1)

    def submit(
        self, job: str, command: Sequence[str], share: Share, environment: Mapping[str, str], log: Path
    ) -> Handle:
        """Start nothing."""
        self.started.append(time.monotonic())
        return _Timer(time.monotonic() + self.seconds(job))


class _Timer:
    def __init__(self, ends: float) -> None:
        self._ends = ends

    def poll(self) -> int | None:
        return 0 if time.monotonic() >= self._ends else None

    def lost(self) -> str | None:
        return None

    def where(self) -> list[str] | None:
        return None

    def terminate(self) -> None:
        self._ends = 0.0

    def kill(self) -> None:
        self._ends = 0.0


def carried_out(plan: SweepPlan, executor: Executor) -> float:
    """Carry a plan out; return the seconds it took. A stage is done when its command has ended well."""
    done: set[str] = set()
    outside = Outside(
        why_run=lambda _plan, job: None if job.id in done else "not done yet",
        with_checkpoints=lambda plan, _variant: plan,
        note_done=lambda _plan, job: done.add(job.id),
    )
    began = time.monotonic()
    Scheduler(plan, Silent(), StopSignal(), sys.argv, outside, executor, 1.0).run()
    return time.monotonic() - began


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def plan_of(place: Path, jobs: Sequence[Job]) -> SweepPlan:
    """Return a plan with these jobs."""
    names = dict.fromkeys(job.variant for job in jobs if job.variant is not None)
    variants = tuple(Variant(name, name, None, None, None, str(place / name)) for name in names)
    return SweepPlan(SweepConfig(name="stages"), place, variants, tuple(jobs), (), None)


def stages(count: int, seconds: float, gpus: int, pairs: int, executor: str) -> None:
    """Print what a stage costs beside the time that it takes, ours and xargs'."""
    ours = _on_ray if executor == "ray" else _ours
    commands = ["sleep", str(seconds)]
    ideal = math.ceil(count / gpus) * seconds
    found: dict[str, list[tuple[float, float]]] = {"xargs": [], "ours": []}
    for pair in range(pairs):
        for name in ("xargs", "ours") if pair % 2 else ("ours", "xargs"):
            used = processor_seconds()
            wall = _xargs(count, commands, gpus) if name == "xargs" else ours(count, commands, gpus)
            found[name].append((wall, processor_seconds() - used))
    print(f"{count:,} stages of {seconds * 1000:.0f} ms on {gpus} GPUs: {ideal:.2f} s where nothing costs anything")
    for name, times in found.items():
        wall, used = median(one for one, _ in times), median(one for _, one in times)
        print(
            f"  {name:<6} {wall:6.2f} s: {(wall - ideal) / count * 1000:5.2f} ms of overhead a stage,"
            f" {used / count * 1000:5.2f} ms of processor time"
        )


def _xargs(count: int, command: Sequence[str], at_once: int) -> float:
    began = time.monotonic()
    line = ["xargs", "-P", str(at_once), "-I", "{}", *command]
    subprocess.run(line, input="\n".join(map(str, range(count))), text=True, check=True)
    return time.monotonic() - began


def _ours(count: int, command: Sequence[str], gpus: int) -> float:
    with _scratch() as place, run_lock(place / ".lock") as lock:
        return carried_out(_alike(place, count, command), LocalExecutor(Capacity(tuple(range(gpus)), 1), lock))


def _on_ray(count: int, command: Sequence[str], gpus: int) -> float:
    with (
        _scratch() as place,
        run_lock(place / ".lock") as lock,
        _cluster(place / "ray", gpus) as address,
        RayExecutor(address, place, lock, print) as executor,
    ):
        return carried_out(_alike(place, count, command), executor)


def _alike(place: Path, count: int, command: Sequence[str]) -> SweepPlan:
    """Return a plan of stages that all run the same command on one GPU."""
    jobs = [Job(f"prepare/{number}", "prepare", (), Slots(gpus=1), tuple(command)) for number in range(count)]
    return plan_of(place, jobs)


@contextmanager
def _cluster(place: Path, gpus: int) -> Iterator[str]:
    """Start a Ray cluster of one machine with so many GPUs that nothing can compute on; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    python, address = engine_python("ray"), f"127.0.0.1:{port}"
    started = [str(python.with_name("ray")), "start", "--head", "--block", f"--port={port}", f"--temp-dir={place}"]
    options = ["--node-ip-address=127.0.0.1", f"--num-cpus={gpus}", f"--num-gpus={gpus}", "--disable-usage-stats"]
    place.mkdir()
    head = Child([*started, *options, "--include-dashboard=false"], log=place / "log", env=os.environ)
    try:
        subprocess.run([python, WAIT, address, "1"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield address
    finally:
        head.kill()


def journal(events: int, goal: float) -> bool:
    """Print how long it takes to read a journal; return whether that is short enough."""
    with _scratch() as place:
        plan = plan_of(place, candidates(max(1, events // 18)))
        kept = Journal(plan, sys.argv, print)
        kept.save(plan)
        share = Share((0,), 0, on_gpus=True)
        for job in itertools.cycle(plan.jobs):
            if kept.events >= events:
                break
            kept.starts(job.id, share, kept.new_log(job.id), "not done yet")
            kept.ends(job.id, 0, 1)
            kept.settle(job.id, "done", None)
        times = []
        for _ in range(5):
            began = time.process_time()
            record = read_record(place)
            times.append(time.process_time() - began)
        size = (place / JOURNAL).stat().st_size
        if sum(job.attempts for job in record.jobs) != math.ceil(events / 3):
            raise SystemExit("the journal was not read to its end")
        print(f"{kept.events:,} lines of journal, {size / 1e6:.1f} MB: read in {median(times):.2f} s, goal {goal:g} s")
        return median(times) <= goal


def candidates(count: int) -> list[Job]:
    """Return the stages of so many candidates: a training each, and the evaluations of what it made."""
    jobs = []
    for number in range(count):
        name = f"candidate_{number:04d}"
        train, command = f"train/{name}", ("agent-sft", *WORDS)
        jobs.append(Job(train, "train", (), Slots(gpus=TRAINING_GPUS), command, variant=name))
        for evaluation in range(EVALUATIONS):
            job = f"evaluate/{name}/final/task_{evaluation}"
            jobs.append(Job(job, "evaluate", (train,), Slots(gpus=1), command, variant=name, checkpoint="final"))
    return jobs


def simulation(count: int, gpus: int, faster: float) -> None:
    """Print what so many candidates take of the scheduler and the file system."""
    jobs = candidates(count)

    def seconds(job: str) -> float:
        return (TRAINING_HOURS if job.startswith("train/") else EVALUATION_HOURS) * 3600 / faster

    shared_out = played(jobs, {job.id: seconds(job.id) for job in jobs}, Capacity(tuple(range(gpus)), 1), None)
    with _scratch() as place, _files() as opened:
        executor = Pretended(gpus, seconds)
        used = time.process_time()
        took = carried_out(plan_of(place, jobs), executor) * faster / 3600
        used = time.process_time() - used
        lines = sum(1 for _ in (place / JOURNAL).open("rb"))
        sizes = {name: (place / name).stat().st_size for name in (JOURNAL, RECORD)}
    first = executor.started[gpus // TRAINING_GPUS - 1] - executor.started[0]
    print(
        f"{count:,} candidates, {len(jobs):,} stages on {gpus} GPUs: {shared_out * faster / 3600:.2f} h where starting"
        f" costs nothing, {took:.2f} h with an hour in {3600 / faster:g} s"
    )
    print(f"  processor time of the scheduler: {used:.2f} s, {used / len(jobs) * 1000:.2f} ms a stage")
    print(f"  the first {gpus // TRAINING_GPUS} trainings were started within {first:.2f} s")
    print(f"  {JOURNAL}: {lines:,} lines, {sizes[JOURNAL] / 1e6:.2f} MB; {RECORD}: {sizes[RECORD] / 1e6:.2f} MB")
    written = opened["written"]
    print(f"  {RECORD} was written {written} times; files opened, made or renamed: {opened.total() - written:,}")


@contextmanager
def _scratch() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="scheduler-"))
    try:
        yield place
    finally:
        shutil.rmtree(place)


@contextmanager
def _files() -> Iterator[Counter[str]]:
    """Count what is done to files in the block: `open`, `os.rename`, …; `written` counts records."""
    counted: Counter[str] = Counter()
    on = True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if on and event in ("open", "os.mkdir", "os.rename", "os.scandir", "os.remove"):
            counted[event] += 1
            counted["written"] += event == "os.rename" and os.fspath(arguments[1]).endswith(RECORD)

    sys.addaudithook(note)  # there is no way to take it back
    try:
        yield counted
    finally:
        on = False


def main() -> int:
    """Run the parts; return 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description="What a sweep's scheduler costs.")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--stages", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.05, help="of a stage")
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--executor", choices=["local", "ray"], default="local", help="where the stages run")
    parser.add_argument("--pairs", type=int, default=3, help="runs of ours and of xargs")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--goal", type=float, default=1.0, help="seconds in which the journal is read")
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--cluster-gpus", type=int, default=500)
    parser.add_argument("--faster", type=float, default=3600, help="how much faster time passes in the simulation")
    options = parser.parse_args()
    parts = options.part or PARTS
    if "stages" in parts:
        stages(options.stages, options.seconds, options.gpus, options.pairs, options.executor)
    reached = "journal" not in parts or journal(options.events, options.goal)
    if "simulation" in parts:
        simulation(options.candidates, options.cluster_gpus, options.faster)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
