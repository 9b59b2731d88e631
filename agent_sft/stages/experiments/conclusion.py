"""What an experiment found: its hypothesis against the numbers."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.config.benchmark import BenchmarkConfig
from agent_sft.config.experiment import ExperimentConfig
from agent_sft.errors import UserError
from agent_sft.evals.comparison import compare
from agent_sft.files import read_json
from agent_sft.stages.in_loop.loop import RECORD

EXPECTED = re.compile(r"(?P<metric>[\w.-]+(?:/[\w.@^-]+){1,2})\s*(?P<sign>>=|<=|≥|≤|>|<)\s*(?P<value>\d*\.?\d+)")
SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "≥": operator.ge,
    "<=": operator.le,
    "≤": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Score:
    """A benchmark's score at a step."""

    step: int
    value: float
    low: float | None
    high: float | None
    tasks: int
    folder: Path
    """Of the evaluation."""

    def __str__(self) -> str:
        """With its interval."""
        interval = f" [{self.low:.3f}, {self.high:.3f}]" if self.low is not None and self.high is not None else ""
        return f"{self.value:.3f}{interval}"


def conclusion(config: ExperimentConfig, run_dir: Path) -> list[str]:
    """Return what came out, a finding a line; what the hypothesis expects is held against it first."""
    record = read_json(run_dir / RECORD) or {}
    lines = list(_expectations(config, run_dir, record))
    for benchmark in config.all_benchmarks:
        lines.append(_finding(benchmark, scores(benchmark, benchmark.metrics[0], run_dir, record), record))
    if config.expected and not any(EXPECTED.finditer(config.expected)):
        lines.append("the hypothesis names no metric and number to hold against it (such as `val/pass@1 >= 0.8`)")
    if record.get("why"):
        lines.append(f"the training ended at step {record['step']}: {record['why']}")
    if not config.all_benchmarks:
        lines.append("nothing was scored: there are no benchmarks")
    return lines


def scores(benchmark: BenchmarkConfig, metric: str, run_dir: Path, record: dict[str, Any]) -> list[Score]:
    """Return the scores of a benchmark by rising step, as the run's record has them."""
    found = {}
    key = benchmark.key(metric)
    for line in record.get("scores", ()):
        metrics, folder = line["metrics"], line["folders"].get(benchmark.name)
        if key in metrics and folder is not None:
            found[line["step"]] = Score(
                step=line["step"],
                value=metrics[key],
                low=metrics.get(f"{key}_low"),
                high=metrics.get(f"{key}_high"),
                tasks=int(metrics.get(benchmark.key("tasks"), 0)),
                folder=run_dir / folder,
            )
    return [found[step] for step in sorted(found)]


def chosen(found: Sequence[Score], record: dict[str, Any]) -> Score | None:
    """Return the score of the model that the training ended with."""
    best = record.get("best")
    if best:
        return next((one for one in found if one.step == best[0]), None)
    return found[-1] if found else None


def _expectations(config: ExperimentConfig, run_dir: Path, record: dict[str, Any]) -> Iterator[str]:
    for match in EXPECTED.finditer(config.expected or ""):
        said = match[0].strip()
        benchmark, metric = _named(match["metric"], config)
        if benchmark is None:
            yield f"{said}: cannot be told: no benchmark has this metric"
            continue
        score = chosen(scores(benchmark, metric, run_dir, record), record)
        if score is None:
            yield f"{said}: cannot be told: {benchmark.name} has no score"
            continue
        holds, wanted = SIGNS[match["sign"]], float(match["value"])
        ends = [end for end in (score.low, score.high) if end is not None]
        if not holds(score.value, wanted):
            sure = all(not holds(end, wanted) for end in ends)
            verdict = "does not hold" if sure else "does not hold here; another sample of tasks may say otherwise"
        else:
            sure = bool(ends) and all(holds(end, wanted) for end in ends)
            verdict = "holds" if sure else "holds here; another sample of tasks may say otherwise"
        yield f"{said}: {verdict}: {score}, {score.tasks} tasks"


def _named(name: str, config: ExperimentConfig) -> tuple[BenchmarkConfig | None, str]:
    for benchmark in config.all_benchmarks:
        for metric in benchmark.metrics:
            if name in (f"{benchmark.name}/{metric}", benchmark.key(metric)):
                return benchmark, metric
    return None, name


def _finding(benchmark: BenchmarkConfig, found: Sequence[Score], record: dict[str, Any]) -> str:
    key, last = benchmark.score_key, chosen(found, record)
    if last is None:
        return f"{key} has no score"
    first = found[0]
    at = f"at step {last.step}" if record.get("best") else f"after {last.step} steps"
    if first.step == last.step:
        return f"{key} is {last} {at}, {last.tasks} tasks"
    began = "before training" if first.step == 0 else f"at step {first.step}"
    try:
        difference = compare([first.folder, last.folder], measure=benchmark.metrics[0]).differences[0]
    except UserError as error:
        return f"{key} was {first} {began} and is {last} {at}; they cannot be compared: {error.what}"
    told = {"better": "rose", "worse": "fell", "cannot tell": "cannot be told to have changed"}[difference.verdict]
    return f"{key} {told}: {first} {began}, {last} {at}; p = {difference.p:.2g} on the same {last.tasks} tasks"
