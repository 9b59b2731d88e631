"""The loss and the token accuracy on held-out conversations, by LLaMA-Factory itself."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, Field

from agent_sft.data.preparing import prepare_dataset
from agent_sft.data.turns import ANSWERS
from agent_sft.engines.environments import engine_python, engine_versions
from agent_sft.engines.llamafactory.evaluation import (
    evaluating_command,
    evaluation_settings,
    read_figures,
    read_losses,
)
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS
from agent_sft.engines.llamafactory.failures import remedy
from agent_sft.engines.llamafactory.launch import SHARED, Launch, training_environment
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.results import Trial
from agent_sft.files import digest_file, write_atomic
from agent_sft.runs.devices import visible_gpus
from agent_sft.runs.processes import Child
from agent_sft.stages.evaluators.contract import Benchmark, EvalRun, Evaluator, Work
from agent_sft.stages.evaluators.registry import register_evaluator
from agent_sft.stages.outside import open_outside
from agent_sft.stages.plan import settings_yaml
from agent_sft.stages.serving_plan import local_model

DATASET = "held_out"
CUTOFF = 12000
"""Tokens of an example, for a model that nothing is known of; as in training."""
POLL_SECONDS = 0.2
ALONE = Launch(processes=1, nodes=1, node_rank=0, master_addr="127.0.0.1", master_port=None)


@register_evaluator("loss")
class LossEvaluator(Evaluator):
    """Computes the loss and token accuracy on held-out conversations by LLaMA-Factory; the score is the accuracy."""

    serves = False
    has_floor = False

    class Config(BaseModel, extra="forbid"):
        """Parameters of the evaluator."""

        template: str | None = None
        """LLaMA-Factory's chat template; that of the training when not given."""
        cutoff_len: int | None = Field(None, gt=0)
        """Tokens of an example; as in training when not given."""

    def __init__(self, **params: Any) -> None:
        super().__init__(**params)
        self.config = self.Config(**params)

    def check(self, run: EvalRun) -> None:
        """Check the file, and that nothing is asked for that a loss does not have."""
        if run.trials != 1:
            raise UserError("a loss is the same every time", where="--trials", fix="leave it out")
        if run.user_model not in (None, "scripted") or run.limit is not None or run.task_ids:
            raise UserError("takes neither a customer nor a choice of tasks", where="--evaluator loss")
        self.benchmark(run)

    def benchmark(self, run: EvalRun) -> Benchmark:
        """Return the file of conversations as one task."""
        path = Path(run.task)
        if not path.is_file():
            raise UserError("no such file", where=f"--task {path}", fix="name a file of held-out conversations")
        versions = engine_versions(engine_python("train"), DISTRIBUTIONS)
        return Benchmark(
            name=path.stem,
            tasks=(path.stem,),
            versions={name: version for name, version in versions.items() if version},
            settings={"data": digest_file(path), **self.config.model_dump()},
        )

    def limits(self, run: EvalRun) -> dict[str, Any]:
        """Return nothing: there is no conversation to bound."""
        return {}

    def settings(self, benchmark: Benchmark, run: EvalRun) -> dict[str, Any]:
        """Return what the figures depend on: nothing is sampled."""
        return dict(benchmark.settings)

    def score(self, model: ServedModel, work: Work, run: EvalRun) -> None:
        """Prepare the conversations as for training and evaluate the model on them."""
        assert model.path is not None
        files = local_model(str(model.path))
        template = self.config.template or files.template
        if template is None:
            raise UserError(
                "nothing tells which of LLaMA-Factory's templates it was trained with",
                where=str(model.path),
                fix="--param template=NAME names it",
            )
        data = work.attempt / "data"
        report = prepare_dataset(
            Path(run.task),
            name=DATASET,
            folder=data,
            template=template,
            opener=open_outside,
            capability=run.capability,
        )
        if report.rows_rejected:
            raise UserError(
                f"{report.rows_rejected:,} of {report.rows_read:,} rows cannot be used: see {report.rejects_path}",
                where=run.task,
                fix="mend them, or leave them out",
            )
        output = work.attempt / "output"
        settings = evaluation_settings(
            files,
            template=template,
            cutoff_len=self.config.cutoff_len or int(files.settings.get("cutoff_len") or CUTOFF),
            data=data.absolute(),
            dataset=DATASET,
            output=output.absolute(),
        )
        yaml = work.attempt / "evaluate.yaml"
        write_atomic(yaml, settings_yaml(settings))
        begun = time.monotonic()
        log = self._run(yaml, work, run)
        figures = read_figures(output)
        if figures is None:
            raise WorkFailed("LLaMA-Factory ended without figures", log=log)
        loss, accuracy, examples = figures
        if not math.isfinite(loss):
            raise UserError(
                f"its loss is {loss}: the numbers in it have grown out of bounds",
                where=str(model.path),
                fix="train it with a lower learning rate",
            )
        if examples != report.examples:
            raise WorkFailed(f"LLaMA-Factory evaluated {examples} examples, {report.examples} were prepared", log=log)
        detail: dict[str, Any] = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "examples": examples}
        if (each := read_losses(work.attempt, examples)) is not None:
            detail |= {"losses": each[0], "tokens": each[1], "characters": _answered(report.data_path)}
        work.recorder.add(
            Trial(
                task=work.pending[0][0],
                trial=0,
                score=accuracy,
                ended="done",
                seconds=time.monotonic() - begun,
                detail=detail,
            )
        )

    def _run(self, yaml: Path, work: Work, run: EvalRun) -> Path:
        python = engine_python("train")
        log = work.attempt / "llamafactory.log"
        command = evaluating_command(python, yaml.absolute(), work.attempt.absolute())
        gpus = len(visible_gpus())
        child = Child(
            command if gpus else SHARED.forked(command),
            log=log,
            env=training_environment(python, ALONE, gpus=gpus),
            hold=[work.lock],
        )
        try:
            while (status := child.poll()) is None:
                run.stop.leave()
                time.sleep(POLL_SECONDS)
        finally:
            child.kill()
        if status != 0:
            raise WorkFailed(f"the evaluation failed (exit code {status})", log=log, fix=remedy(log, status))
        return log


def _answered(data: Path) -> list[int]:
    """Return the characters of the agent's turns of each example, by which models of different tokens are compared."""
    with data.open("rb") as lines:
        return [
            sum(len(turn["value"]) for turn in row["conversations"] if turn["from"] in ANSWERS)
            for row in map(orjson.loads, lines)
        ]
