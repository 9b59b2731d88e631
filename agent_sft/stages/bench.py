"""A place with one server at most, on which one model after the other is served."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from agent_sft.engines.model_files import ModelFiles
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed
from agent_sft.runs.directory import RunDirectory
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.reporting import EvaluationReporter
from agent_sft.stages.serving import Server, ServeRequest, serve_plan
from agent_sft.stages.serving_plan import default_name, find_model, local_model, plan_serving


class Bench:
    """A place with one server at most, on which whatever model is wanted can be had."""

    def __init__(self, folder: Path, log: EvaluationReporter, stop: StopSignal) -> None:
        """Make one without a server.

        Args:
            folder: gets a folder for each start of a server, with its log.
            log: is told what happens.
            stop: ends waiting.
        """
        self._folder = folder
        self._log = log
        self._stop = stop
        self._stack = ExitStack()
        self._options: ServeRequest | None = None
        self.server: Server | None = None

    @property
    def died(self) -> bool:
        """Whether the server that was there has ended by itself."""
        return self.server is not None and not self.server.alive()

    def end(self) -> None:
        """End the server; nothing of it is left."""
        self.server = None
        self._stack.close()

    def have(self, request: ServeRequest, rank: int | None) -> ServedModel:
        """Serve a model: on the server that runs where it can take it, else on a new one.

        Args:
            request: what is to be served.
            rank: the highest rank of adapters that will be wanted; None where none will.

        Raises:
            UserError: the model cannot be served.
            WorkFailed: the server does not start.
            Interrupted: the user stopped it.
        """
        if self.died:
            self._log.say("serve: the server had ended; another one is started")
            self.end()
        if self.server is not None and self._options == request.model_copy(update={"model": ""}):
            try:
                model = self._exchanged(self.server, request)
            except (UserError, WorkFailed) as refusal:
                # Other shapes, another template, a server that gave up: it is served by itself, or says why not.
                self._log.say(f"serve: {str(refusal).splitlines()[0]}; another server is started")
                model = None
            if model is not None:
                return model
        self.end()
        return self._started(request, rank)

    def _exchanged(self, server: Server, request: ServeRequest) -> ServedModel | None:
        """Return the model as the running server has it; None where a new one is needed."""
        if server.plan.backend != "vllm" or not Path(request.model).is_dir():
            return None
        wanted = local_model(request.model)
        digest = wanted.digest()
        if server.model.digest == digest:
            return server.model
        if wanted.adapter is None:
            return self._below(server, wanted, digest) if server.plan.model.adapter else self._reloaded(server, wanted)
        if not wanted.base or _base_digest(wanted, server) != _served_base_digest(server):
            return None
        name = default_name(wanted, digest)
        if name in server.control.adapters:
            return server.adapter(name)
        if server.control.highest_rank < wanted.rank:
            return None
        for old in [other for other in server.control.adapters if other != server.plan.name]:
            server.unload_adapter(old)
        self._log.say(f"serve: loading the adapter {wanted.reference} into the running server")
        return server.load_adapter(name, wanted.folder)

    def _below(self, server: Server, wanted: ModelFiles, digest: str) -> ServedModel | None:
        """Return the base below the adapter that the server was started with, if it is what is wanted."""
        if server.plan.capability is not None:
            return None  # it is put before the adapters' conversations alone
        if digest != _served_base_digest(server) or wanted.chat_template != server.plan.model.chat_template:
            return None
        name = server.control.base_name
        return replace(server.model, name=name, path=wanted.folder, digest=digest, template=wanted.template, base=None)

    def _reloaded(self, server: Server, wanted: ModelFiles) -> ServedModel:
        for name in list(server.control.adapters):
            server.unload_adapter(name)
        self._log.say(f"serve: loading the weights of {wanted.reference} into the running server")
        return server.reload(wanted.folder)

    def _started(self, request: ServeRequest, rank: int | None) -> ServedModel:
        files = local_model(request.model) if Path(request.model).is_dir() else None
        if files is not None and files.adapter is not None:
            rank = max(rank or 0, files.rank)
        asked = request
        if rank and request.backend != "llamafactory" and request.lora_later is None:
            asked = request.model_copy(update={"lora_later": rank})
        place = RunDirectory(self._folder).new_attempt()
        plan = plan_serving(asked)
        if plan.backend == "llamafactory" and asked is not request:
            plan = plan_serving(request)
        self.server = self._stack.enter_context(serve_plan(plan, place=place, stop=self._stop, reporter=self._log))
        self._options = request.model_copy(update={"model": ""})
        return self.server.model


def _base_digest(adapter: ModelFiles, server: Server) -> str:
    assert adapter.base is not None
    return find_model(adapter.base, server.plan.python).digest()


def _served_base_digest(server: Server) -> str | None:
    if server.plan.model.adapter is None:
        return server.model.digest
    return server.plan.base.digest()
