"""Scores benchmarks while a training runs: hears what is due, has it scored, tells the trainer what comes of it."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent_sft.engines.lines import LineFollower
from agent_sft.errors import UserError, WorkFailed
from agent_sft.files import read_json, read_lines, write_json
from agent_sft.runs.devices import gpu_variables
from agent_sft.runs.processes import Interrupted, StopSignal
from agent_sft.stages.callbacks.contract import EPOCH, EVAL_LOSS, RATE, TRAIN_LOSS, Begin, End, Measured
from agent_sft.stages.callbacks.registry import make_callbacks
from agent_sft.stages.in_loop.best import Best
from agent_sft.stages.in_loop.plan import LoopPlan, late_benchmarks, plan_loop
from agent_sft.stages.in_loop.scoring import Scored, Scorer
from agent_sft.stages.plan import TrainingPlan
from agent_sft.stages.reporting import Reporter

ORDER, DUE, SCORES = "loop.order.json", "loop.due.jsonl", "loop.scores.jsonl"
KEY = "AGENT_SFT_LOOP_KEY"
RECORD = "in_loop.json"
"""What came of the scores, in the run's directory: which step was chosen, why the training ended."""


@dataclass(frozen=True)
class _Done:
    """A step whose benchmarks were scored."""

    due: Mapping[str, Any]
    scored: tuple[Scored, ...]
    error: Exception | None = None
    """A fault of ours: a training that waits for a score must not wait for ever."""


class InLoop:
    """The supervisor's side of it."""

    def __init__(self, plan: TrainingPlan, loop: LoopPlan, reporter: Reporter, stop: StopSignal) -> None:
        """Prepare; `order` comes next."""
        self._plan, self._loop, self._reporter, self._stop = plan, loop, reporter, stop
        self._callbacks = make_callbacks(loop.callbacks, where="callbacks")
        self._key = secrets.token_urlsafe(32)
        self._scorer = Scorer(plan, loop, self._key, reporter, stop)
        self._best = Best(loop.best_by) if loop.best_by is not None else None
        self._due: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self._done: queue.Queue[_Done] = queue.Queue()
        self._why: str | None = None
        self._step = 0
        self._worker: threading.Thread | None = None
        self._late = False

    def variables(self) -> dict[str, str]:
        """Return what the trainer's environment must hold."""
        found = {KEY: self._key} if self._loop.where == "in_process" else {}
        for callback in self._callbacks:
            found |= callback.variables()
        if self._loop.gpus:
            found |= gpu_variables([gpu.index for gpu in self._plan.gpus if gpu not in self._loop.gpus])
        return found

    def order(self, attempt: Path, resume: Path | None) -> None:
        """Tell the trainer what to do, and the callbacks where it goes on from."""
        self._attempt = attempt
        self._follower = LineFollower(attempt / DUE)
        step = int((read_json(resume / "trainer_state.json") or {}).get("global_step", 0)) if resume else 0
        known = [line for line in self._earlier() if line["step"] <= step] if resume else []
        history = self._history(step, known)
        loop, config = self._loop, self._plan.config
        begin = Begin(
            name=config.dataset_name,
            folder=self._plan.run.path,
            benchmarks=loop.benchmarks,
            step=step,
            history=history,
            best_by=loop.best_by,
            say=lambda text: self._reporter.say(f"train: {text}"),
        )
        for callback in self._callbacks:
            callback.on_begin(begin)
        for measured in history:
            self._enter(measured)
        self._lines = known
        write_json(
            attempt / ORDER,
            {
                "every": loop.every,
                "at_end": any(not one.run_every for one in loop.benchmarks),
                "batch": max((one.batch_size for one in loop.benchmarks), default=1),
                "in_process": loop.where == "in_process",
                "from_start": True,
                "save_at": list(config.save_at),
                "choose": loop.best_by is not None,
                "known": [{**line, "best": self._chosen(), "end": False} for line in known],
            },
        )
        if loop.benchmarks:
            place = "by the model that trains" if loop.where == "in_process" else "on a server beside the training"
            self._reporter.say(f"benchmarks: scored {place}: {loop.why}")

    def saw(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Take in lines of the trainer's log."""
        for line in lines:
            for measured in of_log(line):
                self._step = max(self._step, measured.step)
                if self._tell(measured):
                    (self._attempt / "end").touch()

    def look(self) -> None:
        """Hand on what is due, and what was scored."""
        for due in self._follower.new_lines():
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, daemon=True)
                self._worker.start()
            self._due.put(due)
        if not self._late and (begun := read_json(self._attempt / "training.json")) is not None:
            self._late = True
            for text in late_benchmarks(self._loop.benchmarks, int(begun["max_steps"])):
                self._reporter.say(text)
        with suppress(queue.Empty):
            while True:
                self._take(self._done.get_nowait())

    def finish(self, final: Path) -> None:
        """Score the trained model by what is scored once, where the trainer did not do that itself."""
        due = self._loop.due(0, last=True, chosen=True)
        if self._loop.where == "server" and due:
            best = self._best.found if self._best is not None else None
            line = {"step": best[0] if best else self._step, "path": str(final), "chosen": True}
            scored = tuple(self._scorer.score(benchmark, line) for benchmark in due)
            self._take(_Done(line, scored))

    def end(self, status: str, step: int) -> None:
        """Tell the callbacks how the training ended."""
        best = self._best.found if self._best is not None else None
        if status == "completed" and self._best is not None and best is None:
            self._reporter.say(f"train: {self._best.key} has no score at any step: the model is that of the last one")
        record = {
            "status": status,
            "step": step,
            "why": self._why,
            "best": best,
            "best_by": self._loop.best_by,
            "scores": [{key: line[key] for key in ("step", "metrics", "folders")} for line in self._lines],
        }
        write_json(self._plan.run.path / RECORD, record)
        for callback in self._callbacks:
            callback.on_end(End(status, step, self._why, best))  # type: ignore[arg-type]

    def close(self) -> None:
        """End the server, if there is one, and whatever is still being scored."""
        if self._worker is not None:
            self._due.put(None)
            if self._stop.count:
                self._worker.join()
        self._scorer.close()

    def _work(self) -> None:
        while (due := self._due.get()) is not None:
            asked = self._loop.due(int(due["step"]), last=bool(due.get("last")), chosen=bool(due.get("chosen")))
            try:
                self._done.put(_Done(due, tuple(self._scorer.score(benchmark, due) for benchmark in asked)))
            except Interrupted:
                return
            except Exception as error:
                self._done.put(_Done(due, (), error))
                return

    def _take(self, done: _Done) -> None:
        if done.error is not None:
            raise done.error
        metrics: dict[str, float] = {}
        folders: dict[str, str] = {}
        ends = False
        for scored in done.scored:
            if scored.folder is not None:
                folders[scored.benchmark.name] = str(scored.folder.relative_to(self._plan.run.path))
            for callback in self._callbacks:
                callback.on_predictions(scored.benchmark, scored.predictions)
            self._reporter.say(f"train: {scored.said}")
            self._plan.run.record(
                "benchmark scored", step=scored.step, benchmark=scored.benchmark.name, said=scored.said
            )
            if scored.measured is not None:
                metrics |= scored.measured.metrics
                self._enter(scored.measured)
                ends = self._tell(scored.measured) or ends
        line = {
            "step": int(done.due["step"]),
            "metrics": metrics,
            "best": self._chosen(),
            "end": ends,
            "folders": folders,
        }
        self._lines.append(line)
        with (self._attempt / SCORES).open("ab") as stream:
            stream.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def _enter(self, measured: Measured) -> None:
        if self._best is not None:
            self._best.add(measured)

    def _chosen(self) -> dict[str, Any] | None:
        found = self._best.found if self._best is not None else None
        return {"step": found[0], "score": found[1]} if found is not None else None

    def _tell(self, measured: Measured) -> bool:
        """Tell the callbacks; return whether one of them wants the training to end, which is said once."""
        whys = [why for callback in self._callbacks if (why := callback.on_metrics(measured)) is not None]
        if whys and self._why is None:
            self._why = whys[0]
            self._reporter.say(f"train: ends at step {measured.step}: {self._why}")
        return bool(whys)

    def _earlier(self) -> list[dict[str, Any]]:
        """Return the lines of scores of all attempts before this one, the last one of each step."""
        found: dict[int, dict[str, Any]] = {}
        attempts = sorted(self._attempt.parent.iterdir(), key=lambda path: int(path.name))
        for folder in attempts:
            for line in read_lines(folder / SCORES) if folder != self._attempt else ():
                found[line["step"]] = line
        return [found[step] for step in sorted(found)]

    def _history(self, step: int, known: Iterable[Mapping[str, Any]]) -> tuple[Measured, ...]:
        logged = read_lines(self._plan.output_dir / "trainer_log.jsonl") if step else []
        found = {(one.step, one.split, ""): one for line in logged for one in of_log(line) if one.step <= step}
        for line in known:
            for benchmark in self._loop.benchmarks:
                mine = {key: value for key, value in line["metrics"].items() if key.startswith(benchmark.key(""))}
                if mine:
                    found[line["step"], benchmark.split, benchmark.name] = Measured(line["step"], benchmark.split, mine)
        order = {"train": 0, "eval": 1}
        return tuple(found[key] for key in sorted(found, key=lambda key: (key[0], order.get(key[1], 2), key[2])))


def of_log(line: Mapping[str, Any]) -> Iterator[Measured]:
    """Yield what a line of the trainer's log measures."""
    if not line.get("current_steps"):
        return
    step = int(line["current_steps"])
    if line.get("loss") is not None:
        named = {TRAIN_LOSS: line["loss"], RATE: line.get("lr"), EPOCH: line.get("epoch")}
        yield Measured(step, "train", {name: float(value) for name, value in named.items() if value is not None})
    if line.get("eval_loss") is not None:
        yield Measured(step, "eval", {EVAL_LOSS: float(line["eval_loss"])})


@contextmanager
def in_loop(
    plan: TrainingPlan, attempt: Path, resume: Path | None, reporter: Reporter, stop: StopSignal
) -> Iterator[InLoop | None]:
    """Yield what scores while the training in this block runs, None where nothing is to be scored.

    Args:
        plan: the training.
        attempt: the folder in which the trainer and we exchange what is going on.
        resume: the checkpoint that it goes on from.
        reporter: is told the scores.
        stop: signals that end it.

    Raises:
        UserError: what is asked for cannot be scored; before anything is trained.
        WorkFailed: a file could not be written, later.
    """
    loop = plan_loop(plan)
    if loop is None or plan.launch.node_rank != 0:
        yield None
        return
    scoring = InLoop(plan, loop, reporter, stop)
    scoring.order(attempt, resume)
    status = "failed"
    try:
        yield scoring
        status = "completed"
    except Interrupted:
        status = "stopped"
        raise
    except UserError as error:
        # Of a request that is refused nothing is left behind; of a training that has begun all is.
        raise WorkFailed(str(error), log=attempt / "train.log") from error
    finally:
        scoring.close()
        outcome = read_json(attempt / "outcome.json") or {}
        scoring.end(status, int(outcome.get("global_step") or 0))
