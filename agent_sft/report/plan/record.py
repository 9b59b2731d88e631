"""What is known of a plan, phase by phase; each record is a JSON file in the plan's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from agent_sft.errors import UserError
from agent_sft.files import write_atomic

INSPECTION, PLAN, SCOREBOARD, JUDGEMENT, DEPLOYMENT, STATE = (
    *("inspection.json", "plan.json", "scoreboard.json", "judgement.json", "deployment.json", "state.json"),
)

Struct = TypeVar("Struct", bound=msgspec.Struct)

Standing = Literal[
    "running", "waiting for approval", "waiting for promotion", "refused", "over budget", "stopped", "failed", "done"
]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the data."""

    name: str
    """`all training`, `search`, `choosing` or `judging`."""
    file: str
    """Relative to the plan's folder."""
    rows: int
    groups: int


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the data, and how it is parted."""

    sources: dict[str, str]
    """Digests by name."""
    form: str
    """What the rows were read as."""
    pipeline: str
    rows: dict[str, int]
    """By fate: read, kept, changed, left out, rejected."""
    steps: list[str]
    """What each transform did."""
    rejected: int
    first_rejects: list[str]
    turns: int
    roles: dict[str, int]
    tools: dict[str, int]
    duplicates: int
    grouped_by: str | None
    """Where rows name their group; None where those that ask the same are one."""
    groups: int
    leaks: int
    """Conversations left out of training because what judges asks the same."""
    checkable: str | None
    """What in the answers a program can check; None where nothing."""
    checked: int
    """Conversations of which this can be checked."""
    why_not_checkable: str | None
    own_eval_data: bool
    """Whether the conversations that choose and judge were named by the user, or held out by the pipeline."""
    parts: list[Part]

    def part(self, name: str) -> Part:
        """Return a part by its name."""
        return next(one for one in self.parts if one.name == name)


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A model that candidates start from, and the data as it reads them."""

    name: str
    """As the user named it."""
    model: str
    """What trainings name: the same, or the folder of one that was made here."""
    template: str
    tokens: int
    """Of all conversations to train on, one pass, after trimming."""
    loss_tokens: int
    longest: int
    median: int
    longer: int
    """Conversations longer than the cutoff."""
    examples: int
    """That one pass trains on."""
    parameters: int | None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Settings to try."""

    number: int
    """From 1, as `plan promote --candidate` takes it."""
    name: str
    model: str
    """As the user named it."""
    rank: int | None
    """Of the LoRA adapter; None where all weights are trained."""
    rate: float
    epochs: float
    batch: int
    """Conversations of an optimizer step, over all devices."""
    steps: int
    """Optimizer steps of the search."""
    warm_up: int = 0
    """Of these, while the learning rate rises."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a phase takes."""

    phase: str
    seconds: float
    """From its beginning to its end, with what runs side by side."""
    device_hours: float
    """Of GPUs; of this machine where there is none."""
    detail: str = ""


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is going to be done, and what it is expected to take."""

    name: str
    created: str
    fingerprint: str
    """Of all that the plan depends on: an approval is of this plan alone."""
    way: str
    judged_by: str
    """How models are judged, in words."""
    evaluator: str | None
    """The name of the evaluator that decides; None for the loss."""
    models: list[ModelFacts]
    candidates: list[Candidate]
    final_epochs: float
    skip_final: bool
    deploy: bool
    at_once: int
    """Candidates that are trained at the same time, by the machine's shares."""
    search: str
    """`grid`, or `asha` with its rungs, in words."""
    costs: list[Cost]
    measured: bool
    """Whether a probe corrected the costs."""
    memory: list[str]
    notes: list[str]
    """What must be known to decide."""
    machine: str
    on_gpus: bool
    gpu_price: float | None
    budget_hours: float | None
    """Of devices; None where there is no budget."""

    @property
    def device_hours(self) -> float:
        """Everything together."""
        return sum(one.device_hours for one in self.costs)

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return sum(one.seconds for one in self.costs)


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate on the scoreboard."""

    candidate: Candidate
    state: str
    """`done`, `stopped` where it fell behind, or `failed`."""
    reason: str | None
    loss: float | None
    """Mean over the held-out conversations, in the board's unit."""
    score: float | None
    """By the evaluator that decides, where it is not the loss."""
    low: float | None
    high: float | None
    """The 95 % interval of the score; of the loss where that decides."""
    against: str
    """How it stands against the winner, at the same step: `the best`, `a tie`, `worse`, or nothing."""
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None
    """Corrected for the number of candidates."""
    seconds: float
    device_hours: float
    steps: int = 0
    """Optimizer steps that it was trained."""


class Scoreboard(msgspec.Struct, frozen=True, kw_only=True):
    """The candidates, compared."""

    measure: str
    """What decides: `loss`, `pass^1` or `score`."""
    unit: str
    """Of the loss."""
    samples: int
    """Conversations, or tasks, that decide."""
    winner: int
    """The number of the candidate with the best mean."""
    tie: bool
    """Whether others cannot be told from it."""
    sentences: list[str]
    lines: list[Line]

    def line(self, number: int) -> Line | None:
        """Return a candidate's line."""
        return next((one for one in self.lines if one.candidate.number == number), None)


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A model on the conversations that judge."""

    name: str
    loss: float | None
    score: float | None
    low: float | None
    high: float | None
    folders: dict[str, str]
    """Evaluations by evaluator, relative to the plan's folder."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The final model beside the one that it was made of."""

    model: str
    """The final model's folder."""
    candidate: int
    trained: bool
    """Whether it was trained on all data; else it is the winning candidate."""
    measure: str
    unit: str
    samples: int
    models: list[Judged]
    sentences: list[str]
    train_loss: float | None
    steps: int


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """Where the final model is served."""

    name: str
    model: str
    at: str
    lines: list[str]
    """How it is called."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How a plan stands; told from, never believed."""

    name: str
    phase: str
    standing: Standing
    reason: str | None
    updated: str


def read_record(folder: Path, name: str, kind: type[Struct]) -> Struct | None:
    """Return a record; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / name
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise UserError(f"is damaged: {error}", where=str(path), fix="delete it and run the plan again") from error


def write_record(folder: Path, name: str, record: Any) -> Path:
    """Write a record in one step; return its file."""
    path = folder / name
    write_atomic(path, msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n")
    return path
