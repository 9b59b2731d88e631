"""Trains by a LLaMA-Factory YAML, through LLaMA-Factory's own `run_exp`, and tells how far it is.

Usage: train.py SETTINGS.yaml ATTEMPT_DIR

Files in ATTEMPT_DIR, written by the first process of this machine:
    training.json  when the first step is about to begin: examples, their tokens, steps, step it goes on from
    parity.json    before the model is loaded, where it was asked for: what `parity.py` found
    outcome.json   when training ends: steps done, steps wanted, whether it was asked to stop or was ended early
and read by it:
    parity.order.json  the rows to compare, and whether a difference is allowed; a difference that is not ends it
    stop           its presence asks all processes to save a checkpoint after this step and to end
    pause          the step after which they do so of themselves
Those of benchmarks that are scored while it trains: see `in_loop.py`.
"""

import contextlib
import ctypes
import gc
import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

# Looking for garbage among what is imported, where there is none, takes a sixth of the time of importing it.
gc.disable()
import pyarrow.compute
import torch
import torch.distributed
import yaml
from in_loop import InLoop, joined
from leaving_out import leave_out
from transformers import TrainerCallback

gc.enable()

PR_SET_PDEATHSIG = 1


class Stopped(Exception):
    """The training was stopped, and its checkpoint is saved."""


def is_one_of_several() -> bool:
    """Tell whether other processes train along."""
    return torch.distributed.is_available() and bool(torch.distributed.is_initialized())


def write(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file in one step."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def count_tokens(dataset: Any) -> int | None:
    """Return the tokens of all examples of a dataset, without padding; None where they do not stand in columns."""
    table, chosen = getattr(dataset, "data", None), getattr(dataset, "_indices", None)
    if table is None or "input_ids" not in getattr(dataset, "column_names", ()):
        return None
    lengths = pyarrow.compute.list_value_length(table.column("input_ids"))
    if chosen is not None:  # as a split leaves them
        lengths = lengths.take(chosen.column(0))
    return int(pyarrow.compute.sum(lengths).as_py() or 0)


class Supervised(TrainerCallback):  # type: ignore[misc]
    """Reports to the supervisor and stops, all processes at the same step, when it asks."""

    def __init__(self, attempt: Path, in_loop: InLoop | None = None) -> None:
        self.attempt = attempt
        self.in_loop = in_loop
        self.reports = int(os.environ.get("LOCAL_RANK", "0")) == 0
        self.stopping = False
        pause = attempt / "pause"
        self.pause = int(pause.read_text()) if pause.exists() else None

    def _write(self, name: str, value: dict[str, Any]) -> None:
        if self.reports:
            write(self.attempt / name, value)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell what is about to be trained on."""
        loaders = {name: kwargs.get(f"{name}_dataloader") for name in ("train", "eval")}
        examples = {
            name: len(loader.dataset)
            for name, loader in loaders.items()
            if loader is not None and hasattr(loader.dataset, "__len__")
        }
        tokens = {name: count_tokens(loader.dataset) for name, loader in loaders.items() if loader is not None}
        self._write(
            "training.json",
            {"examples": examples, "tokens": tokens, "max_steps": state.max_steps, "from_step": state.global_step},
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Agree on stopping: a checkpoint is written by all processes together."""
        asked = (self.attempt / "stop").exists()
        if is_one_of_several():
            flag = torch.tensor([int(asked)], device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            asked = bool(flag.item())
        asked = asked or state.global_step == self.pause
        if asked and state.global_step < state.max_steps:
            self.stopping = True
            control.should_save = True
            control.should_training_stop = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell how it ended; after a stop, leave before the half-trained model is saved as the result."""
        ended = self.in_loop is not None and self.in_loop.ended
        outcome = {
            "global_step": state.global_step,
            "max_steps": state.max_steps,
            "stopped": self.stopping,
            "ended": ended,
        }
        self._write("outcome.json", outcome)
        if self.stopping:
            if is_one_of_several():
                torch.distributed.barrier()
            raise Stopped


def check_parity(settings: dict[str, Any], attempt: Path) -> None:
    """Compare what is trained on with what will be served, if that is asked for; end where they differ."""
    order = attempt / "parity.order.json"
    if os.environ.get("LOCAL_RANK", "0") != "0" or not order.exists():
        return
    asked = json.loads(order.read_text(encoding="utf-8"))
    try:
        found = runpy.run_path(str(Path(__file__).with_name("parity.py")))["check"](settings, asked["rows"])
    except Exception as error:  # whatever it is, it is for the supervisor to tell
        found = {"error": f"{type(error).__name__}: {error}"}
    write(attempt / "parity.json", found)
    if not asked["allow"] and (found.get("error") or found["different"]):
        raise SystemExit(3)


def leave_out_shared_memory() -> None:
    """Keep DeepSpeed from compiling collectives in shared memory, which it does where there is no GPU.

    That takes a minute of two processors. Without them its processes talk through gloo, as torch's own do.
    """
    import deepspeed.ops
    from deepspeed.accelerator import get_accelerator

    if get_accelerator().device_name() == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def leave_out_debugging() -> None:
    """Have DeepSpeed compile its CPU optimizer without what only a debugger reads.

    Writing that takes two fifths of the time, and nearly all of the 17 MB that come of it.
    """
    from deepspeed.accelerator import get_accelerator

    builder = get_accelerator().get_op_builder("CPUAdamBuilder")
    given = getattr(builder, "cxx_args", None)
    if given is not None:
        builder.cxx_args = lambda self: [word for word in given(self) if word != "-g"]


def load_to_numbered_processors() -> None:
    """Let torch load to `cpu:0` as to `cpu`.

    Where several processes train without a GPU, the trainer loads its optimizer to the first and torch knows the
    second only: what was stopped would not go on.
    """

    def here(storage: Any, location: str) -> Any:
        return storage if location.startswith("cpu:") else None

    # Before those of torch, which raise for places that they do not know: it is asked only for what has a number.
    torch.serialization.register_package(0, lambda storage: None, here)


def main() -> None:
    """Train."""
    # torchrun's workers must not outlive it when it is killed.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    settings = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    attempt = Path(sys.argv[2])
    leave_out(settings)
    gc.disable()
    from llamafactory.train.tuner import run_exp

    gc.enable()
    check_parity(settings, attempt)
    load_to_numbered_processors()
    if settings.get("deepspeed"):
        leave_out_shared_memory()
        leave_out_debugging()
    in_loop = joined(settings, attempt)
    with contextlib.suppress(Stopped):
        run_exp(settings, callbacks=[Supervised(attempt, in_loop)])
        return
    # The trainer is gone: had it been the last to know the group, it would have waited for gloo's threads with Python's
    # lock in its hand, and these for the lock.
    if is_one_of_several():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
    runpy.run_path(str(Path(__file__).parents[2] / "forks" / "inside" / "ending.py"))["end"](0)
