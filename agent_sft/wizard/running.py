"""Runs what was written; says what to do with the model, or what to change where memory did not suffice."""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace

from agent_sft.engines.llamafactory.failures import ran_out_of_memory
from agent_sft.engines.llamafactory.results import read_result
from agent_sft.stages.serving_registry import key_file, server_folder
from agent_sft.stages.snippets import calling_lines
from agent_sft.wizard.writing import SCRIPT, Work

PORT = 8000


def run(work: Work) -> int:
    """Run the script in this terminal; return its exit code. Ctrl-C is the script's, which stops in order."""
    child = subprocess.Popen(["bash", str(work.folder / SCRIPT)])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    finally:
        signal.signal(signal.SIGINT, before)


def with_less_memory(work: Work) -> Work | None:
    """Return what would fit where a run did not; None where memory was not the reason, or nothing is left to change."""
    if work.less_memory or not any(map(ran_out_of_memory, work.output.glob("attempts/*/train.log"))):
        return None
    return replace(work, less_memory=True, settings=work.settings.changed("finetuning_type", "lora"))


def proposal(work: Work) -> str:
    """Return in a line what a run with less memory does."""
    spread = ", ZeRO-3 with offloading (ds_configs/ds_zero3.json)" if work.place.gpus else ""
    return f"one conversation at a time, LoRA{spread}"


def summary(work: Work, program: str) -> Iterator[str]:
    """Yield what to show after a training: the model, and how it is called.

    Args:
        work: what was done.
        program: `agent-sft`, as it can be pasted.
    """
    result = read_result(work.output)
    figures = {
        "model": str(work.output.resolve()),
        "base model": work.model,
        "data": work.data,
        "steps": str(result.steps),
        "train loss": f"{result.train_loss:.4f}" if result.train_loss is not None else None,
        "settings": str(work.folder / "sft_train.yaml"),
        "run again": f"bash {work.folder / SCRIPT}",
    }
    yield "=" * 60
    yield f"{work.name} is trained"
    yield "=" * 60
    yield from (f"  {name:<12}{value}" for name, value in figures.items() if value is not None)
    yield ""
    yield "Serve it:"
    yield f"  {shlex.quote(program)} serve {work.output} --name {work.name} --port {PORT} --detach"
    yield ""
    yield from calling_lines(work.name, f"http://127.0.0.1:{PORT}/v1", str(key_file(server_folder(work.name))))
