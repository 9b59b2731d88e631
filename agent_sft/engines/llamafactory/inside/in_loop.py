"""Scores while it trains: has the model answer benchmarks, or its checkpoints scored, and obeys what comes of it.

It knows nothing of benchmarks: who is asked what, and what an answer is worth, is the supervisor's.

Files in ATTEMPT_DIR, written by the supervisor:
    loop.order.json    what to do: see `Order`
    loop.scores.jsonl  a line for each step that is scored: `step`, `metrics`, `best` (the best step so far and its
                       score, or null), `end` (whether the training is to end)
    end                its presence ends the training after this step, as if it had been the last one
and by the first process of all:
    loop.due.jsonl     a line for each step to score: `step`, `last`, and `url` and `weights` of the model that
                       answers, or `path` of the checkpoint
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from answering import Answerer, Desk, weights_digest
from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

NAME = "agent_sft"
"""As one of the trainer's reporters: it stands before the trackers, so that what it adds to a log reaches them."""
KEY = "AGENT_SFT_LOOP_KEY"
POLL_SECONDS = 0.1


class InLoop(TrainerCallback):  # type: ignore[misc]
    """Scores at the steps that the order names."""

    def __init__(self, attempt: Path) -> None:
        self.attempt = attempt
        order = json.loads((attempt / "loop.order.json").read_text(encoding="utf-8"))
        self.every: list[int] = order["every"]  # steps between two scores, of each benchmark that has them
        self.at_end: bool = order["at_end"]  # whether there are benchmarks that are scored when all is done
        self.batch: int = order["batch"]
        self.in_process: bool = order["in_process"]
        self.from_start: bool = order["from_start"]  # score also before the first step
        self.save_at: list[float] = order["save_at"]  # shares of all steps
        self.choose: bool = order["choose"]  # whether the best step's weights become the model
        self.known: list[dict[str, Any]] = order["known"]  # lines of earlier attempts
        self.limit: int | None = None
        self.passing: set[int] = set()  # checkpoints that are there for being the best so far, and for nothing else
        self.ended = False
        self.asked: set[int] = set()
        self.read = 0
        self.scored: set[int] = set()
        self.fresh: dict[str, float] = {}  # scores that no log has yet
        self.desk: Desk | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take up what earlier attempts found, and score the model as it is before the first step."""
        self.first = state.is_world_process_zero
        if self.choose:
            # Held against the settings it would ask for an evaluation loss, which need not be there.
            args.load_best_model_at_end = True
        if (self.choose or not self.in_process) and args.save_total_limit:
            # The trainer would delete a checkpoint that is being scored, and at a stop the one to go on from.
            self.limit, args.save_total_limit = args.save_total_limit, None
        self.marks = {max(1, round(share * state.max_steps)) for share in self.save_at}
        for line in self.known:
            if line["step"] <= state.global_step:
                self._obey(args, state, control, line)
        self._catch_up(args, state, control, kwargs)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Score where a score is due, save where a checkpoint is, and obey scores that have come meanwhile."""
        step = state.global_step
        last = step >= state.max_steps or control.should_training_stop
        if step in self.marks:
            control.should_save = True
        if self._ask((self.attempt / "end").exists()):
            self._end(control)
        if not self.in_process:
            self._take(args, state, control, wait=False)
        if self._due(step, last or control.should_training_stop):
            if self.in_process:
                self._score_here(args, state, control, kwargs)
            else:
                control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Hand a checkpoint over to be scored; at the end wait until all are."""
        step = state.global_step
        last = step >= state.max_steps or control.should_training_stop
        checkpoint = Path(args.output_dir) / f"checkpoint-{step}"
        if state.best_global_step == step:
            state.best_model_checkpoint = str(checkpoint)
        if not self.in_process:
            if self._due(step, last) and step not in self.asked:
                self.asked.add(step)
                self._write({"step": step, "last": last, "path": str(checkpoint)})
            if last and not (self.attempt / "stop").exists():
                self._take(args, state, control, wait=True)
        self._tidy(args, state)
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Add scores to what is logged."""
        if logs is not None and self.fresh:
            logs.update(self.fresh)
            state.log_history[-1].update(self.fresh)
            self.fresh = {}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the model that was chosen, by what is scored once."""
        if self.at_end and self.in_process and not (self.attempt / "stop").exists():
            self._score_here(args, state, control, kwargs, chosen=True)
        if self.desk is not None:
            self.desk.close()

    def _catch_up(self, args: Any, state: Any, control: Any, objects: dict[str, Any]) -> None:
        """Score what an earlier attempt saved and had no time to score; and the model before its first step."""
        step = state.global_step
        if self.in_process:
            due = self._due(step, step >= state.max_steps) if step else bool(self.from_start and self.every)
            if due and step not in self.scored:
                self._score_here(args, state, control, objects)
            return
        for path in sorted(Path(args.output_dir).glob("checkpoint-*")):
            saved = int(path.name.rpartition("-")[2])
            if saved <= step and saved not in self.scored and self._due(saved, saved >= state.max_steps):
                self.asked.add(saved)
                self._write({"step": saved, "last": saved >= state.max_steps, "path": str(path)})

    def _due(self, step: int, last: bool) -> bool:
        return bool(self.every) and (last or any(step % every == 0 for every in self.every))

    def _score_here(
        self, args: Any, state: Any, control: Any, objects: dict[str, Any], *, chosen: bool = False
    ) -> None:
        """Answer benchmarks with the model as it is, until the supervisor has a score."""
        model = objects["model"]
        sharded = any(hasattr(weight, "ds_tensor") for weight in model.parameters())
        answerer = Answerer(model, objects["processing_class"], bf16=bool(args.bf16), sharded=sharded)
        weights = weights_digest(model)
        if self.first and self.desk is None:
            self.desk = Desk(os.environ[KEY])
        step = state.best_global_step if chosen and self.choose and state.best_global_step else state.global_step
        last = state.global_step >= state.max_steps or bool(control.should_training_stop)
        if self.first:
            assert self.desk is not None
            self._write({"step": step, "last": last, "chosen": chosen, "url": self.desk.url, "weights": weights})
        lines: list[dict[str, Any]] = []

        def finished() -> bool:
            lines.extend(self._lines())
            return bool(lines) or (self.attempt / "stop").exists()

        answerer.until(finished, self.desk, self.batch)
        for line in self._share(lines):
            self._obey(args, state, control, line, now=not chosen)

    def _take(self, args: Any, state: Any, control: Any, *, wait: bool) -> None:
        """Obey the scores that have come; wait for those that are still to come where asked to."""
        while True:
            for line in self._share(self._lines() if self.first else []):
                self._obey(args, state, control, line)
            if not self._share(wait and bool(self.asked - self.scored) and not (self.attempt / "stop").exists()):
                return
            time.sleep(POLL_SECONDS)

    def _obey(self, args: Any, state: Any, control: Any, line: dict[str, Any], *, now: bool = False) -> None:
        self.scored.add(line["step"])
        self.fresh |= line["metrics"]
        if now:
            control.should_log = True
        best = line["best"]
        if best is not None and self.choose and best["step"] > 0:
            state.best_metric, state.best_global_step = best["score"], best["step"]
            checkpoint = Path(args.output_dir) / f"checkpoint-{best['step']}"
            if best["step"] == state.global_step and now:
                if self.save_at and not control.should_save:
                    self.passing.add(best["step"])
                control.should_save = True
            elif checkpoint.is_dir():
                state.best_model_checkpoint = str(checkpoint)
        if line["end"]:
            self._end(control)

    def _end(self, control: Any) -> None:
        self.ended = True
        control.should_training_stop = True
        control.should_save = True

    def _tidy(self, args: Any, state: Any) -> None:
        """Keep as many checkpoints as are wanted, the best, the newest, and those without a score yet."""
        if not self.first:
            return
        found = {int(path.name.rpartition("-")[2]): path for path in Path(args.output_dir).glob("checkpoint-*")}
        steps = sorted(found)
        wanted = steps[-self.limit :] if self.limit else [step for step in steps if step not in self.passing]
        keep = {*wanted, *steps[-1:], state.best_global_step, *(self.asked - self.scored)}
        for step, path in found.items():
            if step not in keep:
                shutil.rmtree(path, ignore_errors=True)

    def _write(self, line: dict[str, Any]) -> None:
        if self.first:
            with (self.attempt / "loop.due.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")

    def _lines(self) -> list[dict[str, Any]]:
        """Return the whole lines of scores that have come since the last call."""
        try:
            with (self.attempt / "loop.scores.jsonl").open("rb") as stream:
                stream.seek(self.read)
                text = stream.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self.read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def _ask(self, mine: bool) -> bool:
        return bool(self._share(mine))

    def _share(self, value: Any) -> Any:
        """Return the first process's value, on every process."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return value
        shared = [value]
        dist.broadcast_object_list(shared, src=0)
        return shared[0]


def joined(settings: dict[str, Any], attempt: Path) -> InLoop | None:
    """Make the callback one of the trainer's reporters, if there is an order; return it."""
    if not (attempt / "loop.order.json").exists():
        return None
    in_loop = InLoop(attempt)
    INTEGRATION_TO_CALLBACK[NAME] = in_loop
    reporters = settings.get("report_to") or []
    others = [reporters] if isinstance(reporters, str) else list(reporters)
    settings["report_to"] = [NAME, *(name for name in others if name != "none")]
    return in_loop
