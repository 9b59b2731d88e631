"""Where a training runs: this machine, a Ray cluster, or Slurm; the questions, and what the script says of it."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent_sft.config.slurm import read_slurm
from agent_sft.errors import UserError, nearest
from agent_sft.runs.devices import visible_gpus
from agent_sft.wizard.questions import Answers, Choice, Question

HERE, RAY, SLURM = "here", "ray", "slurm"
AUTO = "auto"
_ADDRESS = re.compile(r"[^\s:/]+:\d{1,5}")


@dataclass(frozen=True)
class Place:
    """Where a training runs."""

    kind: str
    gpus: int
    """That it takes of all machines together."""
    options: tuple[str, ...]
    """What its command says of it, each as it stands in a script."""


def place_questions() -> Iterator[Question]:
    """Yield the questions where a training runs, and what it takes there."""
    yield Question("where", "Where does it run?", _where, choices=_choices, default=lambda _: HERE)
    yield Question(
        "ray_address",
        "The cluster's address? HOST:PORT, as `ray start` said, or auto for the one that runs on this machine:",
        _address,
        default=lambda _: AUTO,
        asked=lambda answers: answers["where"] == RAY,
    )
    yield Question(
        "gpus",
        "How many GPUs of a machine does it take there?",
        _gpus,
        default=lambda _: "1",
        asked=lambda answers: answers["where"] == RAY,
    )
    yield Question(
        "slurm",
        "What is asked of Slurm? Such as partition=gpu time=4:00:00 gpus_per_node=1 (docs/slurm.md):",
        _slurm,
        default=lambda _: "gpus_per_node=1",
        asked=lambda answers: answers["where"] == SLURM,
    )


def place_of(answers: Answers) -> Place:
    """Return where the training runs by the answers."""
    where = answers["where"]
    if where == RAY:
        address = () if answers["ray_address"] == AUTO else (f"--ray-address {answers['ray_address']}",)
        gpus = (f"--gpus {answers['gpus']}",) if answers["gpus"] else ()
        return Place(RAY, answers["gpus"], ("--executor ray", *address, *gpus, "--wait"))
    if where == SLURM:
        asked = read_slurm(answers["slurm"])
        of_each = int(asked.gpus_per_node.rpartition(":")[2]) if asked.gpus_per_node else 0
        words = tuple(f"--slurm {shlex.quote(word)}" for word in answers["slurm"])
        return Place(SLURM, of_each * asked.nodes, ("--executor slurm", *words, "--wait"))
    return Place(HERE, len(visible_gpus()), ())


def _choices(_: Answers) -> list[Choice]:
    choices = [Choice(HERE, "on this machine"), Choice(RAY, "on a Ray cluster that runs already")]
    if shutil.which("sbatch") is not None:
        choices.append(Choice(SLURM, "on machines that Slurm gives"))
    return choices


def _where(_: Answers, given: Any) -> str:
    if given == SLURM and shutil.which("sbatch") is None:
        raise UserError("there is no sbatch here", where="slurm", fix="run the wizard where jobs are submitted")
    if given not in (HERE, RAY, SLURM):
        fix = nearest(str(given), (HERE, RAY, SLURM)) or f"give {HERE}, {RAY} or {SLURM}"
        raise UserError(f"'{given}' is no answer", fix=fix)
    return str(given)


def _address(_: Answers, given: Any) -> str:
    text = str(given).strip()
    if text != AUTO and not _ADDRESS.fullmatch(text):
        raise UserError(
            f"'{text}' is no address of a Ray cluster", fix="give HOST:PORT, such as 10.0.0.1:6379, or auto"
        )
    return text


def _gpus(_: Answers, given: Any) -> int:
    text = str(given).strip()
    if not text.isdigit():
        raise UserError(f"'{text}' is no number of GPUs", fix="0 where the cluster has none")
    return int(text)


def _slurm(_: Answers, given: Any) -> tuple[str, ...]:
    words = tuple(map(str, given)) if isinstance(given, list) else tuple(shlex.split(str(given)))
    read_slurm(words)
    return words
