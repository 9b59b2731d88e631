"""An evaluation from its options to its results: checked, served, run, gone on with, and judged by its outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from agent_sft.config.evaluation import EvaluationConfig, read_evaluation_config
from agent_sft.config.secrets import environment_with_secrets
from agent_sft.config.serve import ServeRequest
from agent_sft.data.capabilities import resolve_capability
from agent_sft.engines.model_files import ModelFiles
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed, nearest, wrong_value
from agent_sft.evals.results import EVALUATION, RESULTS, Evaluation, Place, Trial, failed, missing, read_results
from agent_sft.files import write_atomic
from agent_sft.runs.directory import RunDirectory, check_is_directory
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.evaluators.contract import EvalRun, Evaluator
from agent_sft.stages.evaluators.customer import is_address, model_at
from agent_sft.stages.evaluators.registry import make_evaluator
from agent_sft.stages.reporting import EvaluationReporter, Quiet
from agent_sft.stages.serving import Server, serve
from agent_sft.stages.serving_plan import local_model

CONFIG = "eval.yaml"
"""The options of the evaluation, in its folder."""
MODEL_KEY = "AGENT_SFT_API_KEY"
"""Holds the key of the address that `--model` names."""
SERVE_OPTIONS = "--serve port=N, --serve tools=false, --serve 'set={KEY: VALUE}'"
"""How the options of `agent-sft serve` that its messages speak of are given here."""
OURS = (EVALUATION, RESULTS, CONFIG, "attempts", "server", "tau2")
"""What an evaluation leaves in its folder, its journal apart."""


@dataclass(frozen=True)
class Outcome:
    """What stands in the folder when an evaluation ended."""

    folder: Path
    evaluation: Evaluation
    trials: tuple[Trial, ...]

    @property
    def failed(self) -> list[Trial]:
        """Trials that say nothing about the model, because the infrastructure failed."""
        return failed(self.trials)

    @property
    def missing(self) -> int:
        """Trials that did not run."""
        return len(missing(self.evaluation, self.trials))


def evaluate(
    config: EvaluationConfig,
    *,
    reporter: EvaluationReporter,
    stop: StopSignal,
    only_failed: bool = False,
    fresh: bool = False,
) -> Outcome:
    """Run an evaluation, going on where an earlier run of the same one ended; its model is served where it must be.

    Args:
        config: what to evaluate, on what, and how.
        reporter: is told how it goes.
        stop: signals that end it.
        only_failed: run again only the trials whose infrastructure failed.
        fresh: set what the folder holds aside and start over.

    Raises:
        UserError: the request is wrong; said before anything starts, as far as it can be known then.
        WorkFailed: trials could not be run; those that were stay.
        Interrupted: the user stopped it.
    """
    evaluator, run = _asked(config, reporter, stop, only_failed)
    known = unserved(local_model(config.model)) if Path(config.model).is_dir() else None
    if not _prepared(evaluator, run, config, known, only_failed=only_failed, fresh=fresh):
        return outcome(config.out)
    with _model(config, evaluator, run, stop) as (model, why_dead):
        return _evaluated(evaluator, replace(run, why_dead=why_dead), config, model)


def evaluate_on(
    server: Server | None,
    model: ServedModel,
    config: EvaluationConfig,
    *,
    reporter: EvaluationReporter,
    stop: StopSignal,
    only_failed: bool = False,
    fresh: bool = False,
) -> Outcome:
    """Run an evaluation as `evaluate` does, of a model that is served already and goes on being served afterwards.

    The same folder can be gone on with by either of them: an evaluation is known by its model's weights, wherever
    they are served. That a server has exchanged its weights or loaded adapters makes no difference.

    Args:
        server: where the model is served, asked for its end when requests fail; None for somebody else's server.
        model: one of those that are served there, as `Server.model`, `load_adapter` or `reload` gave it.
        config: as for `evaluate`; `model` names what is served, so that a later run can serve it by itself, and
            `serve` is left alone.
        reporter: is told how it goes.
        stop: signals that end it.
        only_failed: run again only the trials whose infrastructure failed.
        fresh: set what the folder holds aside and start over.

    Raises:
        UserError: the request is wrong, or `config.model` is a folder with other weights than those that are served.
        WorkFailed: trials could not be run; those that were stay.
        Interrupted: the user stopped it.
    """
    evaluator, run = _asked(config, reporter, stop, only_failed)
    if Path(config.model).is_dir() and local_model(config.model).digest() != model.digest:
        raise UserError(
            f"these weights are not the ones that are served as '{model.name}' ({model.path or model.url})",
            where=config.model,
            fix="load or serve them first",
        )
    if model.capability != (run.capability.digest if run.capability is not None else None):
        asked = run.capability.reference if run.capability is not None else "none"
        what = f"another capability is served than the one that is asked for ({asked})"
        raise UserError(what, where=config.model, fix="serve it with `--capability`")
    if not _prepared(evaluator, run, config, model, only_failed=only_failed, fresh=fresh):
        return outcome(config.out)
    if server is not None:
        run = replace(run, why_dead=lambda: _why_dead(server))
    return _evaluated(evaluator, run, config, model)


def pending(config: EvaluationConfig) -> list[Place] | None:
    """Return the trials that `evaluate` would run now: none where the evaluation is finished.

    Starts no server, and an engine only to learn what a benchmark consists of that it never described before; a
    tenth of a second otherwise.

    Returns:
        None where a server alone can tell whose weights it has: an address, or a name on the hub.

    Raises:
        UserError: the request is wrong, or the folder holds another evaluation.
    """
    if not Path(config.model).is_dir():
        return None
    evaluator, run = _asked(config, Quiet(), StopSignal(), only_failed=False)
    return evaluator.pending(unserved(local_model(config.model)), config.out, run)


def check_request(config: EvaluationConfig) -> None:
    """Find what is wrong with a request before there is a model to evaluate.

    Raises:
        UserError: saying what, and what to do.
        WorkFailed: the customer's server does not answer, or no environment can be made.
    """
    evaluator, run = _asked(config, Quiet(), StopSignal(), only_failed=False)
    evaluator.check(run)


def shown_commands(config: EvaluationConfig) -> list[list[str]]:
    """Return the command lines of the engine that an evaluation will run, starting nothing; empty where it has none."""
    evaluator, run = _asked(config, Quiet(), StopSignal(), only_failed=False)
    return evaluator.shown(Path(config.model).name, config.out, run)


def outcome(folder: Path) -> Outcome:
    """Return what stands in the folder of an evaluation."""
    evaluation, trials = read_results(folder)
    return Outcome(folder, evaluation, tuple(trials))


def check_complete(found: Outcome) -> None:
    """Refuse to take an evaluation for done that is not.

    Raises:
        WorkFailed: trials could not be run; with the first reason and what to do.
    """
    lost = len(found.failed) + found.missing
    if not lost:
        return
    reason = next((f": {trial.error}" for trial in found.failed), "")
    raise WorkFailed(
        f"{lost} of {len(found.evaluation.places)} trials have no score{reason}",
        fix=f"agent-sft eval retry {found.folder} runs those whose infrastructure failed again; the same command all"
        " that have no score",
    )


def set_aside(folder: Path) -> None:
    """Move an earlier evaluation out of the way, inside its folder."""
    if (folder / EVALUATION).exists() or (folder / RESULTS).exists():
        RunDirectory(folder).set_aside([folder / name for name in OURS], "--fresh")


def kept_options(folder: Path) -> EvaluationConfig:
    """Return the options that an evaluation was started with.

    Raises:
        UserError: the folder holds no evaluation that was started by a command.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise UserError(
            "no evaluation is here", where=str(folder), fix=f"name a folder that `agent-sft eval run` made ({CONFIG})"
        )
    return read_evaluation_config(path, {"out": folder})


def _asked(
    config: EvaluationConfig, reporter: EvaluationReporter, stop: StopSignal, only_failed: bool
) -> tuple[Evaluator, EvalRun]:
    """Return the evaluator and what it is asked to do."""
    check_is_directory(config.out)
    evaluator = make_evaluator(config.evaluator, config.params, where="--evaluator")
    run = EvalRun(
        task=config.task,
        reporter=reporter,
        stop=stop,
        environment=environment_with_secrets(),
        trials=config.trials,
        limit=config.limit,
        task_ids=config.task_ids,
        user_model=config.user_model,
        concurrency=config.concurrency,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        seed=config.seed,
        limits=config.limits,
        capability=resolve_capability(config.capability) if config.capability is not None else None,
        only=frozenset(trial.place for trial in failed(read_results(config.out)[1])) if only_failed else None,
    )
    return evaluator, run


def _prepared(
    evaluator: Evaluator,
    run: EvalRun,
    config: EvaluationConfig,
    known: ServedModel | None,
    *,
    only_failed: bool,
    fresh: bool,
) -> bool:
    """Check the request; return whether there is anything to run.

    Args:
        evaluator: of the request.
        run: the request.
        config: the same, as the user gave it.
        known: the model, where it is known before it is served.
        only_failed: whether no other trials are wanted than those whose infrastructure failed.
        fresh: whether to set what the folder holds aside; done once the request is known to be right.
    """
    if only_failed and not run.only:
        run.reporter.say("no trial failed: nothing to run again")
        return False
    # Before the check, which asks the customer's server: what is finished needs it no more.
    begun = known is not None and not fresh and (config.out / EVALUATION).is_file()
    if known is not None and begun and not evaluator.pending(known, config.out, run):
        evaluator.finish(config.out)
        run.reporter.say(f"finished already: {config.out}")
        return False
    evaluator.check(run)
    if fresh:
        set_aside(config.out)
    return True


def _evaluated(evaluator: Evaluator, run: EvalRun, config: EvaluationConfig, model: ServedModel) -> Outcome:
    evaluator.pending(model, config.out, run)  # refuses another evaluation's folder before it is written to
    options = config.model_dump(mode="json")
    write_atomic(config.out / CONFIG, yaml.safe_dump(options, sort_keys=False, allow_unicode=True))
    evaluator.run(model, config.out, run)
    return outcome(config.out)


def unserved(model: ModelFiles) -> ServedModel:
    """Return a model in a folder as the evaluators take it that need no server; nothing answers at its address."""
    return ServedModel(
        name=model.folder.name,
        url="",
        api_key="",
        backend="address",
        template=model.template,
        tools=False,
        max_model_len=None,
        path=model.folder,
        digest=model.digest(),
    )


def serve_request(model: str, options: dict[str, Any]) -> ServeRequest:
    """Return how a model is to be served.

    Args:
        model: a run, a folder or a hub name.
        options: of `agent-sft serve`, by their names with underscores.

    Raises:
        UserError: an option is unknown or wrong.
    """
    try:
        return ServeRequest.model_validate({"model": model, **options})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        known = list(ServeRequest.model_fields)
        unknown = first["type"] == "extra_forbidden"
        hint = nearest(name, known) if unknown else ""
        message = "there is no such option" if unknown else wrong_value(first)
        raise UserError(message, where=f"serve.{name}", fix=hint or None) from error


@contextmanager
def _model(
    config: EvaluationConfig, evaluator: Evaluator, run: EvalRun, stop: StopSignal
) -> Iterator[tuple[ServedModel, Callable[[], str | None]]]:
    """Yield the model and what tells why its server is gone."""
    if is_address(config.model):
        if not evaluator.serves:
            raise UserError(f"'{config.evaluator}' wants a model's folder, not an address", where="--model")
        if config.serve:
            raise UserError("a model at an address is served already", where="--model", fix="leave the options out")
        key = run.environment.get(MODEL_KEY, "")
        yield model_at(config.model, key, where="--model", key_variable=MODEL_KEY), lambda: None
    elif not evaluator.serves:
        yield unserved(local_model(config.model)), lambda: None
    else:
        request = serve_request(config.model, config.serve)
        with ExitStack() as stack:
            try:
                server = stack.enter_context(
                    serve(request, place=config.out / "server", stop=stop, reporter=run.reporter)
                )
            except UserError as error:
                if error.fix is None or "--" not in error.fix:
                    raise
                fix = f"{error.fix}; an evaluation takes such options as {SERVE_OPTIONS}"
                raise UserError(error.what, where=error.where, fix=fix) from error
            yield server.model, lambda: _why_dead(server)


def _why_dead(server: Server) -> str | None:
    return None if server.alive() else server.why_dead()
