"""Conversations of an evaluation, read from where its trials say that they are, whichever evaluator wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agent_sft.data.conversation import Conversation, Origin
from agent_sft.data.eval_logs import read_samples
from agent_sft.data.formats import inspect, openai, tau2
from agent_sft.data.turns import Unusable
from agent_sft.engines.lines import LineFollower
from agent_sft.errors import UserError
from agent_sft.evals.results import Place, Trial
from agent_sft.files import read_json


def read_conversations(folder: Path, trials: Iterable[Trial]) -> dict[Place, Conversation]:
    """Return the conversations of trials; those that are not there, or cannot be read, are left out.

    Args:
        folder: of the evaluation.
        trials: those wanted.
    """
    files: dict[str, dict[str, Place]] = {}
    for trial in trials:
        if trial.transcript is not None:
            path, _, fragment = trial.transcript.partition("#")
            files.setdefault(path, {})[fragment] = trial.place
    found: dict[Place, Conversation] = {}
    for path, wanted in files.items():
        try:
            for fragment, row in _rows(folder / path, wanted):
                if (conversation := _read(row)) is not None:
                    found[wanted[fragment]] = conversation
        except (UserError, OSError):
            continue  # A log that is being written, or was moved away: the numbers do not depend on it.
    return found


def _rows(path: Path, wanted: dict[str, Place]) -> Iterator[tuple[str, Any]]:
    """Yield the fragments and the rows that a file has of those wanted, each as its format's reader takes it."""
    if path.suffix == ".eval":
        yield from read_samples(path, wanted)
    elif path.suffix == ".jsonl":
        for line in LineFollower(path).new_lines():
            fragment = f"{line.get('task')}/{line.get('trial')}"
            if fragment in wanted:
                yield fragment, line
    elif path.suffix == ".json":
        content = read_json(path)
        shared = {key: value for key, value in content.items() if key != "simulations"} if content else {}
        for simulation in content.get("simulations", ()) if content else ():
            if str(simulation.get("id")) in wanted:
                yield str(simulation["id"]), {**shared, "simulation": simulation}


def _read(row: Any) -> Conversation | None:
    origin = Origin(file="", row=1)
    try:
        for form in (inspect, tau2, openai):
            if form.recognise(row):
                conversation: Conversation = form.read(row, origin)
                return conversation
    except Unusable:
        return None
    return None
