"""From a sweep's keys to its variants: data files, a grid, a list, finished models; times the seeds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent_sft.config.sft import SFTConfig
from agent_sft.config.sweep import SweepConfig, Value
from agent_sft.config.sweep_checks import SET, check_name, laid_over, with_set
from agent_sft.data.store import is_reference
from agent_sft.errors import UserError
from agent_sft.stages.evaluators.customer import is_address
from agent_sft.sweep.graph import Variant
from agent_sft.sweep.patterns import Match, expand, names_of, plain, values_of

VARIANTS = "variants"
"""The folder of the trainings' folders."""
BASE = "base"
"""The folder of the model that all variants start from."""


@dataclass(frozen=True)
class _Draft:
    """A variant before its seeds."""

    name: str
    value: Value | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    data: str = ""
    """Of what it is trained on: the same for all combinations of the grid."""


def variants_of(config: SweepConfig, out: Path, *, launch: Mapping[str, int], source: str) -> tuple[Variant, ...]:
    """Return the variants in their order: those of the data or the list, each with the grid's, then finished models.

    Args:
        config: the sweep.
        out: its folder.
        launch: processes and machines of a training that does not say itself.
        source: where its keys come from, as messages say it.

    Raises:
        UserError: a file is missing, two variants have one name, or an option is wrong.
    """
    drafts = _crossed(_trained(config, source), config.grid) + _finished(config, source)
    found: list[Variant] = []
    first_of_data: dict[str, Path] = {}
    for draft in drafts:
        check_name(draft.name, f"{source}, variants")
        if draft.model is not None:
            _check_model(draft.model, config, f"{source}, {draft.name}")
            found.append(Variant(draft.name, draft.name, draft.value, None, None, draft.model))
            continue
        for seed in config.seeds:
            name = draft.name if len(config.seeds) == 1 else f"{draft.name}-seed{seed}"
            own = {"output_dir": out / VARIANTS / name, "seed": seed}
            own |= {} if "dataset_name" in draft.options else {"dataset_name": draft.data or draft.name}
            if (first := first_of_data.setdefault(_data_options(draft), out / VARIANTS / name)) != own["output_dir"]:
                own["data_from"] = (first,)
            if config.base is not None:
                own["model"] = str((out / BASE).absolute())
            sft = training(draft.options, own, launch)
            found.append(Variant(name, draft.name, draft.value, seed, sft, str(sft.output_dir)))
    names = [variant.name for variant in found]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two variants are called '{name}'", where=source, fix="list them in `variants` with names")
    return tuple(found)


def training(options: Mapping[str, Any], own: Mapping[str, Any], launch: Mapping[str, int]) -> SFTConfig:
    """Return a training's options.

    The LLaMA-Factory YAML that `config` names comes first, so that the options beside it win over it.

    Args:
        options: as the sweep gives them.
        own: those that the sweep decides.
        launch: processes and machines of a training that does not say itself.

    Raises:
        UserError: a value is wrong, or two contradict each other.
    """
    whole = {**launch, **options, **own}
    if "config" in whole:
        whole = {"config": whole.pop("config"), **whole}
    return SFTConfig.from_options({**whole, "given": tuple(whole)})


def _trained(config: SweepConfig, source: str) -> list[_Draft]:
    if config.data:
        return _of_data(config, source)
    drafts = [
        _Draft(one.name, one.value, laid_over(config.sft, one.sft), one.model, one.name) for one in config.variants
    ]
    if drafts or not config.grid:
        return drafts
    return [_Draft("", None, config.sft, data=config.name)]


def _of_data(config: SweepConfig, source: str) -> list[_Draft]:
    made = [str(path) for command in config.prepare for path in command.makes]
    matches = _matches(config.data, f"{source}, data", made)
    for match in matches:
        _check_there(match.name, made, f"{source}, data")
    names = names_of([match.name for match in matches])
    return [
        _Draft(name, value, {**config.sft, "input": (match.name,)}, data=name)
        for name, value, match in zip(names, values_of(matches), matches, strict=True)
    ] + [_Draft(one.name, one.value, model=one.model) for one in config.variants]


def _finished(config: SweepConfig, source: str) -> list[_Draft]:
    matches = _matches(config.models, f"{source}, models", ())
    names = names_of([match.name.rstrip("/") for match in matches])
    values = values_of(matches)
    return [_Draft(name, value, model=match.name) for name, value, match in zip(names, values, matches, strict=True)]


def _matches(patterns: Sequence[str], where: str, made: Iterable[str]) -> list[Match]:
    found = [match for pattern in patterns for match in expand(pattern, where, made=made)]
    seen: set[str] = set()
    for match in found:
        if match.name in seen:
            raise UserError(f"{match.name} is given twice", where=where, fix="name every one once")
        seen.add(match.name)
    if len({len(match.varying) for match in found}) > 1 or not all(match.varying for match in found):
        # Named one by one: what varies are their names.
        names = names_of([match.name for match in found])
        return [replace(match, varying=(name,)) for match, name in zip(found, names, strict=True)]
    return found


def _check_there(name: str, made: Sequence[str], where: str) -> None:
    if name in made or is_reference(name) or name.startswith("hf:") or Path(name).exists():
        return
    fix = "mend the name, or name the command that makes it in `prepare`"
    raise UserError("no such file", where=f"{where}: {name}", fix=fix)


def _check_model(model: str, config: SweepConfig, where: str) -> None:
    """Refuse a finished model that is neither a folder, nor can be a name on the hub or an address."""
    path = Path(model)
    made = any(path in (one, *one.parents) for command in config.prepare for one in command.makes)
    if path.is_dir() or made or is_address(model):
        return
    if path.exists() or model.count("/") != 1 or model.startswith((".", "/", "~")):
        what = "is a file, not a model's folder" if path.exists() else "there is no such folder"
        raise UserError(what, where=f"{where}: {model}", fix="give a run's folder, a model's, or a name on the hub")


def _crossed(drafts: list[_Draft], grid: Mapping[str, tuple[Any, ...]]) -> list[_Draft]:
    """Return every draft that is trained with every combination of the grid's values."""
    if not grid:
        return drafts
    trained = [draft for draft in drafts if draft.model is None]
    crossed: list[_Draft] = []
    for draft in trained:
        for combination in itertools.product(*grid.values()):
            options: dict[str, Any] = dict(draft.options)
            for key, value in zip(grid, combination, strict=True):
                options = with_set(options, key, value)
            words = [_word(key, value) for key, value in zip(grid, combination, strict=True)]
            crossed.append(
                _Draft(
                    name="-".join(filter(None, [draft.name if len(trained) > 1 or draft.name else "", *words])),
                    value=_value(combination[0]) if len(grid) == 1 and len(trained) == 1 else None,
                    options=options,
                    data=draft.data,
                )
            )
    return crossed + [draft for draft in drafts if draft.model is not None]


def _data_options(draft: _Draft) -> str:
    """Return by what it is known that two variants train on the same data, made in the same way."""
    return json.dumps({key: draft.options.get(key) for key in ("input", "dataset", "trajectory_dataset")}, default=str)


def _word(key: str, value: Any) -> str:
    """Return how a value of an option stands in a variant's name: `lr1e-05`, `epochs3`, `deepspeed-ds_zero3`."""
    name = key.removeprefix(SET)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return plain(f"{name}{value:g}" if isinstance(value, float) else f"{name}{value}")
    text = "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return plain(f"{name}-{Path(text).stem if '/' in text else text}")


def _value(value: Any) -> Value:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return str(value)
