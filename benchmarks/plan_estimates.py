"""How close a plan's estimate is to what the plan then takes, in five settings.

    python benchmarks/plan_estimates.py

Each setting is a plan of its own (`agent-sft plan … --yes`): twenty steps are measured first, the estimate follows
them, then all of it is done. Compared are the seconds of everything that was estimated, from the candidates to the
judgement of the final model. Exit 1 where a setting's estimate is further off than `--within`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from agent_sft.errors import WorkFailed  # noqa: E402
from agent_sft.planning.spending import SPENT  # noqa: E402
from agent_sft.report.plan.record import PLAN, PlanRecord, read_record  # noqa: E402

EXAMPLES = ROOT / "examples" / "data"
SUMS = "sums.jsonl"
"""Made here: conversations whose answers a program can check."""
SETTINGS: dict[str, Sequence[str | Path]] = {
    "three LoRA ranks, 40 conversations": (EXAMPLES / "airline_retail_40.json", "--model", "tiny"),
    "all weights, 500 conversations, one pass": (
        *(EXAMPLES / "telecom_syc_5pct_500_processed.json", "--skip-process", "--model", "tiny"),
        *("--finetuning-type", "full", "--rates", "1e-3,5e-4", "--epochs", "1"),
    ),
    "two models, two ranks, mini telecom": (
        *("mini_telecom/syc_20pct.json", "--skip-process", "--model", "tiny", "--cutoff-len", "512"),
        *("--model", ROOT / "configs" / "tiny" / "mini_telecom.yaml", "--ranks", "8,16", "--epochs", "1"),
    ),
    "nine candidates, --search asha": (
        *("mini_telecom/syc_20pct.json", "--skip-process", "--model", "tiny", "--cutoff-len", "512"),
        *("--ranks", "8,16,32", "--rates", "1e-3,3e-4,1e-4", "--epochs", "2", "--search", "asha"),
    ),
    "an evaluator made of the data, served": (SUMS, "--model", "tiny", "--rates", "5e-3,1e-3", "--draft"),
}
"""The words after `agent-sft plan`, by what they are."""


@dataclass(frozen=True)
class Outcome:
    """What was expected of a plan, and what it took, in seconds."""

    setting: str
    expected: dict[str, float]
    """By phase."""
    took: dict[str, float]
    """By phase."""

    @property
    def ratio(self) -> float:
        """What it took over what was expected."""
        return sum(self.took.values()) / sum(self.expected.values())

    def line(self) -> str:
        """Return the row of the table."""
        phases = ", ".join(f"{name} {self.expected[name]:.0f}/{self.took.get(name, 0):.0f}" for name in self.expected)
        both = f"{sum(self.expected.values()):8.0f} s  {sum(self.took.values()):8.0f} s"
        return f"{self.setting:42s}  {both}  {self.ratio:5.2f}   {phases}"


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, nargs="+", help="which, by their numbers from 1 (default: all)")
    parser.add_argument("--within", type=float, default=0.3, help="how far off an estimate may be (default: 0.3)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    names = list(SETTINGS)
    chosen = [names[number - 1] for number in options.settings or range(1, len(names) + 1)]
    with tempfile.TemporaryDirectory(prefix="agent-sft-estimates-") as temporary:
        place = Path(temporary)
        make_data(place)
        print(f"{'setting':42s}  {'expected':>10s}  {'took':>10s}  ratio   expected/took by phase", flush=True)
        outcomes = []
        for name in chosen:
            outcomes.append(measured(name, place))
            print(outcomes[-1].line(), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps([{**vars(one), "ratio": one.ratio} for one in outcomes], indent=1))
    far = [one for one in outcomes if not 1 - options.within <= one.ratio <= 1 + options.within]
    print(f"within {options.within:.0%}: {len(outcomes) - len(far)} of {len(outcomes)}")
    sys.exit(1 if far else 0)


def make_data(place: Path) -> None:
    """Make the data that the repository does not hold."""
    script = ROOT / "examples" / "mini_telecom" / "make_data.py"
    subprocess.run([sys.executable, str(script), str(place / "mini_telecom")], check=True, stdout=subprocess.DEVNULL)
    with (place / SUMS).open("w", encoding="utf-8") as lines:
        for n in range(300):
            asked = {"role": "user", "content": f"{n} + 1?"}
            lines.write(json.dumps({"messages": [asked, {"role": "assistant", "content": str(n + 1)}]}) + "\n")


def measured(setting: str, place: Path) -> Outcome:
    """Carry one plan out.

    Raises:
        WorkFailed: it did not end well; with what it printed last.
    """
    name = f"setting_{list(SETTINGS).index(setting) + 1}"
    words = ["plan", *map(str, SETTINGS[setting]), "--name", name, "--yes", "--no-deploy"]
    command = [sys.executable, "-P", "-m", "agent_sft", *words]
    done = subprocess.run(
        command, cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    folder = place / "plans" / name
    plan = read_record(folder, PLAN, PlanRecord)
    if done.returncode != 0 or plan is None:
        raise WorkFailed(f"{' '.join(words)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    took: dict[str, float] = json.loads((folder / SPENT).read_bytes())
    expected = {one.phase: one.seconds for one in plan.costs}
    # The probe itself is behind when the estimate that counts is made.
    return Outcome(setting, expected, {phase: took.get(phase, 0.0) for phase in expected})


if __name__ == "__main__":
    main()
