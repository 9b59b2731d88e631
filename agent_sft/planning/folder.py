"""A plan's folder: where everything of it lies, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from agent_sft.config.planning import PlanConfig
from agent_sft.config.yaml_files import read_mapping, validated
from agent_sft.errors import UserError, nearest
from agent_sft.files import write_atomic
from agent_sft.report.plan.record import STATE, Standing, State, read_record, write_record
from agent_sft.runs.directory import RunDirectory, now
from agent_sft.runs.lock import is_held

PLANS = Path("plans")
"""Where plans go that do not say where."""
CONFIG = "plan.yaml"
"""What a plan was asked to do, with every default; by it the plan goes on from its name alone."""
LOCK = ".lock"
BUSY = "it goes on by itself; `agent-sft plan status` shows how far it is"


@dataclass(frozen=True)
class PlanFolder:
    """The folder of one plan."""

    path: Path

    @property
    def run(self) -> RunDirectory:
        """Its stamps and journal."""
        return RunDirectory(self.path)

    @property
    def data(self) -> Path:
        """The processed data and its parts."""
        return self.path / "data"

    def part(self, name: str) -> Path:
        """Return the file of a part of the data: `training`, `search`, `choosing`, `judging`."""
        return self.data / f"{name}.jsonl"

    def evaluator(self, part: str) -> Path:
        """Return the folder of the benchmark that is made of a part of the data."""
        return self.path / "evaluators" / part

    def model(self, name: str) -> Path:
        """Return the folder of a model that is made on the spot."""
        return self.path / "models" / name

    @property
    def probe(self) -> Path:
        """The sweep that measures a few steps of each model."""
        return self.path / "probe"

    @property
    def candidates(self) -> Path:
        """The sweep of the candidates."""
        return self.path / "candidates"

    @property
    def final(self) -> Path:
        """The sweep of the final run beside the untrained model."""
        return self.path / "final"

    def keep_config(self, config: PlanConfig) -> None:
        """Write down what is asked for."""
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_atomic(self.path / CONFIG, text)

    def config(self) -> PlanConfig:
        """Return what the plan was asked to do.

        Raises:
            UserError: it is damaged.
        """
        path = self.path / CONFIG
        return validated(path, read_mapping(path, "the options of a plan"), PlanConfig)

    def stands(self, phase: str, standing: Standing, reason: str | None = None) -> None:
        """Write down how the plan stands."""
        state = State(name=self.path.name, phase=phase, standing=standing, reason=reason, updated=now())
        write_record(self.path, STATE, state)
        self.run.record("plan is", phase=phase, standing=standing, reason=reason)

    def state(self) -> State | None:
        """Return how the plan stands; one that was killed while it worked has stopped."""
        found = read_record(self.path, STATE, State)
        if found is not None and found.standing == "running" and not is_held(self.path / LOCK):
            return State(name=found.name, phase=found.phase, standing="stopped", reason="killed", updated=found.updated)
        return found


def find_plan(given: str) -> PlanFolder:
    """Return a plan by its name or folder.

    Raises:
        UserError: there is none.
    """
    for path in (Path(given), PLANS / given):
        if (path / CONFIG).is_file():
            return PlanFolder(path)
    known = [one.path.name for one in all_plans()]
    fix = nearest(given, known) or (f"there are: {', '.join(known)}" if known else "`agent-sft plan DATA` makes one")
    raise UserError(f"there is no plan '{given}'", where=str(PLANS), fix=fix)


def all_plans() -> list[PlanFolder]:
    """Return the plans in the usual place, by name."""
    return [PlanFolder(path.parent) for path in sorted(PLANS.glob(f"*/{CONFIG}"))]
