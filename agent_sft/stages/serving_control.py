"""Changing what a running server serves: adapters come and go, weights are exchanged."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent_sft.engines.endpoint import Endpoint, Refused
from agent_sft.engines.llamafactory.checkpoints import tensor_shapes
from agent_sft.engines.llamafactory.templates import tokenizer_tokens
from agent_sft.engines.model_files import ModelFiles, read_model
from agent_sft.engines.served import ServedModel
from agent_sft.engines.vllm.launch import REPACK
from agent_sft.errors import UserError, WorkFailed
from agent_sft.stages.serving_plan import check_adapter, local_model

FORGET_SECONDS = 60.0
"""How long requests may be under way when weights have been exchanged."""


@dataclass
class Control:
    """A server that answers, and what it serves now. vLLM does not tell whose weights it has: this is the record."""

    model: ServedModel
    """The model that was asked for."""
    base_name: str
    """What requests call the model without an adapter."""
    base_folder: Path
    """Its files."""
    highest_rank: int
    """Of adapters that it takes; 0 where it takes none."""
    adapters: dict[str, Path] = field(default_factory=dict)
    """The folders of the adapters that are loaded."""

    @property
    def endpoint(self) -> Endpoint:
        """The server's address."""
        return Endpoint(self.model.url, self.model.api_key)

    def adapter(self, name: str) -> ServedModel:
        """Return one of the adapters as a model of its own."""
        files = local_model(str(self.adapters[name]))
        return replace(
            self.model,
            name=name,
            path=files.folder,
            digest=files.digest(),
            template=files.template or self.model.template,
            base=self.base_name,
        )

    def load_adapter(self, name: str, path: Path) -> ServedModel:
        """Add an adapter, or exchange the one of this name, while the server runs.

        Raises:
            UserError: it is no adapter, or does not belong to what is served.
            WorkFailed: the server refused it.
        """
        adapter = local_model(str(path))
        where = f"{name}={path}"
        if adapter.adapter is None:
            raise UserError("is a whole model, not an adapter", where=where)
        if name == self.base_name or (name == self.model.name and name not in self.adapters):
            raise UserError(f"'{name}' is the model that is served", where=where, fix="choose another name")
        if adapter.rank > self.highest_rank:
            raise UserError(
                f"its rank is {adapter.rank}, the server was started for {self.highest_rank or 'no adapters'}",
                where=where,
                fix=f"start the server with --lora-later {adapter.rank}",
            )
        check_adapter(adapter, self._served_files(), where)
        body = {"lora_name": name, "lora_path": str(adapter.folder.absolute()), "load_inplace": name in self.adapters}
        self._ask("/v1/load_lora_adapter", body, f"the adapter {where} was not loaded")
        self._note({**self.adapters, name: adapter.folder.absolute()})
        return self.adapter(name)

    def unload_adapter(self, name: str) -> None:
        """Take an adapter away while the server runs.

        Raises:
            UserError: there is none of this name.
            WorkFailed: the server refused.
        """
        if name not in self.adapters:
            raise UserError(f"no adapter is called '{name}'", fix=f"there are: {', '.join(self.adapters) or 'none'}")
        self._ask("/v1/unload_lora_adapter", {"lora_name": name}, f"the adapter {name} was not taken away")
        self._note({other: path for other, path in self.adapters.items() if other != name})

    def reload(self, path: Path) -> ServedModel:
        """Exchange the weights for those of another checkpoint of the same shape, in a second or less.

        The name stays what it was; path and digest of the model tell whose weights are served.

        Raises:
            UserError: it is another architecture, tokenizer or chat template, or no whole model.
            WorkFailed: the server refused it, and what it serves now is unknown.
        """
        if self.model.backend != "vllm":
            raise UserError("LLaMA-Factory's server cannot exchange its weights", fix="stop it and start another")
        model = local_model(str(path))
        check_same_shape(model, read_model(str(self.base_folder), self.base_folder, local=True))
        order = {"method": "reload_weights", "kwargs": {"weights_path": str(model.folder.absolute())}}
        self.model = replace(self.model, path=None, digest=None)  # until it is known again
        self._ask("/collective_rpc", order, f"the weights of {path} were not loaded")
        self._ask("/collective_rpc", {"method": REPACK}, f"the weights of {path} were not packed")
        self._forget_prompts()
        self.base_folder = model.folder.absolute()
        self.model = replace(self.model, path=self.base_folder, digest=model.digest())
        return self.model

    def _served_files(self) -> ModelFiles:
        """The files whose chat template is served."""
        folder = self.adapters.get(self.model.name, self.base_folder)
        return read_model(str(folder), folder, local=True)

    def _note(self, adapters: Mapping[str, Path]) -> None:
        self.adapters = dict(adapters)
        self.model = replace(self.model, adapters=tuple(adapters))

    def _forget_prompts(self) -> None:
        """Have the server drop what it computed of earlier prompts, which belongs to the weights it had then.

        It refuses while a request that has just ended still holds some of it.
        """
        what = "what was kept of earlier prompts was not forgotten"
        deadline = time.monotonic() + FORGET_SECONDS
        while (answer := self._ask("/reset_prefix_cache", None, what)) and answer.get("success") is False:
            if time.monotonic() > deadline:
                raise WorkFailed(f"{what}: requests are under way")
            time.sleep(0.1)

    def _ask(self, path: str, body: Any, what: str) -> Any:
        try:
            return self.endpoint.call("POST", path, body, timeout=600)
        except (OSError, Refused) as error:
            raise WorkFailed(f"{what}: {error}") from error


def check_same_shape(model: ModelFiles, served: ModelFiles) -> None:
    """Refuse a model whose weights alone cannot take the place of those that are served.

    Raises:
        UserError: naming what differs.
    """
    if model.adapter is not None:
        raise UserError("is an adapter", where=model.reference, fix="add it with `agent-sft serve load NAME=PATH`")
    same = {
        "architecture": model.config.get("architectures") == served.config.get("architectures"),
        "shape of the weights": tensor_shapes(model.folder) == tensor_shapes(served.folder),
        "tokenizer": tokenizer_tokens(model.folder) == tokenizer_tokens(served.folder),
        "chat template": model.chat_template == served.chat_template,
    }
    different = [name for name, equal in same.items() if not equal]
    if different:
        raise UserError(
            f"differs from the model that is served ({', '.join(different)}): its weights alone cannot be exchanged",
            where=model.reference,
            fix="stop the server and start one for it",
        )
