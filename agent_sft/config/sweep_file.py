"""Reading a sweep: defaults < the file < flags, every key and value checked before anything is planned."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from agent_sft.config.evaluation import EvaluationConfig, LimitsConfig, read_evaluation_config
from agent_sft.config.sft import SFTConfig
from agent_sft.config.sweep import EvaluatorConfig, PrepareConfig, ResourcesConfig, SweepConfig, VariantConfig
from agent_sft.config.sweep_evaluators import chosen
from agent_sft.config.yaml_files import as_number, read_mapping, validated
from agent_sft.errors import UserError, nearest

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
    "nnodes": "a sweep runs on one machine",
    "node_rank": "a sweep runs on one machine",
    "master_addr": "a sweep runs on one machine",
    "master_port": "a sweep runs on one machine",
}
"""Options of a run that a sweep decides itself."""

_INNER: Mapping[str, type[BaseModel]] = {
    "prepare": PrepareConfig,
    "variants": VariantConfig,
    "evaluators": EvaluatorConfig,
    "resources": ResourcesConfig,
}
_EVALUATOR_OPTIONS = [name for name in EvaluationConfig.model_fields if name not in ("model", "out")]


def read_sweep(path: Path | None, given: Mapping[str, Any], evaluator: Mapping[str, Any] | None = None) -> SweepConfig:
    """Read a sweep: defaults < the file's keys < those given.

    Args:
        path: a YAML file; None for a sweep by flags alone.
        given: keys of a sweep; those of `sft`, `serve` and `resources` are laid over the file's one by one.
        evaluator: options that choose an evaluator in place of the file's, or are laid over each of the file's: see
            `sweep_evaluators.chosen`.

    Raises:
        UserError: naming the file, the key and what is wrong with it, with the nearest known one.
    """
    source = source_of(path)
    content = read_mapping(path, "a sweep: variants, evaluators, and what they are trained with") if path else {}
    merged: dict[str, Any] = {**content, **given}
    for name in ("sft", "serve", "resources"):
        before = content.get(name)
        if isinstance(before, dict) and name in given:
            merged[name] = _laid_over(before, given[name])
    if evaluator:
        merged["evaluators"] = chosen(merged.get("evaluators") or [], evaluator)
    _read_numbers(merged)
    _take_seed(merged, source)
    merged.setdefault("name", _default_name(merged.get("data") or ()))
    config = validated(source, merged, SweepConfig, _INNER)
    _check(config, source, "seeds" in merged)
    return config


def source_of(path: Path | None) -> str:
    """Return where a sweep's keys come from, as messages say it."""
    return str(path) if path is not None else "the sweep's options"


def with_set(options: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return options with one more, `set.KEY` among those of LLaMA-Factory."""
    if key.startswith(SET):
        return {**options, "set": {**options.get("set", {}), key.removeprefix(SET): as_number(value)}}
    return {**options, key: value}


def evaluation_options(evaluator: EvaluatorConfig) -> dict[str, Any]:
    """Return the options of an evaluator as `read_evaluation_config` takes them."""
    options = dict(evaluator.model_extra or {})
    return {**options, **options.pop("limits", {})}


def _laid_over(before: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**before, **given}
    if isinstance(before.get("set"), dict) and "set" in given:
        merged["set"] = {**before["set"], **given["set"]}
    return merged


def _read_numbers(merged: dict[str, Any]) -> None:
    """Take `1e-5` among LLaMA-Factory's settings for a number, as `--set` does."""
    variants = merged.get("variants")
    listed = [one.get("sft") for one in variants if isinstance(one, dict)] if isinstance(variants, list) else []
    for options in (merged.get("sft"), merged.get("base"), *listed):
        if isinstance(options, dict) and isinstance(options.get("set"), dict):
            options["set"] = {key: as_number(value) for key, value in options["set"].items()}


def _take_seed(merged: dict[str, Any], source: str) -> None:
    """Take `seed` among the options of the trainings for the only seed."""
    sft = merged.get("sft")
    if not isinstance(sft, dict) or "seed" not in sft:
        return
    if "seeds" in merged:
        raise UserError("seeds are given too", where=f"{source}, sft.seed", fix="leave it out")
    merged["sft"] = {name: value for name, value in sft.items() if name != "seed"}
    merged["seeds"] = [sft["seed"]]


def _default_name(data: Any) -> str:
    """Return what the patterns of the data have in common, `telecom_syc_pct` of `telecom_syc_*pct.json`."""
    stem = Path(str(data[0])).stem if isinstance(data, list | tuple) and data else ""
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]|[*?]", "", stem).partition("@")[0]
    plain = re.sub(r"[^\w.-]+", "-", plain, flags=re.ASCII).strip("._-")
    return re.sub(r"([._-])[._-]+", r"\1", plain) or "sweep"


def _check(config: SweepConfig, source: str, seeds_given: bool) -> None:
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
    if not trained and seeds_given:
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
        for name in ("model",):
            if name in config.sft:
                fix = "leave it out, or leave base out"
                raise UserError("every variant starts from `base`", where=f"{source}, sft.{name}", fix=fix)
    places += [(f"variants.{number}.sft", {**config.sft, **one.sft}) for number, one in enumerate(config.variants)]
    for place, options in places:
        _check_own(options, f"{source}, {place}", options if place == "base" else {"input": "-", **options})
    for number, one in enumerate(config.variants):
        if one.model is not None and one.sft:
            fix = "leave out its sft, or its model (sft.model is what a training starts from)"
            raise UserError("a finished model is not trained", where=f"{source}, variants.{number}", fix=fix)
    for key, values in config.grid.items():
        where = f"{source}, grid.{key}"
        if not values:
            raise UserError("has no values", where=where, fix="give a list of them")
        _check_twice(map(str, values), where)
        for value in values:
            options = with_set({}, key, value)
            _check_own(options, f"{source}, grid", with_set({"input": "-", **config.sft}, key, value))


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
            hint = nearest(name, [*_EVALUATOR_OPTIONS, *EvaluatorConfig.model_fields])
            limit = "it is one of `limits`" if name in LimitsConfig.model_fields else "it may be one of `params`"
            raise UserError("agent-sft eval run has no such option", where=f"{where}.{name}", fix=hint or limit)
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
    message = first["msg"].removeprefix("Value error, ")
    value = f" (given: {first['input']})" if place else ""
    return UserError(f"{message[:1].lower()}{message[1:]}{value}", where=f"{where}.{place}".rstrip("."))
