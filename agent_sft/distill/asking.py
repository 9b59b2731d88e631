"""The command's hold on its gateway: started for the time of a block, and waited for at the end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from agent_sft.config.distill import DistillConfig
from agent_sft.distill.gateway import Order, Status
from agent_sft.distill.purse import Ceilings
from agent_sft.engines.endpoint import Endpoint
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed
from agent_sft.report.numbers import counted
from agent_sft.runs.lock import holder, is_held
from agent_sft.runs.processes import StopSignal
from agent_sft.stages.serving import random_key

LOG = "gateway.log"
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    model: ServedModel
    """The teacher behind it, as evaluators ask it."""
    endpoint: Endpoint

    def status(self) -> Status:
        """Return how far it is.

        Raises:
            WorkFailed: it is gone.
        """
        try:
            return msgspec.convert(self.endpoint.call("GET", "/status", timeout=30), Status)
        except OSError as error:
            raise WorkFailed(
                f"the process that asks the teacher is gone ({error})", fix="the same command goes on"
            ) from error


@contextmanager
def gateway(
    teacher: ServedModel,
    config: DistillConfig,
    folder: Path,
    *,
    hold: int,
    stop: StopSignal,
    say: Callable[[str], None],
) -> Iterator[Gateway]:
    """Run a gateway to a teacher; at the end, wait for the answers that are under way, which are paid for.

    Args:
        teacher: who is asked.
        config: of the distillation.
        folder: where the answers are kept.
        hold: descriptor of the lock that it keeps until it has ended.
        stop: a second signal ends the waiting.
        say: is told what is waited for.

    Raises:
        UserError: the answers cannot be read or written.
        WorkFailed: it did not start.
    """
    order = _order(teacher, config, folder)
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "agent_sft.distill.gateway"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=(hold,),
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        process.stdin.flush()
        said = process.stdout.readline().decode().strip()
        if not said.isdigit():
            words = (said + process.stdout.read().decode()).removeprefix("error: ")
            if words:
                raise UserError(words)
            raise WorkFailed("the process that asks the teacher did not start", log=folder / LOG)
        url = f"http://127.0.0.1:{said}/v1"
        model = replace(teacher, url=url, api_key=order.own_key, backend="address", path=None)
        running = Gateway(model, Endpoint(url, order.own_key))
        try:
            yield running
        finally:
            with suppress(WorkFailed):
                if (left := running.status().under_way) > 0:
                    say(f"waiting for {counted(left, 'answer')} under way and paid for (Ctrl-C again leaves them)")
    finally:
        _end(process, stop)


def wait_for_last_answers(lock: Path, stop: StopSignal, say: Callable[[str], None]) -> None:
    """Wait until the gateway of a command that was killed has its last answers, if there is one."""
    said = False
    while is_held(lock) and holder(lock) is None:
        if not said:
            say("waiting for the last answers to an earlier command, which was killed")
            said = True
        stop.pause(0.2)


def _order(teacher: ServedModel, config: DistillConfig, folder: Path) -> Order:
    return Order(
        folder=str(folder.resolve()),
        reuse=tuple(str(one.resolve()) for one in config.reuse),
        url=teacher.url,
        name=teacher.name,
        api_key=teacher.api_key,
        identity=_identity(teacher),
        own_key=random_key(),
        connections=config.concurrency,
        timeout=config.request_timeout,
        retries=config.max_retries,
        request=config.request,
        ceilings=Ceilings(
            tokens=config.max_tokens_total, money=config.budget, price_in=config.price_in, price_out=config.price_out
        ),
    )


def _identity(teacher: ServedModel) -> str:
    """Return what tells a teacher from others: its weights, else its name and where it is.

    Servers on this machine change their ports.
    """
    if teacher.digest is not None:
        return teacher.digest
    place = urlsplit(teacher.url)
    return teacher.name if place.hostname in LOCAL else f"{teacher.name} at {place.netloc}{place.path}"


def _end(process: subprocess.Popen[bytes], stop: StopSignal) -> None:
    """Let it have its last answers; a second signal leaves them."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    while process.poll() is None:
        if stop.count > 1:
            process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
