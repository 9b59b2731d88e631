"""The first phase: the data is processed once, looked at, and parted into what trains, what chooses and what judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from agent_sft import __version__
from agent_sft.config.planning import DATA_OPTIONS, PlanConfig
from agent_sft.data.choosing import choose_pipeline, shipped_pipelines
from agent_sft.data.parting import Groups, group_rows, prompt_digest
from agent_sft.data.pipeline import Pipeline, load_pipeline
from agent_sft.data.processing import ProcessReport, process_data
from agent_sft.data.statistics import Statistics
from agent_sft.data.turns import Unusable
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import atomic_writer, digest_file
from agent_sft.planning.folder import PlanFolder
from agent_sft.report.plan.record import INSPECTION, Inspection, Part, read_record, write_record
from agent_sft.stages.drafting import Examined, examine, write_benchmark
from agent_sft.stages.inputs import Input, digests, names, resolve_inputs, rewards_of
from agent_sft.stages.looking import looked_at
from agent_sft.stages.outside import open_outside
from agent_sft.stages.stage import Stage

TRAINING, SEARCH, CHOOSING, JUDGING = "training", "search", "choosing", "judging"
FEWEST_TRAINED, FEWEST_HELD_OUT = 8, 2
MOST_HELD_OUT = 500
TEMPLATE = "qwen"
"""One that carries everything: what cannot be used with it cannot be used at all."""
SHOWN = 5
SUBSAMPLE_SEED = 42
"""Of the conversations that candidates are tried on, where there are more."""

Say = Callable[[str], None]


def held_out(rows: int) -> int:
    """Return how many of so many conversations are held out: a fifth up to 50, then a tenth, at most 500."""
    return min(MOST_HELD_OUT, max(min(50, math.ceil(rows / 5)), round(rows / 10)))


@dataclass(frozen=True)
class _Parts:
    """Numbers of rows: of the data, or of the evaluation data where that is another file."""

    training: list[int]
    search: list[int]
    choosing: list[int]
    judging: list[int]
    leaks: int


class Inspector:
    """Carries the first phase out."""

    def __init__(self, config: PlanConfig, folder: PlanFolder, say: Say) -> None:
        """Resolve what is named; nothing is read yet.

        Raises:
            UserError: there is no such data.
        """
        self._config, self._folder, self._say = config, folder, say
        self._inputs = resolve_inputs([config.data], config.sft.get("trajectory_dataset", ()))
        self._eval = resolve_inputs([config.eval_data]) if config.eval_data is not None else ()

    def stage(self) -> Stage:
        """Return the stage and all that its outcome depends on."""
        config, process = self._config, self._config.sft.get("process")
        paths = shipped_pipelines() if process is None else [Path(process), *load_pipeline(Path(process)).files]
        return Stage(
            "inspect",
            {
                "data": digests(self._inputs),
                "evaluation data": digests(self._eval),
                "options": {name: str(config.sft[name]) for name in DATA_OPTIONS if name in config.sft},
                "pipeline": {str(path): digest_file(path) for path in paths},
                "grouped by": config.group_by,
                "search rows": config.search_rows,
                "seed": config.seed,
                "draft": config.draft,
                "agent-sft": __version__,
            },
        )

    def inspect(self) -> Inspection:
        """Return what is in the data, looked at now where that is not done yet.

        Raises:
            UserError: the data cannot be used, or is too small.
            WorkFailed: its answers cannot be checked, and an evaluator of them is asked for.
        """
        stage = self.stage()
        if stage.finished(self._folder.run) is None:
            self._folder.run.set_aside([self._folder.path / "evaluators"], stage.why(self._folder.run))
            stage.perform(self._folder.run, self._make)
        found = read_record(self._folder.path, INSPECTION, Inspection)
        assert found is not None
        return found

    def _make(self) -> tuple[list[Path], dict[str, Any]]:
        report, pipeline = self._processed(self._inputs, "all")
        evaluated = report.eval_output
        if self._eval:
            evaluated = self._processed(self._eval, "evaluation")[0].output
        looked = _look(report.output)
        groups = self._groups(report.output)
        parts, their = self._parted(report.output, groups, looked.usable, evaluated)
        self._refuse_small(parts, own=evaluated is not None)
        sources = {TRAINING: report.output, SEARCH: report.output}
        sources |= dict.fromkeys((CHOOSING, JUDGING), evaluated or report.output)
        files = {name: self._write(name, sources[name], getattr(parts, name)) for name in sources}
        statistics = looked.statistics
        checkable, checked, why_not = self._checkable(files)
        of_eval = their or groups
        inspection = Inspection(
            sources={**digests(self._inputs), **digests(self._eval)},
            form=report.form,
            pipeline=pipeline,
            rows=dict(report.rows),
            steps=[
                f"{name}: {', '.join(f'{count:,} {what}' for what, count in counts.items()) or 'nothing to do'}"
                for name, counts in report.transforms.items()
            ],
            rejected=report.rejected + len(groups.of) - len(looked.usable),
            first_rejects=[
                *(f"row {origin.row}: {reason}" for origin, reason in report.first_rejects),
                *looked.rejects,
            ],
            turns=statistics.turns,
            roles=dict(statistics.roles.most_common()),
            tools=dict(statistics.tools.most_common()),
            duplicates=statistics.duplicates,
            grouped_by=groups.place,
            groups=groups.count,
            leaks=parts.leaks,
            checkable=checkable,
            checked=checked,
            why_not_checkable=why_not,
            own_eval_data=evaluated is not None,
            parts=[
                Part(
                    name=name,
                    file=str(path.relative_to(self._folder.path)),
                    rows=len(rows := getattr(parts, name)),
                    groups=len({(groups if name in (TRAINING, SEARCH) else of_eval).of[row] for row in rows}),
                )
                for name, path in files.items()
            ],
        )
        return [*files.values(), write_record(self._folder.path, INSPECTION, inspection)], {}

    def _processed(self, inputs: tuple[Input, ...], name: str) -> tuple[ProcessReport, str]:
        sft = self._config.sft
        if sft.get("skip_process"):
            path, pipeline = "none, as it is processed already", Pipeline((), takes_raw_rows=False)
        else:
            chosen = Path(sft["process"]) if "process" in sft else None
            if chosen is None:
                choice = choose_pipeline(names(inputs), form=sft.get("format"), opener=open_outside)
                chosen = choice.path
                self._say(f"inspect: {chosen.name}, because {choice.reason} (--process FILE takes another pipeline)")
            path, pipeline = str(chosen), load_pipeline(chosen)
        report = process_data(
            names(inputs),
            pipeline,
            output=self._folder.data / name / "rows.jsonl",
            form=sft.get("format"),
            rewards=rewards_of(inputs, sft.get("min_reward")),
            opener=open_outside,
            described={"pipeline": path},
        )
        for line in report.lines()[:1]:
            self._say(f"inspect: {line}")
        return report, path

    def _groups(self, path: Path) -> Groups:
        try:
            return group_rows(_rows(path), self._config.group_by)
        except Unusable as unusable:
            raise UserError(str(unusable), where="--group-by", fix="name a place that all rows have") from unusable

    def _parted(
        self, path: Path, groups: Groups, everything: list[int], evaluated: Path | None
    ) -> tuple[_Parts, Groups | None]:
        """Return the parts, and the groups of the evaluation data where that is another file."""
        seed = self._config.seed
        if evaluated is not None:
            theirs, all_of_them = self._groups(evaluated), _look(evaluated).usable
            judging = theirs.choose(all_of_them, len(all_of_them) // 2, seed)
            chosen = set(judging)
            choosing = [row for row in all_of_them if row not in chosen]
            asked = {prompt_digest(row) for row in _rows(evaluated)}
            leaking = {number for number, row in enumerate(_rows(path)) if prompt_digest(row) in asked}
            training = [row for row in everything if row not in leaking]
            search = self._subsample(groups, training)
            return _Parts(training, search, choosing, judging, len(leaking)), theirs
        judging = groups.choose(everything, held_out(len(everything)), seed)
        out = set(judging)
        training = [row for row in everything if row not in out]
        among = self._subsample(groups, training)
        choosing = groups.choose(among, held_out(len(among)), seed + 1)
        chosen = set(choosing)
        return _Parts(training, [row for row in among if row not in chosen], choosing, judging, 0), None

    def _subsample(self, groups: Groups, rows: list[int]) -> list[int]:
        if len(rows) <= self._config.search_rows:
            return rows
        return groups.choose(rows, self._config.search_rows, SUBSAMPLE_SEED)

    def _refuse_small(self, parts: _Parts, *, own: bool) -> None:
        """Refuse data of which nothing could be learned, or by which nothing could be told.

        Raises:
            UserError: saying what is too small, and for what.
        """
        whole = f"{self._config.data} ({len(parts.training) + (0 if own else len(parts.judging)):,} conversations)"
        if len(parts.search) < FEWEST_TRAINED:
            what = f"is too small: {len(parts.search)} conversations would be left to train candidates on"
            raise UserError(what, where=whole, fix=f"at least {FEWEST_TRAINED} are needed: give more data")
        for name, rows, comparison in (
            (CHOOSING, parts.choosing, "to compare the candidates by"),
            (JUDGING, parts.judging, "to compare the final model with the untrained one by"),
        ):
            if len(rows) < FEWEST_HELD_OUT:
                where = self._config.eval_data if own and self._config.eval_data else whole
                what = f"is too small: {len(rows)} conversations would be left {comparison}"
                fix = f"at least {FEWEST_HELD_OUT} are needed, in groups of their own: give more data"
                raise UserError(what, where=where, fix=fix if name == CHOOSING else f"{fix}, or --eval-data")

    def _write(self, name: str, source: Path, rows: list[int]) -> Path:
        wanted, path = set(rows), self._folder.part(name)
        with source.open("rb") as lines, atomic_writer(path) as stream:
            for number, line in enumerate(lines):
                if number in wanted:
                    stream.write(line)
        return path

    def _checkable(self, files: dict[str, Path]) -> tuple[str | None, int, str | None]:
        """Find out whether answers can be checked by a program; make the benchmarks where that is asked for."""
        looked = [str(files[name]) for name in (CHOOSING, JUDGING, SEARCH)]
        try:
            found = examine(looked)
        except WorkFailed as failure:
            if self._config.draft:
                raise
            return None, 0, str(failure).splitlines()[0]
        if self._config.draft:
            for part in (CHOOSING, JUDGING):
                self._draft(found, part, str(files[part]))
        return found.kind.title, len(found.examples), None

    def _draft(self, found: Examined, part: str, file: str) -> None:
        tasks = [one for one in found.unique if one.conversation.origin.file == file]
        if len(tasks) < FEWEST_HELD_OUT:
            what = f"{len(tasks)} of the conversations held out can be checked: too few to compare by"
            raise UserError(what, where="--draft", fix="give more data, or leave --draft out")
        write_benchmark(self._folder.evaluator(part), found, tasks, {})


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        yield from map(orjson.loads, lines)


@dataclass(frozen=True)
class _Looked:
    """What can be trained on of processed rows."""

    usable: list[int]
    """Numbers of rows, from 0."""
    statistics: Statistics
    rejects: list[str]
    """The first of the others, with their reasons."""


def _look(path: Path) -> _Looked:
    statistics = Statistics()
    with looked_at(str(path), model=None, template=TEMPLATE) as look:
        for row in look.rows():
            statistics.add(row)
        rejects = [f"{place}: {reason}" for place, reason in islice(look.rejects(), SHOWN)]
        return _Looked(sorted({row - 1 for row in look.origins.rows}), statistics, rejects)
