"""What stopping those that fall behind saves, and what it costs: `--search asha` against the full grid of nine.

    python benchmarks/asha_vs_grid.py

Nine candidates (LoRA ranks 8, 16, 32, each with three rates) learn which tool a request needs (examples/tool_slugs),
from a model that has begun to (`--base` takes one that is there), searched both ways with the same seed: the same parts
of the data, the same trainings. Reported for each seed: the optimizer steps that all candidates
took together, both winners, their losses on the conversations by which nothing was chosen, and the score that counts:
how many of 240 requests that no training has seen they answer rightly, with the difference and its 95 % interval over
these requests (`agent-sft eval compare`). Exit 1 where a score can be told from the grid's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent_sft.errors import WorkFailed  # noqa: E402
from agent_sft.evals.comparison import compare  # noqa: E402
from agent_sft.evals.outcomes import FIRST  # noqa: E402
from agent_sft.evals.statistics import summarise  # noqa: E402
from agent_sft.planning.sweeps import BASE, FINAL  # noqa: E402
from agent_sft.report.plan.record import (  # noqa: E402
    JUDGEMENT,
    SCOREBOARD,
    Judgement,
    Scoreboard,
    read_record,
)
from examples.tool_slugs.make_data import requests, tasks  # noqa: E402

CANDIDATES = ("--ranks", "8,16,32", "--rates", "1e-2,3e-3,1e-3")
EPOCHS = "2"
PIPELINE = ("--process", str(ROOT / "examples" / "tool_slugs" / "pipeline.yaml"))
AGENT_SFT = (sys.executable, "-P", "-m", "agent_sft")
SURE = 0.05
ROWS = 720
TASKS = 240
LEARNED = 360
"""The first rows are the base's own."""
BASE_STEPS = 30
"""Of the base: it has learned how an answer looks, and has yet to learn the words."""


@dataclass(frozen=True)
class Search:
    """How one search ended."""

    steps: int
    """Of all candidates together."""
    winner: str
    loss: float
    """Of the winner on the conversations that judge."""
    untrained: float
    score: float
    """Of the winner: the share of requests it answers rightly."""
    folder: str
    """Of the evaluation that tells."""
    seconds: float


@dataclass(frozen=True)
class Pair:
    """Both searches with one seed."""

    seed: int
    grid: Search
    asha: Search
    difference: float
    """ASHA's winner's score less the grid's."""
    low: float | None
    high: float | None
    p: float

    @property
    def told(self) -> bool:
        """Whether the scores can be told apart."""
        return self.p < SURE

    @property
    def gained(self) -> float:
        """What ASHA's winner has gained, by its loss, of what the grid's has."""
        return (self.asha.untrained - self.asha.loss) / (self.grid.untrained - self.grid.loss)

    def line(self) -> str:
        """Return the row of the table."""
        ends = f"{self.low:+.3f} to {self.high:+.3f}" if self.low is not None and self.high is not None else "the same"
        return (
            f"{self.seed:4d}  {self.grid.steps:6d} {self.asha.steps:6d} {self.asha.steps / self.grid.steps:6.0%}   "
            f"{self.grid.winner:18s} {self.asha.winner:18s} {self.grid.loss:.4f} {self.asha.loss:.4f} "
            f"{self.gained:7.1%}   {self.grid.score:.3f} {self.asha.score:.3f}   "
            f"{self.difference:+.3f} ({ends}; p = {self.p:.3f})"
        )


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one pair of searches each")
    parser.add_argument("--base", type=Path, help="the folder of a base that run_sft.sh trained already")
    parser.add_argument("--epochs", default=EPOCHS, help=f"of each candidate (default: {EPOCHS})")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agent-sft-asha-") as temporary:
        place = Path(temporary)
        make_rows(place)
        base = options.base.absolute() if options.base is not None else make_base(place)
        print(
            "seed    grid   asha  share   grid's winner      asha's winner      losses         gained   "
            "scores        difference",
            flush=True,
        )
        pairs = []
        for seed in options.seeds:
            pairs.append(compared(seed, place, base, options.epochs))
            print(pairs[-1].line(), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(pair) for pair in pairs], indent=1))
    print(together(pairs))
    sys.exit(1 if any(pair.told for pair in pairs) else 0)


def together(pairs: Sequence[Pair]) -> str:
    """Return what all seeds say together."""
    steps = sum(pair.asha.steps for pair in pairs) / sum(pair.grid.steps for pair in pairs)
    difference, gained = fmean(pair.difference for pair in pairs), fmean(pair.gained for pair in pairs)
    return (
        f"steps: {steps:.0%} of the grid's; scores: {difference:+.3f} in the mean, told apart in "
        f"{sum(pair.told for pair in pairs)} of {len(pairs)}; of the loss {gained:.1%} of what the grid's winners gain"
    )


def make_rows(place: Path) -> None:
    """Write the requests that the base learns from, those of the search, and those that judge."""
    rows = requests()
    random.Random(7).shuffle(rows)
    learned, searched, judging = rows[:LEARNED], rows[LEARNED : LEARNED + ROWS], rows[-TASKS:]
    for name, part in (("base", learned), ("search", searched)):
        write_rows(place / f"{name}.jsonl", [{"query": query, "tool_slug": slug} for query, slug in part])
    (place / "tasks").mkdir()
    write_rows(place / "tasks" / "tasks.jsonl", tasks(judging))


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a JSON object to each line."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def make_base(place: Path) -> Path:
    """Train the base from which all candidates start."""
    model = ["--model", str(ROOT / "configs" / "tiny" / "tool_slugs.yaml"), "--cutoff-len", "512", "--lr", "4e-3"]
    how = ["--batch-size", "8", "--grad-accum", "1", "--steps", str(BASE_STEPS), "--output-dir", str(place / "base")]
    call(["bash", str(ROOT / "run_sft.sh"), "base.jsonl", *PIPELINE, *model, *how], place)
    return place / "base"


def compared(seed: int, place: Path, base: Path, epochs: str) -> Pair:
    """Search both ways with one seed."""
    grid, asha = (searched(way, seed, place, base, epochs) for way in ("grid", "asha"))
    (told,) = compare([grid.folder, asha.folder]).differences
    return Pair(seed, grid, asha, told.value, told.low, told.high, told.p)


def searched(way: str, seed: int, place: Path, base: Path, epochs: str) -> Search:
    """Search one way; the winner is judged as it is."""
    name = f"{way}_{seed}"
    data = ["search.jsonl", *PIPELINE, "--cutoff-len", "512", "--epochs", epochs]
    batch = ["--batch-size", "8", "--grad-accum", "1"]
    how = ["--model", str(base), *CANDIDATES, "--search", way, "--seed", str(seed), "--skip-final"]
    call(
        [
            *(*AGENT_SFT, "plan", *data, *batch, *how),
            *("--name", name, "--yes", "--no-probe", "--no-deploy"),
        ],
        place,
    )
    folder = place / "plans" / name
    board = read_record(folder, SCOREBOARD, Scoreboard)
    judgement = read_record(folder, JUDGEMENT, Judgement)
    assert board is not None and judgement is not None
    judged = {one.name: one for one in judgement.models}
    untrained, winner = judged[BASE], judged[FINAL]
    assert untrained.loss is not None and winner.loss is not None
    line = board.line(judgement.candidate)
    assert line is not None
    scored = place / "scores" / name
    judge = ["--evaluator", "tasks", "--task", "tasks", "--max-tokens", "24", "--out", str(scored)]
    call([*AGENT_SFT, "eval", "run", "--model", str(place / judgement.model), *judge], place)
    score = next(one.value for one in summarise(scored).overall.estimates if one.measure == FIRST)
    assert score is not None
    return Search(
        steps=sum(one.steps for one in board.lines),
        winner=line.candidate.name,
        loss=winner.loss,
        untrained=untrained.loss,
        score=score,
        folder=str(scored),
        seconds=sum(json.loads((folder / "spent.json").read_bytes()).values()),
    )


def call(command: Sequence[str], folder: Path) -> None:
    """Run a command to its end.

    Raises:
        WorkFailed: it failed; with what it printed last.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise WorkFailed(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")


if __name__ == "__main__":
    main()
