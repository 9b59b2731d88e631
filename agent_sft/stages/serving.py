"""A model served for as long as it is needed: started, known to be ready, watched, and gone afterwards."""

from __future__ import annotations

import secrets
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from agent_sft.config.serve import ServeRequest
from agent_sft.engines.endpoint import Refused, refuses_without_key
from agent_sft.engines.failures import server_remedy
from agent_sft.engines.llamafactory import api_server
from agent_sft.engines.llamafactory.launch import SHARED as LLAMAFACTORY
from agent_sft.engines.llamafactory.launch import shown_environment
from agent_sft.engines.served import ServedModel
from agent_sft.engines.vllm import failures as vllm_failures
from agent_sft.engines.vllm.flags import command_line
from agent_sft.engines.vllm.launch import CAPABILITY, SHARED, serving_environment
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import write_atomic, write_json
from agent_sft.runs.devices import Gpu, free_memory, gpu_variables, wait_for_memory
from agent_sft.runs.processes import Child, StopSignal
from agent_sft.stages.plan import settings_yaml
from agent_sft.stages.reporting import Reporter
from agent_sft.stages.serving_control import Control
from agent_sft.stages.serving_plan import ServePlan, plan_serving

READY_SECONDS = 1800.0
"""A server that answers nothing for so long is taken for dead: large models load in minutes."""
POLL_SECONDS = 0.2
WATCH_SECONDS = 1.0
GRACE_SECONDS = 10.0
"""How long a server may take to end by itself."""
HIDDEN = "(random)"
"""Shown in place of the key."""

__all__ = ["ServeRequest", "Server", "serve"]


class Server:
    """A running server."""

    def __init__(self, plan: ServePlan, place: Path, hold: Sequence[int] = (), key: str | None = None) -> None:
        """Start it; `wait_until_ready` comes next.

        Args:
            plan: what to serve.
            place: folder for its log; made if it is missing.
            hold: file descriptors (locks) that stay open until all of it is gone.
            key: the API key; a random one when None.

        Raises:
            UserError: the port is in use.
        """
        self.plan = plan
        self.log = place / "server.log"
        port, key = free_port(plan.request.port), key or random_key()
        place.mkdir(parents=True, exist_ok=True)  # not before the port is known to be free
        self.control = _control(plan, port, key)
        self._ready = False
        self._memory = free_memory(plan.gpus)
        command, environment = launch(plan, port, key, place)
        self.log.unlink(missing_ok=True)
        shared = SHARED if plan.backend == "vllm" else LLAMAFACTORY
        self._child = Child(command if plan.gpus else shared.forked(command), log=self.log, env=environment, hold=hold)

    @property
    def model(self) -> ServedModel:
        """The model that was asked for."""
        return self.control.model

    def adapter(self, name: str) -> ServedModel:
        """Return one of the adapters at this address as a model of its own."""
        return self.control.adapter(name)

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
            without = self.control.endpoint.complete_one_token(self.plan.name, tools=False)
            stop.leave()
            # Where a capability brings tools along, they are in the prompt either way: there is nothing to compare.
            brings = self.plan.capability is not None and self.plan.capability.tools is not None
            if (
                self.plan.request.tools
                and not brings
                and self.control.endpoint.complete_one_token(self.plan.name, tools=True) <= without
            ):
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
            self.control.endpoint.call("GET", "/health", timeout=10)
        except Refused as refused:
            return refused.status != 503  # the engine died under it
        except TimeoutError:
            return True  # busy
        except OSError:
            return False
        return True

    def watch(self, stop: StopSignal) -> NoReturn:
        """Wait for the end of a server that is ready.

        Raises:
            Interrupted: a signal came.
            WorkFailed: the server died.
        """
        while self.alive():
            stop.pause(WATCH_SECONDS)
        raise self.failure("the server died")

    def why_dead(self) -> str:
        """Return how the server ended, the end of its log, and what to do, as far as the cause is known."""
        return str(self.failure("the server has ended"))

    def failure(self, what: str) -> WorkFailed:
        """Return the error that tells of the server's end.

        Args:
            what: happened, in a sentence.
        """
        status = self._child.poll()
        known = (vllm_failures if self.plan.backend == "vllm" else api_server).KNOWN
        remedy = server_remedy(self.log, known, status or 0, what)
        return WorkFailed(what if status is None else f"{what} (exit code {status})", log=self.log, fix=remedy)

    def load_adapter(self, name: str, path: Path) -> ServedModel:
        """Add an adapter while it runs; see `Control.load_adapter`."""
        return self.control.load_adapter(name, path)

    def unload_adapter(self, name: str) -> None:
        """Take an adapter away while it runs; see `Control.unload_adapter`."""
        self.control.unload_adapter(name)

    def reload(self, path: Path) -> ServedModel:
        """Exchange the weights while it runs; see `Control.reload`. A server that refuses is ended."""
        try:
            return self.control.reload(path)
        except WorkFailed:
            self._child.kill()
            raise

    def stop(self) -> tuple[Gpu, ...]:
        """End the server and all it started, and wait until its memory is free.

        Returns:
            GPUs whose memory was not free again within a minute.
        """
        if self._ready:
            # Asked twice: a request during start-up is swallowed. Before it is ready there is nothing to end well.
            for _ in range(2):
                self._child.terminate()
                if self._ended_within(GRACE_SECONDS / 2):
                    break
        self._child.kill()
        return wait_for_memory(self._memory)

    def _answers(self) -> bool:
        try:
            return self.plan.name in self.control.endpoint.models() and refuses_without_key(self.model.url)
        except (OSError, Refused, KeyError):
            return False

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
    with serve_plan(plan_serving(request), place=place, stop=stop, reporter=reporter) as server:
        yield server


@contextmanager
def serve_plan(
    plan: ServePlan,
    *,
    place: Path,
    stop: StopSignal,
    reporter: Reporter | None = None,
    hold: Sequence[int] = (),
    key: str | None = None,
) -> Iterator[Server]:
    """Serve what was planned; as `serve`, with a key of one's own and descriptors as `Server` takes them."""
    say = reporter.say if reporter is not None else _say_nothing
    for note in plan.notes:
        say(f"serve: {note}")
    server = Server(plan, place, hold, key)
    try:
        say(f"serve: starting {plan.backend} with {plan.model.reference}; log in {server.log}")
        server.wait_until_ready(stop)
        yield server
    finally:
        for gpu in server.stop():
            say(f"serve: the server is gone, yet GPU {gpu.index} has less free memory than before: see nvidia-smi")


def _say_nothing(_text: str) -> None:
    pass


def _control(plan: ServePlan, port: int, key: str) -> Control:
    adapters = {name: adapter.folder.absolute() for name, adapter in plan.adapters.items()}
    model = ServedModel(
        name=plan.name,
        url=f"http://127.0.0.1:{port}/v1",
        api_key=key,
        backend=plan.backend,
        template=plan.template,
        tools=plan.request.tools,
        max_model_len=plan.length,
        path=plan.model.folder.absolute() if plan.model.local else None,
        digest=plan.digest,
        adapters=tuple(adapters),
        capability=plan.capability.digest if plan.capability is not None else None,
        base=plan.base_name if plan.model.adapter is not None and plan.backend == "vllm" else None,
    )
    return Control(
        model=model,
        base_name=plan.base_name,
        base_folder=plan.base.folder.absolute(),
        highest_rank=int(plan.settings.get("max_lora_rank") or 0),
        adapters=adapters,
    )


def launch(plan: ServePlan, port: int, key: str, place: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that start a plan's server."""
    assert plan.python is not None
    if plan.backend == "llamafactory":
        settings = place / "llamafactory.yaml"
        write_atomic(settings, settings_yaml(dict(plan.settings)))
        return (
            api_server.server_command(plan.python, settings.absolute()),
            _environment(plan, port, key),
        )
    environment = _environment(plan, port, key)
    if plan.capability is not None:
        file = place / "capability.json"
        left_alone = [plan.base_name] if plan.base_name != plan.name else []
        write_json(file, {**plan.capability.record, "left_alone": left_alone})
        environment[CAPABILITY] = str(file.absolute())
    return command_line(plan.python, _vllm_arguments(plan, port)), environment


def _vllm_arguments(plan: ServePlan, port: int | str) -> dict[str, Any]:
    arguments = {**plan.settings, "port": port}
    if plan.adapters:
        arguments["lora_modules"] = [
            {"name": name, "path": str(adapter.folder.absolute())} for name, adapter in plan.adapters.items()
        ]
    return arguments


def _environment(plan: ServePlan, port: int | str, key: str) -> dict[str, str]:
    if plan.backend == "llamafactory":
        environment = api_server.server_environment(key, port, plan.name)
    else:
        environment = serving_environment(key, local=plan.base.local, on_gpu=bool(plan.gpus))
    chosen = gpu_variables([gpu.index for gpu in plan.gpus]) if plan.request.gpus is not None else {}
    return {**environment, **chosen}


def shown_launch(plan: ServePlan) -> Iterator[str]:
    """Return, line by line, what starting a plan's server would run, without its key."""
    yield from (f"# {note}" for note in plan.notes)
    yield f"# model {plan.name}: {plan.model.reference} ({plan.digest})"
    if plan.template:
        yield f"# trained with the template {plan.template}"
    if plan.capability is not None:
        yield f"# {plan.capability.reference} ({plan.capability.digest}) is put before every conversation"
    if plan.python is None:
        yield "# the environment is not installed (`agent-sft setup serve`): flags are unchecked"
    port = plan.request.port or "FREE_PORT"
    python = plan.python or Path(".venvs/serve/bin/python")
    if plan.backend == "llamafactory":
        yield "# llamafactory.yaml"
        yield settings_yaml(dict(plan.settings)).rstrip()
        command = api_server.server_command(python, Path("llamafactory.yaml"))
    else:
        command = command_line(python, _vllm_arguments(plan, port))
    for name, value in shown_environment(_environment(plan, port, HIDDEN)).items():
        yield f"export {name}={shlex.quote(value)}"
    yield " ".join(map(shlex.quote, command))


def random_key() -> str:
    """Return an API key that nobody can guess."""
    return secrets.token_urlsafe(32)


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
