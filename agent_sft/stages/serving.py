"""A model served for as long as it is needed: started, known to be ready, watched, and gone afterwards."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from agent_sft.config.serve import ServeRequest
from agent_sft.engines.endpoint import Endpoint, Refused, refuses_without_key
from agent_sft.engines.llamafactory import api_server
from agent_sft.engines.model_files import ModelFiles
from agent_sft.engines.served import ServedModel
from agent_sft.engines.vllm import failures as vllm_failures
from agent_sft.engines.vllm.flags import command_line
from agent_sft.engines.vllm.launch import serving_environment
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import write_atomic
from agent_sft.runs.devices import Gpu, gpu_processes, visible_gpus
from agent_sft.runs.processes import Child, StopSignal
from agent_sft.stages.plan import settings_yaml
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.serving_plan import ServePlan, check_adapter, local_model, plan_serving

READY_SECONDS = 1800.0
"""A server that answers nothing for so long is taken for dead: large models load in minutes."""
POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0
"""How long a server may take to end by itself."""
MEMORY_SECONDS = 60.0
"""How long a driver may take to free a GPU's memory once its processes are gone."""
MEMORY_SLACK = 0.02
"""Share of a GPU's memory by which what is free may differ from before."""

__all__ = ["ServeRequest", "Server", "serve"]


class Server:
    """A running server."""

    def __init__(self, plan: ServePlan, port: int, key: str, place: Path) -> None:
        """Start it; `wait_until_ready` comes next.

        Args:
            plan: what to serve.
            port: on 127.0.0.1.
            key: that every request must carry.
            place: folder for its log.
        """
        self.plan = plan
        self.log = place / "server.log"
        self._endpoint = Endpoint(f"http://127.0.0.1:{port}", key)
        self._key = key
        self._port = port
        self._loaded: dict[str, ModelFiles] = dict(plan.adapters)
        self._reloaded: tuple[ModelFiles, str] | None = None
        self._ready = False
        self._memory = _free_memory(plan.gpus)
        command, environment = launch(plan, port, key, place)
        self._child = Child(command, log=self.log, env=environment)

    @property
    def model(self) -> ServedModel:
        """The model that was asked for."""
        plan = self.plan
        model, digest = self._reloaded or (plan.model, plan.digest)
        return ServedModel(
            name=plan.name,
            url=f"http://127.0.0.1:{self._port}/v1",
            api_key=self._key,
            backend=plan.backend,
            template=plan.template,
            tools=plan.request.tools,
            max_model_len=plan.length,
            path=model.folder if model.local else None,
            digest=digest,
            adapters=tuple(self._loaded),
            base=plan.base_name if plan.model.adapter is not None else None,
        )

    def adapter(self, name: str) -> ServedModel:
        """Return one of the adapters at this address as a model of its own."""
        files = self._loaded[name]
        return replace(
            self.model,
            name=name,
            path=files.folder,
            digest=files.digest(),
            base=self.plan.base_name,
            template=files.template or self.plan.template,
        )

    def wait_until_ready(self, stop: StopSignal) -> None:
        """Wait until the process lives, the address shows our name, and one token was completed.

        Raises:
            WorkFailed: it died, is not ready in half an hour, or drops tools.
            Interrupted: the user stopped it.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            stop.leave()
            if self._child.poll() is not None:
                raise self.failure("the server ended before it was ready")
            if time.monotonic() > deadline:
                raise self.failure(f"the server was not ready after {READY_SECONDS / 60:.0f} minutes")
            time.sleep(POLL_SECONDS)
        try:
            without = self._endpoint.complete_one_token(self.plan.name, tools=False)
            stop.leave()
            if self.plan.request.tools and self._endpoint.complete_one_token(self.plan.name, tools=True) <= without:
                raise WorkFailed(
                    "tools do not reach the prompt: the server drops them without a word",
                    log=self.log,
                    fix="--set chat_template=FILE takes a template that shows them; --no-tools serves it without",
                )
        except (OSError, Refused) as error:
            raise self.failure(f"the server is up and completes nothing ({error})") from error
        self._ready = True

    def alive(self) -> bool:
        """Tell whether the server lives and its engine with it."""
        if self._child.poll() is not None:
            return False
        if self.plan.backend != "vllm":
            return True
        try:
            self._endpoint.call("GET", "/health", timeout=10)
        except Refused as refused:
            return refused.status != 503  # the engine died under it
        except TimeoutError:
            return True  # busy
        except OSError:
            return False
        return True

    def why_dead(self) -> str:
        """Return how the server ended, the end of its log, and what to do, as far as the cause is known."""
        return str(self.failure("the server has ended"))

    def failure(self, what: str) -> WorkFailed:
        """Return the error that tells of the server's end.

        Args:
            what: happened, in a sentence.
        """
        status = self._child.poll()
        remedy = (vllm_failures if self.plan.backend == "vllm" else api_server).remedy(self.log, status or 0)
        return WorkFailed(what if status is None else f"{what} (exit code {status})", log=self.log, fix=remedy)

    def load_adapter(self, name: str, path: Path) -> ServedModel:
        """Add an adapter, or exchange the one of this name, while the server runs.

        Raises:
            UserError: it is no adapter, or does not belong to what is served.
            WorkFailed: the server refused it.
        """
        adapter = local_model(str(path))
        where = f"{name}={path}"
        highest = int(self.plan.settings.get("max_lora_rank") or 0)
        if adapter.adapter is None:
            raise UserError("is a whole model, not an adapter", where=where)
        if name in (self.plan.base_name, self.plan.name):
            raise UserError(f"'{name}' is the name of the model that is served", where=where, fix="choose another name")
        if adapter.rank > highest:
            raise UserError(
                f"its rank is {adapter.rank}, the server was started for {highest or 'no adapters'}",
                where=where,
                fix=f"start the server with --lora-later {adapter.rank}",
            )
        check_adapter(adapter, self.plan.model, where)
        body = {"lora_name": name, "lora_path": str(adapter.folder.absolute()), "load_inplace": name in self._loaded}
        self._ask("/v1/load_lora_adapter", body, f"the adapter {where} was not loaded")
        self._loaded[name] = adapter
        return self.adapter(name)

    def unload_adapter(self, name: str) -> None:
        """Take an adapter away while the server runs.

        Raises:
            UserError: there is none of this name.
            WorkFailed: the server refused.
        """
        if name not in self._loaded:
            raise UserError(f"no adapter is called '{name}'", fix=f"there are: {', '.join(self._loaded) or 'none'}")
        self._ask("/v1/unload_lora_adapter", {"lora_name": name}, f"the adapter {name} was not taken away")
        del self._loaded[name]

    def reload(self, path: Path) -> ServedModel:
        """Exchange the weights for those of another checkpoint of the same shape, in a second or less.

        The name stays what it was; path and digest of the model tell whose weights are served.

        Raises:
            UserError: it is another architecture, tokenizer or chat template, or no whole model.
            WorkFailed: the server refused it; what it serves now is unknown, so it is ended.
        """
        if self.plan.backend != "vllm":
            raise UserError("LLaMA-Factory's server cannot exchange its weights", fix="stop it and start another")
        model = local_model(str(path))
        _check_same_shape(model, self.plan.base)
        order = {"method": "reload_weights", "kwargs": {"weights_path": str(model.folder.absolute())}}
        try:
            self._ask("/collective_rpc", order, f"the weights of {path} were not loaded")
            self._ask("/reset_prefix_cache", None, "what was kept of earlier prompts was not forgotten")
        except WorkFailed:
            self._child.kill()
            raise
        self._reloaded = (model, model.digest())
        return self.model

    def stop(self) -> None:
        """End the server and all it started, and wait until its memory is free."""
        if self._ready:
            # Asked twice: a request during start-up is swallowed. Before it is ready there is nothing to end well.
            for _ in range(2):
                self._child.terminate()
                if self._ended_within(GRACE_SECONDS / 2):
                    break
        self._child.kill()
        _wait_for_memory(self._memory)

    def _answers(self) -> bool:
        try:
            return self.plan.name in self._endpoint.models() and refuses_without_key(self.model.url)
        except (OSError, Refused, KeyError):
            return False

    def _ask(self, path: str, body: object, what: str) -> None:
        try:
            self._endpoint.call("POST", path, body, timeout=600)
        except (OSError, Refused) as error:
            raise self.failure(f"{what}: {error}") from error

    def _ended_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                return True
            time.sleep(0.05)
        return False


@contextmanager
def serve(
    request: ServeRequest, *, place: Path, stop: StopSignal, reporter: Reporter | None = None
) -> Iterator[Server]:
    """Serve a model inside a `with` block; nothing of it is left afterwards, however the block or we end.

    Args:
        request: what to serve.
        place: folder for the server's log; made if it is missing.
        stop: signals that end the waiting.
        reporter: is told what is worth knowing.

    Raises:
        UserError: the request cannot be carried out.
        WorkFailed: the server did not come up; with the end of its log and the remedy where the cause is known.
        Interrupted: the user stopped it before it was ready.
    """
    plan = plan_serving(request)
    for note in plan.notes if reporter is not None else ():
        assert reporter is not None
        reporter.say(f"serve: {note}")
    place.mkdir(parents=True, exist_ok=True)
    port = free_port(request.port)
    server = Server(plan, port, secrets.token_urlsafe(32), place)
    try:
        if reporter is not None:
            reporter.say(f"serve: starting {plan.backend} on port {port}; log in {server.log}")
        server.wait_until_ready(stop)
        yield server
    finally:
        server.stop()


def launch(plan: ServePlan, port: int, key: str, place: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that start a plan's server."""
    assert plan.python is not None
    if plan.backend == "llamafactory":
        settings = place / "llamafactory.yaml"
        write_atomic(settings, settings_yaml(dict(plan.settings)))
        return (
            api_server.server_command(plan.python, settings.absolute()),
            api_server.server_environment(key, port, plan.name),
        )
    arguments = {**plan.settings, "port": port}
    if plan.adapters:
        arguments["lora_modules"] = [
            {"name": name, "path": str(adapter.folder.absolute())} for name, adapter in plan.adapters.items()
        ]
    chosen = [gpu.index for gpu in plan.gpus] if plan.request.gpus is not None or len(plan.gpus) > 1 else None
    environment = serving_environment(plan.base, key, gpus=chosen, on_gpu=bool(plan.gpus), length=plan.length)
    return command_line(plan.python, arguments), environment


def free_port(wanted: int | None) -> int:
    """Return `wanted`, or a port that the system chooses.

    Raises:
        UserError: somebody uses it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise UserError(
                f"the port cannot be used: {error.strerror}",
                where=f"--port {wanted}",
                fix="leave --port out and a free one is chosen, or stop what uses it",
            ) from error
        return int(probe.getsockname()[1])


def _check_same_shape(model: ModelFiles, served: ModelFiles) -> None:
    if model.adapter is not None:
        raise UserError("is an adapter", where=model.reference, fix="add it with `agent-sft serve load`")
    ignored = {"transformers_version", "_name_or_path", "use_cache", "dtype", "torch_dtype"}
    differing = [
        key
        for key in {**model.config, **served.config}
        if key not in ignored and model.config.get(key) != served.config.get(key)
    ]
    if differing:
        raise UserError(
            f"has another shape than the model that is served ({', '.join(sorted(differing)[:4])})",
            where=model.reference,
            fix="stop the server and start one for it",
        )
    for name in ("tokenizer.json", "chat_template.jinja"):
        mine, theirs = model.folder / name, served.folder / name
        if mine.is_file() != theirs.is_file() or (mine.is_file() and mine.read_bytes() != theirs.read_bytes()):
            raise UserError(
                f"its {name} differs from that of the model that is served",
                where=model.reference,
                fix="stop the server and start one for it",
            )


def _free_memory(gpus: tuple[Gpu, ...]) -> dict[str, int]:
    """Return the free memory of GPUs now, by their UUIDs, where the driver tells."""
    mine = {gpu.uuid for gpu in gpus}
    return {gpu.uuid: gpu.free_bytes for gpu in visible_gpus() if gpu.uuid in mine and gpu.free_bytes} if mine else {}


def _wait_for_memory(before: Mapping[str, int]) -> None:
    """Wait until as much of the GPUs' memory is free as before, unless others took it meanwhile."""
    deadline = time.monotonic() + MEMORY_SECONDS
    while before and time.monotonic() < deadline:
        now = {gpu.uuid: gpu for gpu in visible_gpus()}
        others = gpu_processes()
        held = [
            uuid
            for uuid, free in before.items()
            if (gpu := now.get(uuid)) is not None
            and (gpu.free_bytes or 0) < free - MEMORY_SLACK * (gpu.total_bytes or 0)
            and not others.get(uuid)
        ]
        if not held:
            return
        time.sleep(0.5)
