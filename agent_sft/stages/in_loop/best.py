"""Which step was best by a metric, and for how long there has been no better one."""

from __future__ import annotations

from collections.abc import Sequence

from agent_sft.config.benchmark import BenchmarkConfig
from agent_sft.engines.llamafactory.arguments import EVAL_LOSS as EVAL
from agent_sft.errors import UserError, nearest
from agent_sft.stages.callbacks.contract import Measured

__all__ = ["EVAL", "Best", "metric_key"]


def metric_key(name: str, benchmarks: Sequence[BenchmarkConfig], *, where: str) -> str:
    """Return the whole name of a metric of a benchmark that is scored while it trains.

    Args:
        name: `NAME`, `NAME/METRIC` or `SPLIT/NAME/METRIC`.
        benchmarks: of the training.
        where: it was named, for errors.

    Raises:
        UserError: there is no such metric, with the nearest name.
    """
    known: dict[str, str] = {}
    for one in benchmarks:
        if one.run_every:
            known[one.name] = one.score_key
            for metric in one.metrics:
                known[f"{one.name}/{metric}"] = known[one.key(metric)] = one.key(metric)
    plain = name.removeprefix("eval_")
    if plain not in known:
        once = next((one for one in benchmarks if plain.split("/")[0] == one.name), None)
        if once is not None and not once.run_every:
            what = f"'{once.name}' is scored once, when the training has ended"
            raise UserError(what, where=where, fix="give it run_every (--benchmark-every)")
        hint = nearest(plain, known) or (f"there are {', '.join(sorted(known))}" if known else None)
        fix = hint or "give a benchmark that is scored while it trains, or eval_loss"
        raise UserError(f"there is no metric '{name}'", where=where, fix=fix)
    return known[plain]


class Best:
    """The best step so far."""

    def __init__(self, key: str, *, higher: bool = True, threshold: float = 0.0) -> None:
        """Begin without one.

        Args:
            key: the metric's whole name.
            higher: whether a higher one is better.
            threshold: by more than this a better one must be better.
        """
        self.key = key
        self._sign = 1.0 if higher else -1.0
        self._threshold = threshold
        self.found: tuple[int, float] | None = None
        """The step and its score; the model before the first step is none that training made."""
        self.since = 0
        """Scores after it that were no better."""

    def add(self, measured: Measured) -> bool:
        """Take a measurement in; return whether it has the metric."""
        score = measured.metrics.get(self.key)
        if score is None or measured.step == 0:
            return False
        if self.found is None or self._sign * (score - self.found[1]) > self._threshold:
            self.found, self.since = (measured.step, score), 0
        else:
            self.since += 1
        return True
