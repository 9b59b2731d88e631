"""What a job asks of Slurm: the keys of `--slurm`, and of a YAML file of them, each with its default."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from agent_sft.config.yaml_files import read_mapping, validated
from agent_sft.errors import UserError

FLAG = "--slurm"
SEVERAL = ("sbatch", "setup")
"""Keys that hold lists; on the command line each is given as often as there are entries."""
_TIME = re.compile(r"\d+(-\d+(:\d+){0,2})?|\d+(:\d+){1,2}")
_GPUS = re.compile(r"([A-Za-z][\w.-]*:)?[1-9]\d*")


class SlurmConfig(BaseModel):
    """The allocation that a command runs in."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=False)

    name: str | None = Field(None, pattern=r"^[\w.+-]+$")
    """Of the job, its script and its log; that of the run, sweep or plan when not given."""

    partition: str | None = None
    """The cluster's default when not given; so with the other keys that have no default."""

    account: str | None = None

    qos: str | None = None

    time: str | None = None
    """Limit, as sbatch takes it: `90` (minutes), `4:00:00`, `2-12:00:00`. In a file in quotes: YAML reads 4:00:00 as a
    number."""

    nodes: int = Field(1, gt=0)
    """Machines."""

    gpus_per_node: str | None = None
    """`8`, or `a100:8`."""

    cpus_per_task: int | None = Field(None, gt=0)
    """Processors on each machine."""

    mem: str | None = None
    """Memory on each machine, such as `200G`; `0` is all of it."""

    constraint: str | None = None
    """Features that the machines must have."""

    notice: int = Field(300, gt=0, lt=65536)
    """Seconds before the time limit at which what runs is asked to save and end."""

    requeue: bool = True
    """Let the job wait for its next turn, and go on, when its time is up or its machine fails."""

    at_once: int | None = Field(None, gt=0)
    """Tasks of an array that run at the same time."""

    setup: tuple[str, ...] = ()
    """Lines of shell that come first, such as `module load cuda/12.4`."""

    sbatch: tuple[str, ...] = ()
    """Further options of sbatch, each as after `#SBATCH`: `--exclusive`."""

    @field_validator("time", mode="before")
    @classmethod
    def _time(cls, given: Any) -> Any:
        if isinstance(given, int | float):
            raise ValueError("put the time in quotes, such as '4:00:00': YAML reads it as a number")
        if isinstance(given, str) and not _TIME.fullmatch(given):
            raise ValueError(
                f"'{given}' is not a time of Slurm: MINUTES, HOURS:MINUTES:SECONDS, or DAYS-HOURS:MINUTES:SECONDS"
            )
        return given

    @field_validator("gpus_per_node", mode="before")
    @classmethod
    def _gpus(cls, given: Any) -> Any:
        text = str(given) if isinstance(given, int) and not isinstance(given, bool) else given
        if isinstance(text, str) and not _GPUS.fullmatch(text):
            raise ValueError(f"'{given}' is not a number of GPUs: such as 8, or a100:8")
        return text

    @field_validator("mem", mode="before")
    @classmethod
    def _memory(cls, given: Any) -> Any:
        return str(given) if isinstance(given, int) and not isinstance(given, bool) else given

    @field_validator("setup", "sbatch", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("sbatch")
    @classmethod
    def _options(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for line in given:
            if not re.fullmatch(r"--?[a-zA-Z][^\n]*", line):
                raise ValueError(f"'{line}' is not an option of sbatch: such as --exclusive, or --reservation=NAME")
        return given

    @field_validator("partition", "account", "qos", "constraint", "mem")
    @classmethod
    def _in_a_line(cls, given: str | None) -> str | None:
        if given is not None and (not given or re.search(r"\s", given)):
            raise ValueError(f"'{given}' holds spaces, or nothing")
        return given


def read_slurm(given: Sequence[str], known: Mapping[str, Any] | None = None) -> SlurmConfig:
    """Return what `--slurm` asks for, given any number of times: KEY=VALUE, or a YAML file with the keys.

    Later ones override earlier ones, and flags the files, wherever they stand.

    Args:
        given: what was given.
        known: keys that it overrides.

    Raises:
        UserError: a key is unknown, a value wrong, a file missing.
    """
    asked: dict[str, Any] = dict(known or {})
    source = FLAG
    for text in given:
        if "=" not in text:
            if Path(text).suffix not in (".yaml", ".yml"):
                what = f"'{text}' is neither KEY=VALUE nor a YAML file"
                raise UserError(what, where=FLAG, fix=f"such as {FLAG} partition=gpu, or {FLAG} cluster.yaml")
            content = read_mapping(Path(text), f"what to ask of Slurm, such as partition: gpu (see {FLAG})")
            validated(text, content, SlurmConfig)
            asked |= content
    flags: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if equals and key in SEVERAL:
            flags.setdefault(key, []).append(value)
        elif equals:
            flags[key] = value
    return validated(source, asked | flags, SlurmConfig)
