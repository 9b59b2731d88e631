"""Reading a sweep: defaults < the file < flags, every key and value checked before anything is planned."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agent_sft.config.sweep import EvaluatorConfig, PrepareConfig, ResourcesConfig, SweepConfig, VariantConfig
from agent_sft.config.sweep_checks import check_sweep, laid_over
from agent_sft.config.sweep_evaluators import chosen
from agent_sft.config.yaml_files import as_number, read_mapping, validated
from agent_sft.errors import UserError

_INNER: Mapping[str, type[BaseModel]] = {
    "prepare": PrepareConfig,
    "variants": VariantConfig,
    "evaluators": EvaluatorConfig,
    "resources": ResourcesConfig,
}


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
            merged[name] = laid_over(before, given[name])
    listed = merged.get("evaluators") or []
    if evaluator and isinstance(listed, list):
        merged["evaluators"] = chosen(listed, evaluator)
    _read_numbers(merged)
    _take_seed(merged, source)
    merged.setdefault("name", _default_name(merged.get("data") or merged.get("models")))
    config = validated(source, merged, SweepConfig, _INNER)
    check_sweep(config, source)
    return config


def source_of(path: Path | None) -> str:
    """Return where a sweep's keys come from, as messages say it."""
    return str(path) if path is not None else "the sweep's options"


def _read_numbers(merged: dict[str, Any]) -> None:
    """Take `1e-5` among LLaMA-Factory's settings, and in a grid, for a number, as `--set` does."""
    grid = merged.get("grid")
    if isinstance(grid, dict):
        axes = {key: [*map(as_number, axis)] if isinstance(axis, list) else axis for key, axis in grid.items()}
        merged["grid"] = axes
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
    """Return what the files of the first pattern have in common, `telecom_syc_pct` of `telecom_syc_*pct.json`."""
    first = data[0] if isinstance(data, list | tuple) and data else data
    stem = Path(first).stem if isinstance(first, str) else ""
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]|[*?]", "", stem).partition("@")[0]
    plain = re.sub(r"[^\w.-]+", "-", plain, flags=re.ASCII).strip("._-")
    return re.sub(r"([._-])[._-]+", r"\1", plain) or "sweep"
