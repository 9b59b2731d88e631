"""An experiment from Python: `Experiment.from_file("experiment.yaml").run()`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from agent_sft.config.experiment import ExperimentConfig
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import write_atomic
from agent_sft.runs.processes import Interrupted
from agent_sft.stages.artifacts import artifacts
from agent_sft.stages.experiments.conclusion import conclusion
from agent_sft.stages.experiments.resolve import PIPELINE, ROWS, resolve, resolved, template_of
from agent_sft.stages.plan import TrainingPlan, build_plan
from agent_sft.stages.reporting import Quiet, Reporter
from agent_sft.stages.sft import dry_run, run_sft

REPORT = "experiment.md"
FLAGS = {
    "give --allow-rejects": "give `allow_rejects: true`",
    "--cutoff-len": "max_seq_len",
    "--on-overflow": "on_overflow",
    "--supervise": "supervise",
    "another --output-dir": "another output_dir",
    "--best-by": "best_by",
}
"""Options of `run_sft.sh`, and what they are called in an experiment file."""
Status = Literal["completed", "failed", "stopped"]


@dataclass(frozen=True)
class ExperimentResult:
    """How an experiment ended."""

    status: Status
    artifacts: dict[str, Path] = field(repr=False)
    """What it made, by name."""
    conclusion: list[str]
    """What it found, the hypothesis first; why it failed, where it did."""
    logs: Path
    """The folder with its files."""
    exit_code: int = 0
    """Of the command that runs it."""

    def lines(self) -> Iterator[str]:
        """Yield what to show at the end."""
        yield f"Status:     {self.status}"
        yield f"Artifacts:  {', '.join(self.artifacts)}"
        for number, finding in enumerate(self.conclusion):
            yield f"{'Conclusion:' if not number else '           '} {finding}"
        yield f"Logs:       {self.logs}"


class Experiment:
    """A question, a training, and what scores it."""

    def __init__(self, config: ExperimentConfig, *, source: str = "experiment", folder: Path | None = None) -> None:
        """Check an experiment.

        Args:
            config: what it is.
            source: where it comes from, as messages say it.
            folder: to which files that kinds name are relative.

        Raises:
            UserError: a kind or a parameter is wrong.
        """
        self._resolved = resolved(config, source=source, folder=folder or Path())

    @classmethod
    def from_file(cls, path: Path | str) -> Experiment:
        """Read an experiment file.

        Raises:
            UserError: a key, kind, parameter or value in it is wrong, with the nearest known name.
        """
        experiment = cls.__new__(cls)
        experiment._resolved = resolve(Path(path))
        return experiment

    @property
    def config(self) -> ExperimentConfig:
        """What it is."""
        return self._resolved.config

    @property
    def folder(self) -> Path:
        """The run's directory."""
        return self._resolved.run_dir

    @property
    def notes(self) -> list[str]:
        """What is worth knowing before it runs."""
        return self._resolved.notes()

    def shown(self) -> Iterator[str]:
        """Yield, line by line, all that running it would do; nothing is touched.

        Raises:
            UserError: it cannot work here.
        """
        with tempfile.TemporaryDirectory(prefix="agent-sft-") as scratch:
            inputs = self.folder if (self.folder / "events.jsonl").is_file() else Path(scratch)
            if inputs != self.folder:
                self._resolved.write_inputs(inputs)
            yield from dry_run(self._plan(inputs, dry=True))

    def run(self, reporter: Reporter | None = None, *, fresh: bool = False) -> ExperimentResult:
        """Run it, going on where an earlier run of it ended.

        Args:
            reporter: is told how it goes; nobody when None.
            fresh: set an earlier result aside and start over.

        Raises:
            UserError: it cannot work here; nothing is left of it.
        """
        reporter = reporter or Quiet()
        for note in self.notes:
            reporter.say(note)
        made = not self.folder.exists()
        self._resolved.write_inputs(self.folder)
        try:
            outcome = run_sft(self._plan(self.folder, fresh=fresh), reporter)
            if not outcome.ran:
                reporter.say(f"finished already: {self.folder} (--fresh sets it aside and starts over)")
            result = self._result("completed", conclusion(self.config, outcome.plan.output_dir), 0)
        except UserError as error:
            if made:
                _remove_inputs(self.folder)
            fix = _as_in_files(error.fix) if error.fix else None
            raise UserError(_as_in_files(error.what), where=error.where, fix=fix) from error
        except Interrupted as stopped:
            where = f" at step {stopped.step}" if stopped.step else ""
            result = self._result("stopped", [f"stopped{where}; the same command goes on"], stopped.exit_code)
        except WorkFailed as failure:
            said = [line.strip() for line in _as_in_files(str(failure)).splitlines()]
            result = self._result("failed", said, failure.exit_code)
        path = self.config.output_dir / REPORT
        write_atomic(path, "\n".join(self._report(result)) + "\n")
        return replace(result, artifacts={**result.artifacts, "report": path})

    def _plan(self, inputs: Path, *, dry: bool = False, fresh: bool = False) -> TrainingPlan:
        options = self._resolved.sft(inputs, template=template_of(self._resolved))
        return build_plan(options.model_copy(update={"dry_run": dry, "fresh": fresh}))

    def _result(self, status: Status, findings: list[str], exit_code: int) -> ExperimentResult:
        return ExperimentResult(
            status, dict(artifacts(self._resolved.run_dir)), findings, self.config.output_dir, exit_code
        )

    def _report(self, result: ExperimentResult) -> Iterator[str]:
        config = self.config
        yield f"# {config.name}"
        if config.description:
            yield from ("", config.description)
        yield from ("", "## Hypothesis", "", config.expected or "None was given.")
        yield from ("", "## Conclusion", "", f"Status: {result.status}", "")
        yield from (f"- {finding}" for finding in result.conclusion)
        yield from ("", "## What there is", "", "| | |", "|---|---|")
        yield from (f"| {name} | `{path}` |" for name, path in result.artifacts.items())
        yield from ("", f"Made by `agent-sft experiment run {self._resolved.source}`; the same command goes on or says")
        yield "what there is already."


def _remove_inputs(folder: Path) -> None:
    """Leave no trace of an experiment that was refused before anything was made of it."""
    ours = {PIPELINE, ROWS, ".lock"}
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - ours:
        return
    for name in ours:
        (folder / name).unlink(missing_ok=True)
    for place in (folder, folder.parent):
        if not any(place.iterdir()):
            place.rmdir()


def _as_in_files(text: str) -> str:
    """Return what was said of options by the names that they have in an experiment file."""
    for flag, key in FLAGS.items():
        text = text.replace(flag, key)
    return text
