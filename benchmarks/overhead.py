"""What run_sft.sh adds to LLaMA-Factory's own command: seconds from start to end, the same training.

    python benchmarks/overhead.py

Pairs of `bash run_sft.sh …` and `llamafactory-cli train` with the very YAML that run_sft.sh trained by, one
after the other, the order changing from pair to pair. Each run gets a fresh output directory and fresh caches of
its data; the data is prepared and the tiny model made beforehand. A first run_sft.sh, which is not counted, gives
the YAML and warms what both read from the disk. Exit 1 where the median difference exceeds the goal.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402

from agent_sft.data.preparing import prepare_dataset  # noqa: E402
from agent_sft.engines.environments import engine_python  # noqa: E402
from agent_sft.engines.llamafactory.tiny import make_tiny_model  # noqa: E402
from agent_sft.errors import UserError, WorkFailed  # noqa: E402
from agent_sft.files import write_atomic, write_json  # noqa: E402
from benchmarks.gpu.conversations import make_conversations  # noqa: E402

DATASET = "overhead"
GOAL_SECONDS = 3.0
CONVERSATIONS = 100
PAIRS_THAT_TELL = 5
QUIET = 1.3
"""Slowest over fastest run of one and the same command, up to which a machine counts as quiet."""


@dataclass(frozen=True)
class Comparison:
    """Where the two commands run and what they train."""

    python: Path
    place: Path
    steps: int
    cutoff_len: int

    @property
    def input(self) -> Path:
        """The prepared data, which is also run_sft.sh's input."""
        return self.place / "data" / f"{DATASET}.jsonl"

    def prepare(self) -> None:
        """Make the conversations, prepare them, make the tiny model."""
        source = self.place / "conversations.json"
        write_json(source, list(make_conversations(CONVERSATIONS, 250, 450, seed=1)))
        prepare_dataset(source, name=DATASET, folder=self.place / "data")
        make_tiny_model(self.python, self.input, self.place / "model", seed=1)

    def ours(self, run: Path) -> float:
        """Run run_sft.sh; return its seconds."""
        options = {
            "--model": self.place / "model",
            "--dataset-name": DATASET,
            "--output-dir": run / "out",
            "--steps": self.steps,
            "--cutoff-len": self.cutoff_len,
        }
        words = [str(word) for option in options.items() for word in option]
        command = ["bash", str(ROOT / "run_sft.sh"), str(self.input), "--skip-process", *words]
        return self._timed(command, run)

    def bare(self, run: Path, settings: dict[str, Any]) -> float:
        """Run LLaMA-Factory's own command with these settings, into its own directory; return its seconds."""
        shutil.copytree(self.place / "data", run / "data")
        here = settings | {"output_dir": str(run / "out"), "dataset_dir": str(run / "data")}
        write_atomic(run / "train.yaml", yaml.safe_dump(here, sort_keys=False))
        command = [str(self.python.parent / "llamafactory-cli"), "train", str(run / "train.yaml")]
        return self._timed(command, run)

    def _timed(self, command: list[str], run: Path) -> float:
        environment = {**os.environ, "HF_DATASETS_CACHE": str(run / "cache"), "HF_HUB_OFFLINE": "1"}
        environment["AGENT_SFT_TRAIN_PYTHON"] = str(self.python)
        log = run / "output.log"
        with log.open("wb") as stream:
            begun = time.perf_counter()
            done = subprocess.run(command, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False)
            seconds = time.perf_counter() - begun
        if done.returncode != 0:
            raise WorkFailed(f"{Path(command[0]).name} ended with {done.returncode}", log=log)
        if not (run / "out" / "model.safetensors").is_file():
            raise WorkFailed(f"{Path(command[0]).name} made no model", log=log)
        return seconds


def compare(comparison: Comparison, pairs: int) -> tuple[list[float], list[float]]:
    """Return the seconds of run_sft.sh and of the bare command, pair by pair."""
    say("preparing the data and the model; a first run that is not counted")
    comparison.prepare()
    first = fresh(comparison.place, "first")
    comparison.ours(first)
    attempts = sorted((first / "out" / "attempts").iterdir())
    settings: dict[str, Any] = yaml.safe_load((attempts[-1] / "train.yaml").read_text(encoding="utf-8"))
    ours: list[float] = []
    bare: list[float] = []
    for pair in range(pairs):
        for which in ("ours", "bare") if pair % 2 == 0 else ("bare", "ours"):
            run = fresh(comparison.place, f"{pair}-{which}")
            if which == "ours":
                ours.append(comparison.ours(run))
            else:
                bare.append(comparison.bare(run, settings))
            shutil.rmtree(run)
        say(f"pair {pair + 1}/{pairs}: run_sft.sh {ours[-1]:.2f} s, llamafactory-cli {bare[-1]:.2f} s")
    return ours, bare


def fresh(place: Path, name: str) -> Path:
    """Make and return a new folder."""
    folder = place / "runs" / name
    folder.mkdir(parents=True)
    return folder


def summary(ours: list[float], bare: list[float], goal: float) -> dict[str, Any]:
    """Return the medians, the median of the pairs' differences, and whether that reaches the goal."""
    differences = [with_us - alone for with_us, alone in zip(ours, bare, strict=True)]
    return {
        "ours": ours,
        "bare": bare,
        "median_ours": median(ours),
        "median_bare": median(bare),
        "median_difference": median(differences),
        "smallest_difference": min(differences),
        "largest_difference": max(differences),
        "goal": goal,
        "reached": median(differences) <= goal,
    }


def lines(result: dict[str, Any]) -> list[str]:
    """Return what is printed."""
    pairs = len(result["ours"])
    said = [
        f"run_sft.sh        {result['median_ours']:7.2f} s (median of {pairs})",
        f"llamafactory-cli  {result['median_bare']:7.2f} s",
        f"difference        {result['median_difference']:7.2f} s (median of the pairs;"
        f" {result['smallest_difference']:.2f} to {result['largest_difference']:.2f})",
        f"goal: at most {result['goal']:g} s: {'reached' if result['reached'] else 'missed'}",
    ]
    if pairs < PAIRS_THAT_TELL:
        said.append(f"{pairs} pair(s) tell little: {PAIRS_THAT_TELL} or more are a measurement")
    spread = max(result["bare"]) / min(result["bare"])
    if spread > QUIET:
        said.append(f"the machine was busy: the bare command alone varied {spread:.1f}-fold; measure again in quiet")
    return said


def say(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Read the command line, measure, print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS_THAT_TELL, help="pairs of runs (default: %(default)s)")
    parser.add_argument("--cutoff-len", type=int, default=12000, help="as run_sft.sh's (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps of a run (default: %(default)s)")
    parser.add_argument("--goal", type=float, default=GOAL_SECONDS, help="seconds allowed (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    try:
        if options.pairs < 1 or options.steps < 1:
            raise UserError("--pairs and --steps must be at least 1")
        with tempfile.TemporaryDirectory(prefix="overhead-") as place:
            comparison = Comparison(engine_python("train"), Path(place), options.steps, options.cutoff_len)
            result = summary(*compare(comparison, options.pairs), options.goal)
    except (UserError, WorkFailed) as error:
        say(f"error: {error}")
        return error.exit_code
    if options.json is not None:
        write_json(options.json, result)
    print("\n".join(lines(result)))
    return 0 if result["reached"] else 1


if __name__ == "__main__":
    sys.exit(main())
