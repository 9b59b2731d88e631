"""Data to look at: prepared into a folder that is gone afterwards, with the model that gives it tokens."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from agent_sft.config.tiny import is_made_here, read_tiny
from agent_sft.data.dialects import NAMED
from agent_sft.data.preparing import prepare_dataset
from agent_sft.data.report import PrepareReport
from agent_sft.data.trail import read_trail
from agent_sft.engines.environments import engine_python, engine_versions, given_python, is_made
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS, load_facts
from agent_sft.engines.llamafactory.templates import check_template, check_template_name
from agent_sft.engines.llamafactory.tiny import make_tiny_model
from agent_sft.errors import UserError
from agent_sft.stages.outside import open_outside

NAME = "data"
"""What the data is called while it is looked at."""
SEED = 42


@dataclass
class Origins:
    """Where the examples come from: four bytes for each of them, whatever the data's size."""

    rows: array[int] = field(default_factory=lambda: array("I"))
    """Of each example, the number of its row."""
    sources: list[tuple[int, str]] = field(default_factory=list)
    """The first example of each source, and the source."""

    @classmethod
    def of(cls, trail: Path) -> Origins:
        """Return those of the examples that a preparation left a trail of."""
        origins = cls()
        for entry in read_trail(trail):
            if not origins.sources or origins.sources[-1][1] != entry["file"]:
                origins.sources.append((len(origins.rows), entry["file"]))
            origins.rows.extend([entry["row"]] * len(entry["made"]))
        return origins

    def label(self, example: int) -> str:
        """Return the row of an example, counted from 1, as people are told of it."""
        row = f"row {self.rows[example - 1]:,}"
        if len(self.sources) < 2:
            return row
        return f"{next(name for first, name in reversed(self.sources) if first < example)}, {row}"


@dataclass(frozen=True)
class Look:
    """Prepared data, and what to encode them by."""

    report: PrepareReport
    folder: Path
    origins: Origins
    settings: dict[str, Any]
    """LLaMA-Factory's settings that decide on tokens; without a model where none was named."""
    python: Path | None
    """The train environment's; None where no model was named."""

    def rejects(self) -> Iterator[tuple[str, str]]:
        """Yield the rows that cannot be trained on, and why."""
        if not self.report.has_rejects:
            return
        with self.report.rejects_path.open("rb") as lines:
            for reject in map(orjson.loads, lines):
                if not reject.get("left_out"):
                    place = f"{reject['source']}, " if "source" in reject else ""
                    yield f"{place}row {reject['row']:,}", reject["reason"]

    def examples_of(self, row: int) -> list[int]:
        """Return the examples, counted from 1, that were made of a row.

        Raises:
            UserError: there is no such row, or it is not trained on.
        """
        found = [number for number, origin in enumerate(self.origins.rows, start=1) if origin == row]
        if found:
            return found
        where = f"{self.report.source}, row {row}"
        label = f"row {row:,}"
        reason = next((reason for place, reason in self.rejects() if place.endswith(label)), None)
        if reason is not None:
            raise UserError(f"is not trained on: {reason}", where=where)
        raise UserError(f"there are {self.report.rows_read:,} rows", where=where)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the examples."""
        with self.report.data_path.open("rb") as lines:
            yield from map(orjson.loads, lines)


@contextmanager
def looked_at(
    source: str | Sequence[str],
    *,
    model: str | None,
    template: str,
    form: str | None = None,
    settings: dict[str, Any] | None = None,
    force_template: bool = False,
) -> Iterator[Look]:
    """Prepare data for looking at them.

    Args:
        source: anything that can be prepared, or several.
        model: hub name or folder of the model whose tokenizer counts; `tiny`, or a YAML file that says
            what it is like, makes one; None does without.
        template: the chat template.
        form: the format of the rows; recognised from the first ones when not given.
        settings: further settings of LLaMA-Factory, `cutoff_len` among them.
        force_template: take the template also where it does not fit the model.

    Raises:
        NothingUsable: no row can be trained on.
        UserError: the source cannot be read, or the template does not fit.
        WorkFailed: the train environment could not be made.
    """
    python = engine_python("train") if model is not None else None
    if python is None:
        check_template_known(template)
    elif not force_template:
        _check_template(python, str(model), template)
    with tempfile.TemporaryDirectory(prefix="agent-sft-") as scratch:
        folder = Path(scratch) / "data"
        trail = Path(scratch) / "trail.jsonl"
        with trail.open("wb") as stream:
            report = prepare_dataset(
                source, name=NAME, folder=folder, template=template, form=form, opener=open_outside, trail=stream
            )
        wanted = {**(settings or {}), "template": template}
        if python is not None:
            wanted["model_name_or_path"] = model
            if is_made_here(str(model)):
                base = Path(scratch) / "base"
                make_tiny_model(python, report.data_path, base, seed=SEED, like=read_tiny(str(model)))
                wanted["model_name_or_path"] = str(base)
        yield Look(report, folder, Origins.of(trail), wanted, python)


def check_template_known(template: str) -> None:
    """Refuse a template that LLaMA-Factory does not have, where it is there to ask; it is not set up for that.

    Raises:
        UserError: with the nearest one that it has.
    """
    if template in NAMED or not (given_python("train") or is_made("train")):
        return
    python = engine_python("train")
    versions = engine_versions(python, DISTRIBUTIONS)
    if versions["llamafactory"] is not None:
        check_template_name(template, load_facts(python, versions))


def _check_template(python: Path, model: str, template: str) -> None:
    if is_made_here(model):
        read_tiny(model)
        if template != "qwen":
            raise UserError("the tiny model is made for the template 'qwen'", where="--template")
        return
    if model.startswith(("/", "./", "../", "~")) and not Path(model).is_dir():
        raise UserError("no such folder", where=f"--model {model}", fix="name the model's folder, or its hub name")
    facts = load_facts(python, engine_versions(python, DISTRIBUTIONS))
    check_template_name(template, facts)
    check_template(template, model, facts)
