"""The scorer: one process that has a server and evaluates one model after the other on it, as it is told to.

Which models have shared the server before makes no difference to a score: weights are exchanged as a whole, adapters
are kept apart by name, what was kept of earlier prompts is forgotten, and each trial has its own seed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.engines.lines import LineFollower
from agent_sft.errors import UserError, WorkFailed
from agent_sft.runs.processes import Interrupted, StopSignal, catch_signals
from agent_sft.stages.bench import Bench
from agent_sft.stages.evaluating import check_complete, evaluate_on, serve_request
from agent_sft.stages.reporting import EvaluationProgress, TrainingProgress
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
            self._bench.have(serve_request(config.model, config.serve), order.lora_rank)
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
        model = self._bench.have(serve_request(config.model, config.serve), rank)
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
