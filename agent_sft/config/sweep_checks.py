"""What may not stand in a sweep, found before anything is planned."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent_sft.config.evaluation import EvaluationConfig, LimitsConfig, read_evaluation_config
from agent_sft.config.sft import SFTConfig
from agent_sft.config.sweep import EvaluatorConfig, SweepConfig
from agent_sft.config.yaml_files import as_number
from agent_sft.errors import UserError, nearest, wrong_value

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,127}", re.ASCII)
"""What names a folder."""
SET = "set."
"""Before the key of LLaMA-Factory in a grid."""

OWN: Mapping[str, str] = {
    "output_dir": "a run's folder is in the sweep's: give `out`",
    "dataset_name": "it is the variant's name: give `variants` with names of your own",
    "given": "it is no option",
    "dry_run": "`--dry-run` shows the whole sweep",
    "fresh": "a training whose settings changed starts over by itself; `agent-sft sweep clean` takes the rest away",
    "nnodes": "give `nodes_per_train` in `resources`, with a cluster",
    "node_rank": "a cluster decides it: give `nodes_per_train` in `resources`",
    "master_addr": "a cluster decides it: give `nodes_per_train` in `resources`",
    "master_port": "a cluster decides it: give `nodes_per_train` in `resources`",
    "callbacks": "they are an experiment file's; `best_by` and `report_to` are options here too",
    "save_at": "give `checkpoint_interval`",
}
"""Options of a run that a sweep decides itself."""

_EVALUATOR_OPTIONS = [name for name in EvaluationConfig.model_fields if name not in ("model", "out")]


def with_set(options: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return options with one more, `set.KEY` among those of LLaMA-Factory."""
    if key.startswith(SET):
        return {**options, "set": {**options.get("set", {}), key.removeprefix(SET): as_number(value)}}
    return {**options, key: value}


def evaluation_options(evaluator: EvaluatorConfig) -> dict[str, Any]:
    """Return the options of an evaluator as `read_evaluation_config` takes them."""
    options = dict(evaluator.model_extra or {})
    return {**options, **options.pop("limits", {})}


def laid_over(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay options over others, LLaMA-Factory's own one by one."""
    merged = {**before, **given}
    if isinstance(before.get("set"), dict) and isinstance(given.get("set"), dict):
        merged["set"] = {**before["set"], **given["set"]}
    return merged


def check_sweep(config: SweepConfig, source: str) -> None:
    """Refuse keys that contradict each other, unknown options and evaluators, and values that are wrong.

    Args:
        config: the sweep.
        source: where its keys come from, as messages say it.

    Raises:
        UserError: naming the key and what is wrong with it, with the nearest known one.
    """
    for name in (config.name, *(one.name for one in config.variants)):
        check_name(name, f"{source}, {'name' if name == config.name else 'variants'}")
    if not (config.data or config.variants or config.models or config.grid):
        fix = "give data (files), variants, a grid over an option, or models (finished ones)"
        raise UserError("nothing to compare", where=source, fix=fix)
    if config.data and any(one.model is None for one in config.variants):
        fix = "give one of them; sft.input names data that all variants are trained on"
        raise UserError("data and variants both say what is trained", where=f"{source}, variants", fix=fix)
    if not config.evaluators:
        fix = "name what every model is scored on, such as {evaluator: inspect, task: FILE.py}"
        raise UserError("there is no evaluator", where=f"{source}, evaluators", fix=fix)
    _check_twice([one.name for one in config.variants], f"{source}, variants")
    _check_twice([one.name for one in config.evaluators if one.name], f"{source}, evaluators")
    _check_twice(config.seeds, f"{source}, seeds")
    if not config.seeds:
        raise UserError("there is no seed", where=f"{source}, seeds", fix="leave it out, or give one or more")
    trained = config.data or config.grid or any(one.model is None for one in config.variants)
    if not trained and len(config.seeds) > 1:
        raise UserError("nothing is trained: finished models have no seed here", where=f"{source}, seeds")
    _check_options(config, source)
    for number, evaluator in enumerate(config.evaluators):
        _check_evaluator(evaluator, f"{source}, evaluators.{number}")


def check_name(name: str, where: str) -> None:
    """Refuse a name that could not be a folder's.

    Raises:
        UserError: it has other characters.
    """
    if not NAME.fullmatch(name):
        fix = "letters, digits and . _ - are allowed, a letter or digit first"
        raise UserError(f"'{name}' cannot name a folder", where=where, fix=fix)


def _check_twice(names: Iterable[Any], where: str) -> None:
    seen: set[Any] = set()
    for name in names:
        if name in seen:
            raise UserError(f"'{name}' is given twice", where=where, fix="give every one once")
        seen.add(name)


def _check_options(config: SweepConfig, source: str) -> None:
    places = [("sft", config.sft)]
    if config.base is not None:
        places.append(("base", config.base))
        _check_own(config.base, f"{source}, base", config.base)
        if "model" in config.sft:
            fix = "leave it out, or leave base out"
            raise UserError("every variant starts from `base`", where=f"{source}, sft.model", fix=fix)
    for number, one in enumerate(config.variants):
        if one.model is None:
            places.append((f"variants.{number}.sft", laid_over(config.sft, one.sft)))
    for place, options in places:
        _check_own(options, f"{source}, {place}", {"input": "-", **options} if place == "sft" else options)
    for number, one in enumerate(config.variants):
        if one.model is not None and one.sft:
            fix = "leave out its sft, or its model (sft.model is what a training starts from)"
            raise UserError("a finished model is not trained", where=f"{source}, variants.{number}", fix=fix)
    for key, values in config.grid.items():
        where = f"{source}, grid.{key}"
        if not values:
            raise UserError("has no values", where=where, fix="give a list of them")
        _check_twice(map(str, values), where)
        whole = config.sft if not (config.data or config.variants) else {"input": "-", **config.sft}
        for value in values:
            _check_own(with_set({}, key, value), f"{source}, grid", with_set(whole, key, value))


def _check_own(options: Mapping[str, Any], where: str, whole: Mapping[str, Any]) -> None:
    """Refuse options that no run has, that are the sweep's own, or whose values are wrong.

    Args:
        options: those that were given here.
        where: of them.
        whole: the options of a run that has them.
    """
    for name in options:
        if name == "seed" and not where.endswith(", base"):
            raise UserError("give `seeds`, a list, beside `sft`", where=f"{where}.{name}")
        if name in OWN and not (name == "dataset_name" and where.endswith(", base")):
            raise UserError("a sweep decides this itself", where=f"{where}.{name}", fix=OWN[name])
        if name not in SFTConfig.model_fields:
            known = [known for known in SFTConfig.model_fields if known not in OWN]
            hint = nearest(name, known) or "settings of LLaMA-Factory's own go into `set`"
            raise UserError("run_sft.sh has no such option", where=f"{where}.{name}", fix=hint)
    listed = options.get("benchmark")
    if any(not isinstance(one, str) for one in (listed if isinstance(listed, list | tuple) else [listed or ""])):
        fix = "name folders; `benchmark_every` says when they are scored"
        raise UserError("a sweep takes benchmarks by their folders", where=f"{where}.benchmark", fix=fix)
    try:
        SFTConfig.model_validate(whole)
    except ValidationError as error:
        raise _wrong_value(error, where) from error


def _check_evaluator(evaluator: EvaluatorConfig, where: str) -> None:
    options = dict(evaluator.model_extra or {})
    for name in options:
        if name in ("model", "out"):
            raise UserError("a sweep decides this itself", where=f"{where}.{name}", fix="leave it out")
        if name not in _EVALUATOR_OPTIONS:
            hint = nearest(name, [*_EVALUATOR_OPTIONS, *EvaluatorConfig.model_fields]) or "it may be one of `params`"
            fix = "it is one of `limits`" if name in LimitsConfig.model_fields else hint
            raise UserError("agent-sft eval run has no such option", where=f"{where}.{name}", fix=fix)
    if evaluator.name is not None:
        check_name(evaluator.name, f"{where}.name")
    limits = options.get("limits", {})
    for name in limits if isinstance(limits, dict) else ():
        if name not in LimitsConfig.model_fields:
            hint = nearest(name, LimitsConfig.model_fields) or f"there are {', '.join(LimitsConfig.model_fields)}"
            raise UserError("there is no such limit", where=f"{where}.limits.{name}", fix=hint)
    for name in ("limits", "params", "serve"):
        if not isinstance(options.get(name, {}), dict):
            raise UserError("must hold options, each with its value", where=f"{where}.{name}")
    try:
        read_evaluation_config(evaluator.config, {**evaluation_options(evaluator), "model": "-", "out": Path("-")})
    except UserError as error:
        said = error.where.removeprefix("--").replace("-", "_") if error.where else ""
        inside = f"{where}, {error.where}" if evaluator.config is not None else f"{where}.{said}".rstrip(".")
        raise UserError(error.what, where=inside, fix=error.fix) from error


def _wrong_value(error: ValidationError, where: str) -> UserError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return UserError(wrong_value(first), where=f"{where}.{place}".rstrip("."))
