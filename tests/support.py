"""What the tests of whole runs share."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.launch import SHARED

SMALL = Path(__file__).resolve().parents[1] / "examples" / "data" / "telecom_small_24.json"
"""24 telecom conversations, raw: turns to merge and to trim among them."""

QUICK = ("--model", "tiny", "--dataset-name", "calls")
"""Options of a run that takes seconds."""


def conversations() -> list[dict[str, Any]]:
    """The small example data."""
    rows: list[dict[str, Any]] = json.loads(SMALL.read_text(encoding="utf-8"))
    return rows


def heed_interrupts() -> None:
    """Let a child be stopped by SIGINT, which a shell ignores for what it runs in the background, tests too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def short_data(folder: Path, rows: int = 24) -> Path:
    """Write conversations of some hundred tokens, raw, which train in no time; return the file.

    A file that is there already is left alone: another run may be reading it.
    """
    path = folder / "short.json"
    if path.exists():
        return path
    data = []
    for number in range(rows):
        call = json.dumps({"name": "get_plan", "arguments": {"line": f"L{number}"}})
        turns = [
            ("human", f"My line L{number} has no data."),
            ("gpt", "Let me look at your plan."),
            ("gpt", f"<tool_call>\n{call}\n</tool_call>"),
            ("human", json.dumps({"line": f"L{number}", "data_left": number % 3})),
            ("gpt", "You have data left." if number % 3 else "Your data is used up."),
        ]
        turns += [("human", "Thanks!")] if number % 6 == 0 else []
        data.append(
            {"conversations": [{"from": role, "value": text} for role, text in turns], "system": "You help with lines."}
        )
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder with its size and time of change: equal means untouched."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def loaded_examples(output_dir: Path) -> list[int]:
    """The number of examples that LLaMA-Factory's own log reports, for each attempt."""
    logs = sorted((output_dir / "attempts").glob("*/train.log"), key=lambda path: int(path.parent.name))
    found = [re.search(r"Num examples = ([\d,]+)", log.read_text(errors="replace")) for log in logs]
    return [int(match[1].replace(",", "")) for match in found if match]


def losses(run: Path) -> list[float]:
    """The loss of every step that was logged."""
    history = json.loads((run / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def final_step(output_dir: Path) -> int:
    """The step at which the trainer's own record ends."""
    return int(json.loads((output_dir / "trainer_state.json").read_text())["global_step"])


def processes_of(output_dir: Path) -> list[psutil.Process]:
    """Living processes that have this run's directory on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(output_dir) in word for word in words):
            found.append(process)
    return found


def run_inside(python: Path, program: str, question: Any, scratch: Path) -> Any:
    """Ask a program of `tests/inside/` in the train environment; what the engine keeps for later goes to `scratch`."""
    place = Path(__file__).parent / "inside" / program
    with mock.patch.dict(os.environ, AGENT_SFT_SCRATCH=str(scratch)):
        return call_inside(python, place, payload=question, started=SHARED.forked)


def engine_jobs(python: Path, jobs: list[dict[str, Any]], scratch: Path) -> list[Any]:
    """Return the results of jobs for `tests/inside/engine_jobs.py`."""
    results: list[Any] = run_inside(python, "engine_jobs.py", jobs, scratch)
    return results
