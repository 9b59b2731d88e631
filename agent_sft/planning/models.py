"""The models that candidates start from: made where they are to be, with the data as each of them reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from agent_sft import __version__
from agent_sft.config.planning import PlanConfig
from agent_sft.config.tiny import is_made_here, read_tiny
from agent_sft.data.statistics import quantile
from agent_sft.engines.environments import engine_python, engine_versions
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS, load_facts
from agent_sft.engines.llamafactory.shape import model_shape
from agent_sft.engines.llamafactory.templates import expected_template
from agent_sft.engines.llamafactory.tiny import make_tiny_model
from agent_sft.errors import UserError
from agent_sft.files import digest_file, digest_value, write_json
from agent_sft.planning.folder import PlanFolder
from agent_sft.planning.grid import settings_for
from agent_sft.planning.inspection import TRAINING, Say
from agent_sft.report.plan.record import ModelFacts
from agent_sft.stages.checking import lengths, look_ahead
from agent_sft.stages.looking import looked_at
from agent_sft.stages.stage import Stage

FILE = "models.json"
TINY_TEMPLATE = "qwen"


def look_at_models(config: PlanConfig, folder: PlanFolder, say: Say) -> list[ModelFacts]:
    """Return each model with the data as it reads it, made and counted now where that is not done yet.

    Raises:
        UserError: a model or its template cannot be used.
    """
    stage = Stage(
        "models",
        {
            "data": digest_file(folder.part(TRAINING)),
            "models": {name: _identity(name) for name in config.models},
            "template": config.template,
            "settings": {name: str(config.sft[name]) for name in _COUNTED if name in config.sft},
            "config": digest_file(Path(config.sft["config"])) if "config" in config.sft else None,
            "seed": config.seed,
            "agent-sft": __version__,
        },
    )

    def make() -> tuple[list[Path], dict[str, Any]]:
        path = folder.path / FILE
        found = [_Looker(config, folder, say).look(name) for name in config.models]
        write_json(path, [{name: getattr(one, name) for name in one.__struct_fields__} for one in found])
        made = [one for one in (folder.path / "models").rglob("*") if one.is_file()]
        return [path, *made], {}

    if stage.finished(folder.run) is None:
        stage.perform(folder.run, make)
    return [ModelFacts(**one) for one in orjson.loads((folder.path / FILE).read_bytes())]


_COUNTED = ("cutoff_len", "on_overflow", "supervise", "force_template", "set")


def _identity(name: str) -> str:
    return digest_value(read_tiny(name).model_dump(mode="json")) if is_made_here(name) else name


class _Looker:
    def __init__(self, config: PlanConfig, folder: PlanFolder, say: Say) -> None:
        self._config, self._folder, self._say = config, folder, say

    def look(self, name: str) -> ModelFacts:
        """Return what is known of a model."""
        template = self._config.template or self._template(name)
        model = self._made(name) if is_made_here(name) else name
        settings = settings_for(self._config, model, template)
        cutoff = int(settings["cutoff_len"])
        wanted = {key: settings[key] for key in ("cutoff_len",)}
        data = str(self._folder.part(TRAINING))
        force = bool(self._config.sft.get("force_template")) or is_made_here(name)
        with looked_at(data, model=model, template=template, settings=wanted, force_template=force) as look:
            policy, supervise = self._config.sft.get("on_overflow"), self._config.sft.get("supervise")
            ahead = look_ahead(look, cutoff, policy or "trim", supervise or "all_assistant")
            counted = [total for total, _ in lengths(look)]
        shape = model_shape(model, engine_python("train"))
        facts = ModelFacts(
            name=name,
            model=model,
            template=template,
            tokens=ahead.tokens,
            loss_tokens=ahead.loss_tokens,
            longest=max(counted, default=0),
            median=quantile(counted, 0.5) if counted else 0,
            longer=ahead.longer,
            examples=ahead.promised,
            parameters=shape.parameters if shape is not None else None,
        )
        self._say(f"models: {name}, template {template}: {facts.tokens:,} tokens in {facts.examples:,} examples")
        return facts

    def _template(self, name: str) -> str:
        if is_made_here(name):
            return TINY_TEMPLATE
        python = engine_python("train")
        found = expected_template(name, load_facts(python, engine_versions(python, DISTRIBUTIONS)))
        if found is None:
            what = f"nothing tells which of LLaMA-Factory's templates belongs to {name}"
            raise UserError(what, where=f"--model {name}", fix="name it with --template")
        return found

    def _made(self, name: str) -> str:
        """Make a model on the spot, once for all candidates, so that they start from the same."""
        target = self._folder.model(Path(name).stem)
        self._say(f"models: making {name} with a tokenizer from the data")
        with looked_at(str(self._folder.part(TRAINING)), model=None, template=TINY_TEMPLATE) as look:
            like = read_tiny(name)
            make_tiny_model(engine_python("train"), look.report.data_path, target, seed=self._config.seed, like=like)
        return str(target.absolute())
