"""`early_stopping`: ends a training that gets no better."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from agent_sft.stages.callbacks.contract import EVAL_LOSS, Begin, Callback, Measured
from agent_sft.stages.callbacks.registry import register_callback
from agent_sft.stages.in_loop.best import EVAL, Best, metric_key


@register_callback("early_stopping")
class EarlyStopping(Callback):
    """Ends the training when a metric has not risen above its best for so many scorings."""

    class Config(BaseModel, extra="forbid"):
        """Its parameters."""

        metric: str | None = None
        """`NAME`, `NAME/METRIC` or `SPLIT/NAME/METRIC` of a benchmark, or `eval_loss`; what chooses the model, or the
        first benchmark that is scored while it trains, when not given."""
        patience: int = Field(3, gt=0)
        """Scorings in a row that are no better."""
        threshold: float = Field(0.0, ge=0)
        """By more than this a score must be better to count."""
        mode: Literal["auto", "max", "min"] = "auto"
        """Whether higher is better; losses are better lower."""

    def on_begin(self, begin: Begin) -> None:
        """Find the metric, and where it stands."""
        config = self.config
        metric = config.metric or begin.best_by or next((one.name for one in begin.benchmarks if one.run_every), EVAL)
        self._key = EVAL_LOSS if metric == EVAL else metric_key(metric, begin.benchmarks, where="early_stopping")
        higher = config.mode == "max" or (config.mode == "auto" and self._key != EVAL_LOSS)
        self._best = Best(self._key, higher=higher, threshold=config.threshold)
        for measured in begin.history:
            self._best.add(measured)

    def on_metrics(self, measured: Measured) -> str | None:
        """Count how often it got no better."""
        if not self._best.add(measured) or self._best.since < self.config.patience:
            return None
        step, score = self._best.found or (0, 0.0)
        return f"{self._key} is no better than the {score:.3f} of step {step} for {self._best.since} scorings"
