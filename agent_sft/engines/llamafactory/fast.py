"""Which of the fast settings a run can use: a decision over facts, each answer with its reason.

What is wanted stands in `configs/sft_fast.yaml`. All of it trains the same model: the same conversations per
optimizer step, none seeing another, in the same precision, with the same loss.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agent_sft.engines.environments import repo_root
from agent_sft.engines.llamafactory.fast_rules import RULES
from agent_sft.engines.llamafactory.weighing import FastMachine, Switch, Weighing
from agent_sft.errors import UserError, nearest
from agent_sft.files import parse_yaml

__all__ = ["FastMachine", "Switch", "fast_settings", "read_fast_file", "with_switches"]


def fast_settings(
    arguments: dict[str, Any],
    machine: FastMachine,
    lengths: Sequence[int] | None,
    *,
    given: Collection[str] = (),
    wanted: Mapping[str, Any] | None = None,
) -> list[Switch]:
    """Weigh every fast setting.

    Args:
        arguments: LLaMA-Factory's settings as they stand.
        machine: the facts.
        lengths: tokens of each training conversation, after truncation; None where they are not known.
        given: keys that the user set: they are left alone.
        wanted: the fast settings; those of `configs/sft_fast.yaml` when None.

    Returns:
        Every setting weighed, in order, those kept off too. One key stands there at most once.

    Raises:
        UserError: `configs/sft_fast.yaml` is damaged, or holds a setting that there is no rule for.
    """
    wanted = read_fast_file() if wanted is None else wanted
    weighing = Weighing(dict(arguments), machine, lengths or None, frozenset(given), wanted)
    switches: list[Switch] = []
    for key, rule in RULES.items():
        if key in wanted:
            switches += rule(weighing)
    return switches


def with_switches(arguments: Mapping[str, Any], switches: Sequence[Switch]) -> dict[str, Any]:
    """Return the settings with what was decided laid over them."""
    return {**arguments, **{switch.key: switch.value for switch in switches if switch.applied}}


def read_fast_file(path: Path | None = None) -> dict[str, Any]:
    """Read the fast settings, from `configs/sft_fast.yaml` when no path is given.

    Raises:
        UserError: it is missing or damaged, or holds a setting that there is no rule for.
    """
    path = path or repo_root() / "configs" / "sft_fast.yaml"
    try:
        wanted = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path), fix="restore it from the repository") from error
    if not isinstance(wanted, dict):
        raise UserError("holds no settings", where=str(path), fix="restore it from the repository")
    for key in wanted:
        if key not in RULES:
            raise UserError(
                f"--fast has no rule for when '{key}' is safe",
                where=str(path),
                fix=nearest(str(key), RULES) or f"put it into a YAML of your own, for --config: {key}",
            )
    return wanted
