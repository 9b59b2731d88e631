"""The scorer: one process that has a server and evaluates one model after the other on it, as it is told to.

Which models have shared the server before makes no difference to a score: weights are exchanged as a whole, adapters
are kept apart by name, what was kept of earlier prompts is forgotten, and each trial has its own seed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.engines.lines import LineFollower
from agent_sft.engines.model_files import ModelFiles
from agent_sft.engines.served import ServedModel
from agent_sft.errors import UserError, WorkFailed
from agent_sft.runs.directory import RunDirectory
from agent_sft.runs.processes import Interrupted, StopSignal, catch_signals
from agent_sft.stages.evaluating import check_complete, evaluate_on, serve_request
from agent_sft.stages.reporting import EvaluationProgress, TrainingProgress
from agent_sft.stages.serving import Server, ServeRequest, serve_plan
from agent_sft.stages.serving_plan import default_name, find_model, local_model, plan_serving
from agent_sft.sweep.doneness import make_room
from agent_sft.sweep.orders import OUTCOMES, QUEUE, Answer, Order, write_line

POLL_SECONDS = 0.05
RESTARTS = 2
"""How often a server that died is started again for the same evaluation."""
PROGRESS_SECONDS = 30.0


class Log:
    """Writes what is said into the log of the job that is worked on."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._said = 0.0

    def say(self, text: str) -> None:
        """Write a line."""
        if self.path is None:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
            return
        # On a full disk the trials tell what happened, or that nothing could be written.
        with suppress(OSError), self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"{text}\n")

    def progress(self, progress: EvaluationProgress | TrainingProgress) -> None:
        """Write a line once in a while."""
        if isinstance(progress, EvaluationProgress) and (
            time.monotonic() - self._said >= PROGRESS_SECONDS or progress.done == progress.total
        ):
            self._said = time.monotonic()
            self.say(f"evaluating: trial {progress.done}/{progress.total}, {progress.successes} succeeded")

    def progress_ended(self) -> None:
        """Nothing to take away."""


class Bench:
    """A place with one server at most, on which whatever model is wanted can be had."""

    def __init__(self, folder: Path, log: Log, stop: StopSignal) -> None:
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


class Scorer:
    """Carries orders out, one after the other."""

    def __init__(self, folder: Path, stop: StopSignal) -> None:
        self._folder = folder
        self._stop = stop
        self._orders = LineFollower(folder / QUEUE)
        self._log = Log()
        self._bench = Bench(folder, self._log, stop)

    def run(self) -> None:
        """Work until there is nothing more to come.

        Raises:
            Interrupted: the user stopped it.
        """
        try:
            for order in self._coming():
                if order.what == "warm":
                    self._warm(order)
                else:
                    write_line(self._folder / OUTCOMES, self._carried_out(order))
        finally:
            self._bench.end()

    def _coming(self) -> Iterator[Order]:
        while True:
            for line in self._orders.new_lines():
                order = msgspec.convert(line, Order)
                if order.what == "end":
                    return
                yield order
            self._stop.leave()
            time.sleep(POLL_SECONDS)

    def _warm(self, order: Order) -> None:
        """Serve a model before it is needed. Where that fails, the first model to score tells of it."""
        config = EvaluationConfig.model_validate(order.evaluation)
        try:
            self._bench.have(serve_request(config), order.lora_rank)
        except (UserError, WorkFailed) as error:
            self._log.say(str(error))
            self._bench.end()

    def _carried_out(self, order: Order) -> Answer:
        config = EvaluationConfig.model_validate(order.evaluation)
        self._log.path = Path(order.log)
        try:
            for attempt in range(RESTARTS + 1):
                try:
                    self._scored(config, order.lora_rank)
                except WorkFailed as failure:
                    if not self._bench.died:
                        return self._failed(order, failure)
                    assert self._bench.server is not None
                    self._log.say(self._bench.server.why_dead())
                    self._bench.end()
                    if attempt == RESTARTS:
                        what = f"its server died {RESTARTS + 1} times"
                        self._log.say(f"error: {what}")
                        return Answer(job=order.job, status=1, reason=what, final=True)
                else:
                    return Answer(job=order.job, status=0)
            raise AssertionError
        except UserError as error:
            return self._failed(order, error)
        finally:
            self._log.path = None

    def _failed(self, order: Order, error: UserError | WorkFailed) -> Answer:
        self._log.say(f"error: {error}")
        return Answer(job=order.job, status=error.exit_code, reason=str(error).splitlines()[0])

    def _scored(self, config: EvaluationConfig, rank: int | None) -> None:
        model = self._bench.have(serve_request(config), rank)
        if (other := make_room(config)) is not None:
            self._log.say(f"set aside what {config.out} held: {other}")
        found = evaluate_on(self._bench.server, model, config, reporter=self._log, stop=self._stop)
        check_complete(found)


def main(folder: Path) -> int:
    """Carry out what `queue.jsonl` in `folder` asks for; return the exit code."""
    try:
        with catch_signals() as stop:
            Scorer(folder, stop).run()
    except Interrupted as stopped:
        return stopped.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
