"""What the installed LLaMA-Factory knows: its argument names, templates and models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent_sft.engines.cache import cached
from agent_sft.engines.environments import call_inside
from agent_sft.errors import UserError, nearest

INSIDE = Path(__file__).with_name("inside")
DISTRIBUTIONS = ("llamafactory", "transformers", "torch", "deepspeed", "accelerate", "peft", "datasets")

REPORTERS = {
    "wandb": ("wandb",),
    "tensorboard": ("tensorboard",),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "swanlab": ("swanlab",),
    "trackio": ("trackio",),
}
"""The distributions, any of which serves, that an experiment tracker needs."""

_ACCEPTS: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "list": (list, str),
    "dict": (dict, str),
}


@dataclass(frozen=True)
class Facts:
    """The tables of one installed LLaMA-Factory."""

    arguments: dict[str, str]
    """Every key a training YAML may hold, with the simple type it takes (`any` where there are several)."""
    choices: dict[str, list[str]]
    """The names that a setting may take, of settings that take a few names only."""
    templates: dict[str, dict[str, Any]]
    """Chat templates: control tokens (`markers`), `tool_format`, whether made for `thinking`."""
    models: dict[str, dict[str, str | None]]
    """Hub names: display `name` and the `template` that belongs to it, None for base models."""

    def check_keys(self, values: dict[str, Any], where: str) -> None:
        """Refuse keys that LLaMA-Factory does not know, values of the wrong kind, and names it has not got.

        Raises:
            UserError: with the nearest known key.
        """
        for key, value in values.items():
            if key not in self.arguments:
                raise UserError(
                    f"LLaMA-Factory has no setting '{key}'",
                    where=where,
                    fix=nearest(key, self.arguments) or None,
                )
            wanted = _ACCEPTS.get(self.arguments[key])
            if (
                wanted
                and value is not None
                and (not isinstance(value, wanted) or isinstance(value, bool) != (wanted == (bool,)))
            ):
                raise UserError(
                    f"{key} takes a value of type {self.arguments[key]}, not {value!r}",
                    where=where,
                    fix=_hint(value),
                )
            self._check_choice(key, value, where)

    def _check_choice(self, key: str, value: Any, where: str) -> None:
        choices = self.choices.get(key)
        if choices is None or value is None or value in choices or (value is False and "no" in choices):
            return
        raise UserError(
            f"{key} takes one of {', '.join(choices)}, not {value!r}",
            where=where,
            fix=nearest(str(value), choices) or None,
        )


def load_facts(python: Path, versions: dict[str, str | None]) -> Facts:
    """Ask the LLaMA-Factory of this environment for its tables; some 10 s the first time, then kept."""
    value = cached(
        "llamafactory-facts",
        {"python": str(python), "versions": versions, "layout": 2},
        lambda: call_inside(python, INSIDE / "describe.py", timeout=300),
    )
    return Facts(**value)


def _hint(value: Any) -> str | None:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return None
        return f"write it as {yaml.safe_dump(float(value)).split()[0]}: YAML reads {value} as text"
    return None
