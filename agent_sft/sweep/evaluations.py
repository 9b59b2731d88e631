"""The evaluations of a sweep: what each evaluator is asked, of which model, and where its results go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.config.evaluation import EvaluationConfig, read_evaluation_config
from agent_sft.config.sweep import EvaluatorConfig, SweepConfig
from agent_sft.config.sweep_checks import check_name, evaluation_options
from agent_sft.errors import UserError
from agent_sft.stages.evaluators.customer import is_address
from agent_sft.stages.evaluators.registry import make_evaluator
from agent_sft.sweep.patterns import plain

EVALUATIONS = "evaluations"


@dataclass(frozen=True)
class SweepEvaluator:
    """One evaluator of a sweep."""

    name: str
    config: EvaluatorConfig
    serves: bool
    """Whether it talks to a served model."""

    def asked(self, model: str, out: Path, serve: dict[str, Any]) -> EvaluationConfig:
        """Return what it is asked of a model.

        Args:
            model: what is scored.
            out: where the results go.
            serve: options of the server, over which its own are laid.
        """
        options = evaluation_options(self.config)
        found = read_evaluation_config(self.config.config, {**options, "model": model, "out": out})
        served = self.serves and not is_address(model)
        return found.model_copy(update={"serve": {**serve, **found.serve} if served else {}})


def evaluators_of(config: SweepConfig, source: str) -> tuple[SweepEvaluator, ...]:
    """Return the evaluators of a sweep, each with a name of its own.

    Args:
        config: the sweep.
        source: where its keys come from, as messages say it.

    Raises:
        UserError: a kind or one of its parameters is unknown, or two have the same name.
    """
    found: list[SweepEvaluator] = []
    for number, evaluator in enumerate(config.evaluators):
        where = f"{source}, evaluators.{number}"
        asked = SweepEvaluator("", evaluator, serves=False).asked("-", Path("-"), {})
        name = evaluator.name or plain(Path(asked.task.partition("@")[0]).stem)
        check_name(name, where)
        if name in {known.name for known in found}:
            raise UserError(f"two evaluators are called '{name}'", where=where, fix="give one of them another `name`")
        serves = make_evaluator(asked.evaluator, asked.params, where=where).serves
        found.append(SweepEvaluator(name, evaluator, serves))
    return tuple(found)


def evaluation_folder(out: Path, variant: str, checkpoint: str, evaluator: str) -> Path:
    """Return the folder of an evaluation."""
    return out / EVALUATIONS / variant / checkpoint / evaluator
