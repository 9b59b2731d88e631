"""The results of an evaluation: one line for each task and trial, beside what was asked for.

A folder holds `evaluation.json` (an `Evaluation`) and `results.jsonl` (a `Trial` a line). Lines are only ever added;
of several lines for the same task and trial the last one counts, so that a trial that is run again replaces the
first. A line that was cut off when its writer was killed is no result.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from agent_sft.errors import UserError
from agent_sft.files import unwritable, write_atomic

EVALUATION = "evaluation.json"
RESULTS = "results.jsonl"

SUCCESS = 1 - 1e-6
"""A trial succeeded when its score is at least this (tau2's own tolerance)."""

Place = tuple[str, int]
"""A task and the number of a trial of it."""


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attempt at one task."""

    task: str
    trial: int
    """From 0."""
    score: float | None
    """From 0 to 1; None where the infrastructure failed, which is never counted as a wrong answer."""
    ended: str
    """Why it ended: `user_stop`, `agent_stop`, `max_messages`, `token_limit`, `time_limit`, `too_many_errors`, `done`,
    `error`."""
    error: str | None = None
    """What failed of the infrastructure, in one line; there is no score then."""
    family: str | None = None
    """The group of tasks that this one belongs to."""
    turns: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    """Those of the calls that were refused: unknown tool, wrong arguments, not readable."""
    violations: int | None = None
    """How often the policy was violated; None where that is not measured."""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    transcript: str | None = None
    """Path of the conversation, relative to the folder, with an optional `#fragment`."""
    detail: dict[str, Any] = {}
    """Facts of the evaluator's own, such as what was wrong with the answer."""

    def __post_init__(self) -> None:
        """Refuse what cannot be: decoding turns this into an error with its place."""
        if (self.score is None) == (self.error is None):
            raise ValueError("a trial has either a 'score' or an 'error'")
        if self.score is not None and not 0 <= self.score <= 1:
            raise ValueError("'score' is not between 0 and 1")
        if self.trial < 0:
            raise ValueError("'trial' counts from 0")
        if self.tool_errors > self.tool_calls:
            raise ValueError("'tool_errors' is more than 'tool_calls'")

    @property
    def place(self) -> Place:
        """Return which task and trial this is."""
        return self.task, self.trial

    @property
    def succeeded(self) -> bool:
        """Return whether the score is a full one."""
        return self.score is not None and self.score >= SUCCESS


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked for, of whom, and how."""

    evaluator: str
    """The kind of evaluator."""
    benchmark: str
    model: str
    model_digest: str | None
    """By which the weights are told from others of the same name."""
    trials: int
    """Trials of each task."""
    tasks: list[str]
    """All tasks that were asked for: one without a line in the results is unfinished."""
    limits: dict[str, Any]
    """What bounds a trial: messages, tokens, seconds."""
    settings: dict[str, Any]
    user_model: str | None
    """Who plays the customer; None where nobody does."""
    floor: float | None
    """The score of an agent that does nothing; None where it was not measured."""
    versions: dict[str, str]
    started: str
    finished: str | None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.trials < 1:
            raise ValueError("'trials' is not at least 1")
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("'tasks' names a task twice")

    @property
    def places(self) -> list[Place]:
        """Return every task and trial that was asked for, in order."""
        return [(task, trial) for task in self.tasks for trial in range(self.trials)]


def read_results(folder: str | Path) -> tuple[Evaluation, list[Trial]]:
    """Return what was asked for and the trials there are, one for each task and trial, in the order of the tasks.

    Raises:
        UserError: the folder holds no evaluation, a file is damaged (with its line), or a result belongs to no task
            and trial that was asked for.
    """
    folder = Path(folder)
    evaluation = _read_evaluation(folder / EVALUATION)
    found = read_trials(folder)
    place_of = {place: number for number, place in enumerate(evaluation.places)}
    for place in found:
        if place not in place_of:
            what = f"has a result of the task '{place[0]}', trial {place[1]}, which {EVALUATION} does not ask for"
            raise UserError(what, where=str(folder / RESULTS), fix="keep each evaluation in a folder of its own")
    return evaluation, sorted(found.values(), key=lambda trial: place_of[trial.place])


def read_trials(folder: Path) -> dict[Place, Trial]:
    """Return the trials that a folder holds, the last one for each task and trial.

    Raises:
        UserError: a line is no trial.
    """
    path = folder / RESULTS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    decoder = msgspec.json.Decoder(Trial)
    found: dict[Place, Trial] = {}
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            trial = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if number == len(lines):
                break  # The writer was killed in the middle of it: the trial is still to be run.
            raise _unreadable(path, error, f", line {number}") from error
        found[trial.place] = trial
    return found


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write what was asked for, in one step.

    Raises:
        UserError: the place cannot be written.
    """
    write_atomic(folder / EVALUATION, msgspec.json.format(msgspec.json.encode(evaluation)) + b"\n")


def write_trial(folder: Path, trial: Trial) -> None:
    """Add a trial to the results, on the disk when this returns. One process at a time writes to a folder.

    Raises:
        UserError: the place cannot be written.
    """
    path = folder / RESULTS
    line = msgspec.json.encode(trial) + b"\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as stream:
            _end_last_line(stream.fileno())
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise unwritable(path, error) from error


def missing(evaluation: Evaluation, trials: Iterable[Trial]) -> list[Place]:
    """Return the tasks and trials that were asked for and have no line yet, in order."""
    there = {trial.place for trial in trials}
    return [place for place in evaluation.places if place not in there]


def failed(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that say nothing about the model because the infrastructure failed."""
    return [trial for trial in trials if trial.score is None]


def _end_last_line(descriptor: int) -> None:
    """End the last line where only that is missing; cut off what a killed writer left behind the last whole line."""
    size = os.fstat(descriptor).st_size
    tail = b""
    while len(tail) < size and b"\n" not in tail:
        begin = max(0, size - len(tail) - 65536)
        tail = os.pread(descriptor, size - len(tail) - begin, begin) + tail
    tail = tail[tail.rfind(b"\n") + 1 :]
    if not tail:
        return
    try:
        msgspec.json.decode(tail, type=Trial)
    except (msgspec.DecodeError, UnicodeDecodeError):
        os.ftruncate(descriptor, size - len(tail))
    else:
        os.write(descriptor, b"\n")


def _read_evaluation(path: Path) -> Evaluation:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evaluation)
    except (FileNotFoundError, NotADirectoryError) as error:
        fix = f"name a folder that an evaluation was written to: it holds {EVALUATION} and {RESULTS}"
        raise UserError("no evaluation is here", where=str(path.parent), fix=fix) from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(path, error, "") from error


def _unreadable(path: Path, error: Exception, line: str) -> UserError:
    message = str(error)
    return UserError(f"{message[:1].lower()}{message[1:]}", where=f"{path}{line}", fix="mend the file or restore it")
