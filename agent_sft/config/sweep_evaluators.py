"""The evaluators of a sweep as flags choose them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_sft.config.yaml_files import read_mapping
from agent_sft.errors import UserError

CHOOSE = ("domain", "evaluator", "task")
TAU2 = "tau2"


def chosen(listed: list[Any], flags: Mapping[str, Any]) -> list[Any]:
    """Return the evaluators after flags.

    `domain`, `evaluator` and `task` name one in place of those that are listed: a domain is tau2's where it is known
    where tau2 is installed, else that of inspect_evals. All other options are laid over each of them.

    Args:
        listed: the evaluators of the file.
        flags: options of one evaluation, and `domain` and `tau2_dir`.

    Raises:
        UserError: a domain and an evaluator are given, or tau2's folder and no evaluator that is tau2.
    """
    options = {name: value for name, value in flags.items() if name not in (*CHOOSE, "tau2_dir")}
    folder = flags.get("tau2_dir") or next(filter(None, map(_tau2_dir, listed)), None)
    if "domain" in flags:
        if "evaluator" in flags or "task" in flags:
            raise UserError("--domain names the evaluator and its task", where="--domain", fix="leave the others out")
        listed = [_of_domain(str(flags["domain"]), folder)]
    elif "evaluator" in flags or "task" in flags:
        listed = [{"evaluator": "inspect", **{name: flags[name] for name in CHOOSE if name in flags}}]
    if not listed:
        fix = "--domain telecom, or --task FILE.py (Inspect), --evaluator KIND --task ..."
        flag = f"--{next(iter(flags)).replace('_', '-')}"
        raise UserError("there is no evaluator to give it to", where=flag, fix=fix)
    laid = [{**one, **options} if isinstance(one, dict) else one for one in listed]
    if "tau2_dir" in flags:
        theirs = [one for one in laid if isinstance(one, dict) and _kind(one) == TAU2]
        if not theirs:
            raise UserError("no evaluator is tau2", where="--tau2-dir", fix="--domain NAME chooses it")
        for one in theirs:
            one["params"] = {**(one.get("params") or {}), "tau2_dir": str(flags["tau2_dir"])}
    return laid


def _of_domain(domain: str, folder: Any) -> dict[str, Any]:
    if folder is None:
        return {"name": domain, "evaluator": "inspect", "task": f"inspect_evals/tau2_{domain}"}
    return {"name": domain, "evaluator": TAU2, "task": domain, "params": {"tau2_dir": str(folder)}}


def _kind(evaluator: Mapping[str, Any]) -> Any:
    if "evaluator" in evaluator or "config" not in evaluator:
        return evaluator.get("evaluator")
    return read_mapping(Path(str(evaluator["config"])), "options, each with its value").get("evaluator")


def _tau2_dir(evaluator: Any) -> Any:
    params = evaluator.get("params") if isinstance(evaluator, dict) else None
    return params.get("tau2_dir") if isinstance(params, dict) else None
