"""`local_logger`: what is measured, and what the model answered, into files of the run's directory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, Field

from agent_sft.config.benchmark import BenchmarkConfig
from agent_sft.files import read_lines, unwritable, write_atomic
from agent_sft.stages.callbacks.contract import Begin, Callback, End, Measured, Prediction
from agent_sft.stages.callbacks.registry import register_callback

METRICS, PREDICTIONS, SUMMARY = "metrics.jsonl", "predictions", "summary.md"
TRAINERS = ("train", "eval")
"""What the trainer measures; all else are scores."""


@register_callback("local_logger")
class LocalLogger(Callback):
    """Writes `metrics.jsonl`, `predictions/NAME.jsonl` and, at the end, `summary.md`."""

    decides = False

    class Config(BaseModel, extra="forbid"):
        """Its parameters."""

        print_every: int = Field(0, ge=0)
        """Show a line after every so many steps; 0: none."""

    def on_begin(self, begin: Begin) -> None:
        """Leave in the files what belongs to the steps that stay: nothing stands there twice after a resume."""
        self._begin = begin
        self._scores: dict[tuple[str, int], Measured] = {}
        write_atomic(begin.folder / METRICS, _encoded(begin.history))
        for measured in begin.history:
            self._remember(measured)
        for benchmark in begin.benchmarks:
            path = self._predictions(benchmark)
            kept = [line for line in read_lines(path) if int(line.get("step", -1)) <= begin.step]
            if path.exists():
                write_atomic(path, _encoded(kept if begin.step else ()))

    def on_metrics(self, measured: Measured) -> None:
        """Add a line."""
        self._remember(measured)
        _append(self._begin.folder / METRICS, (measured,))
        every = self.config.print_every
        if every and measured.step % every == 0 and measured.split in TRAINERS:  # scores are said as they come
            said = ", ".join(f"{name} {value:.4g}" for name, value in measured.metrics.items())
            self._begin.say(f"step {measured.step}: {said}")

    def on_predictions(self, benchmark: BenchmarkConfig, predictions: Sequence[Prediction]) -> None:
        """Add the answers."""
        _append(self._predictions(benchmark), predictions)

    def on_end(self, end: End) -> None:
        """Write the summary."""
        write_atomic(self._begin.folder / SUMMARY, "\n".join(self._summary(end)) + "\n")

    def _remember(self, measured: Measured) -> None:
        if measured.split not in TRAINERS:
            self._scores[next(iter(measured.metrics), ""), measured.step] = measured

    def _predictions(self, benchmark: BenchmarkConfig) -> Path:
        return self._begin.folder / PREDICTIONS / f"{benchmark.name}.jsonl"

    def _summary(self, end: End) -> Iterable[str]:
        yield f"# {self._begin.name}"
        yield ""
        yield f"Status: {end.status} after {end.step} steps" + (f" ({end.why})" if end.why else "")
        if end.best is not None:
            yield f"Model: the weights of step {end.best[0]}, the best by {self._begin.best_by} ({end.best[1]:.4f})"
        for benchmark in self._begin.benchmarks:
            yield from ("", f"## {benchmark.split}/{benchmark.name}", "")
            of_it = [
                one for one in self._scores.values() if any(key.startswith(_head(benchmark)) for key in one.metrics)
            ]
            if not of_it:
                yield "No score."
                continue
            yield f"| step | {' | '.join(benchmark.metrics)} | 95 % interval | tasks |"
            yield f"|---|{'---|' * len(benchmark.metrics)}---|---|"
            for measured in sorted(of_it, key=lambda one: one.step):
                yield _row(benchmark, measured)


def _row(benchmark: BenchmarkConfig, measured: Measured) -> str:
    metrics = measured.metrics
    values = [f"{metrics[key]:.3f}" if (key := benchmark.key(name)) in metrics else "–" for name in benchmark.metrics]
    low, high = (metrics.get(f"{benchmark.score_key}_{end}") for end in ("low", "high"))
    interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else "–"
    tasks = int(metrics.get(f"{_head(benchmark)}tasks", 0))
    return f"| {measured.step} | {' | '.join(values)} | {interval} | {tasks} |"


def _head(benchmark: BenchmarkConfig) -> str:
    return benchmark.key("")


def _encoded(lines: Iterable[Any]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def _append(path: Path, lines: Iterable[Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.write(_encoded(lines))
    except OSError as error:
        raise unwritable(path, error) from error
