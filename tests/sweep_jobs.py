"""What the tests of sweeps share: jobs that are small programs, and a scheduler that runs them for real."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_sft.config.sweep import SweepConfig
from agent_sft.report.sweep.record import SweepRecord
from agent_sft.runs.processes import Interrupted, StopSignal, catch_signals
from agent_sft.sweep.graph import Job, Kind, Slots, SweepPlan, Variant
from agent_sft.sweep.outside import Opening, Outside
from agent_sft.sweep.schedule import run_sweep


def program(text: str) -> tuple[str, ...]:
    """A command that runs a few lines of Python."""
    return (sys.executable, "-c", textwrap.dedent(text))


@dataclass
class Sums:
    """A sweep whose jobs are programs that leave a file each: a job is done when its file is there."""

    folder: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Jobs of which was asked whether they are done."""
    reports: int = 0

    def add(
        self,
        name: str,
        text: str | None = None,
        *,
        after: Sequence[str] = (),
        cores: int = 1,
        gpus: int = 0,
        kind: Kind | None = None,
        **fields: Any,
    ) -> str:
        """Add a job; its program is given, or leaves its file after a moment. A name's middle is its variant."""
        parts = name.split("/")
        variant = parts[1] if parts[0] in ("train", "evaluate", "score") and parts[1] != "base" else None
        made = f"import pathlib, time; time.sleep(0.05); pathlib.Path({str(self.made(name))!r}).touch()"
        self.made(name).parent.mkdir(parents=True, exist_ok=True)
        self.jobs[name] = Job(
            id=name,
            kind=kind or parts[0],  # type: ignore[arg-type]
            after=tuple(after),
            slots=Slots(gpus=gpus, cores=cores),
            command=program(text if text is not None else made),
            variant=variant,
            **fields,
        )
        return name

    def made(self, name: str) -> Path:
        """The file that says that a job is done."""
        return self.folder / "made" / name.replace("/", ".")

    @property
    def out(self) -> Path:
        return self.folder / "sweep"

    def plan(self, **config: Any) -> SweepPlan:
        names = {job.variant: None for job in self.jobs.values() if job.variant is not None}
        variants = [Variant(name, name, None, None, None, str(self.folder / name)) for name in names]
        asked = SweepConfig.model_validate({"name": "sums", "resources": {"cores": 2}, **config})
        return SweepPlan(asked, self.out, tuple(variants), tuple(self.jobs.values()), (), None)

    def outside(self) -> Outside:
        def why_run(_plan: SweepPlan, job: Job) -> str | None:
            self.asked.append(job.id)
            return None if self.made(job.id).exists() else "not done yet"

        def write_report(_folder: Path, _complete: bool) -> None:
            self.reports += 1

        return Outside(why_run, lambda plan, _variant: plan, write_report)

    def run(self, show: Callable[[SweepRecord], None] = lambda _record: None, **config: Any) -> tuple[SweepRecord, str]:
        """Run the sweep; return its record and what was said."""
        said = Said(show)
        record = run_sweep(
            self.plan(**config),
            reporter=said,
            stop=said.stop,
            command=["agent-sft", "sweep"],
            outside=self.outside(),
            retry_seconds=0.05,
        )
        return record, said.text


class Said:
    """Keeps what a sweep says."""

    def __init__(self, show: Callable[[SweepRecord], None] = lambda _record: None) -> None:
        self.text = ""
        self.stop = StopSignal()
        self._show = show

    def say(self, text: str) -> None:
        self.text += text + "\n"

    def opens(self, opening: Opening) -> None:
        self.text += f"to do {dict(opening.to_do)}, done {opening.done}\n"

    def show(self, record: SweepRecord, remaining: float | None) -> None:
        self._show(record)

    def ended(self) -> None:
        pass


def states(record: SweepRecord) -> dict[str, str]:
    return {job.id: job.state for job in record.jobs}


def attempts(record: SweepRecord) -> dict[str, int]:
    return {job.id: job.attempts for job in record.jobs}


def pairs(folder: Path, seconds: float) -> Sums:
    """Four variants, each trained and evaluated by programs that take a while."""
    sums = Sums(folder)
    sums.add("prepare/0")
    for name in ("a", "b", "c", "d"):
        for job, after in ((f"train/{name}", "prepare/0"), (f"evaluate/{name}/final/sums", f"train/{name}")):
            path = str(sums.made(job))
            text = f"import pathlib, time; time.sleep({seconds}); pathlib.Path({path!r}).touch(); print('made {job}')"
            sums.add(job, text, after=[after])
    return sums


def main() -> int:
    """Run a sweep of programs in the folder that is named, as the command line runs a sweep.

    With `fill` one of them writes all that the disk of the sweep's folder takes.
    """
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    sums = pairs(folder, seconds)
    if "fill" in sys.argv:
        sums.add("train/a", f"open({str(sums.out / 'weights')!r}, 'wb').write(bytes(5_000_000))", after=["prepare/0"])
    with catch_signals() as stop:
        said = Said()
        said.stop = stop
        try:
            record = run_sweep(
                sums.plan(), reporter=said, stop=stop, command=sys.argv, outside=sums.outside(), retry_seconds=0.05
            )
        except Interrupted as stopped:
            return stopped.exit_code
    sys.stdout.write(said.text)
    return 1 if "failed" in states(record).values() else 0


if __name__ == "__main__":
    sys.exit(main())
