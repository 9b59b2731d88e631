"""What a sweep gains: variants by `run_eval_sweep.sh`, against the plain loop over the same ones.

    python benchmarks/sweep_vs_loop.py

The variants are those of the small telecom benchmark (examples/mini_telecom), trained from one base that is made
beforehand. The loop does for each of them what one types by hand: `llamafactory-cli train`, start vLLM, wait for
`/health`, run the benchmark one trial after the other, stop vLLM. It trains by the same settings, serves by the flags
that the model needs, and asks the same tasks as often. Both have caches of their own that are empty at the start.
Exit 1 where the sweep of `--goal-variants` takes more than half the loop's time.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import yaml  # noqa: E402

from agent_sft.config.serve import ServeRequest  # noqa: E402
from agent_sft.engines.environments import call_inside, engine_python  # noqa: E402
from agent_sft.engines.vllm.flags import flag_words  # noqa: E402
from agent_sft.errors import UserError, WorkFailed  # noqa: E402
from agent_sft.files import write_atomic, write_json  # noqa: E402
from agent_sft.stages.serving import free_port  # noqa: E402
from agent_sft.stages.serving_plan import plan_serving  # noqa: E402

EXAMPLE = ROOT / "examples" / "mini_telecom"
QUICKSTART = ROOT / "configs" / "sweeps" / "quickstart.yaml"
SHARES = (0, 5, 10, 20, 2, 15, 30, 40)
"""Of the variants, in percent; `--variants 4` takes the first four, which are the quickstart's."""
GOAL = 2.0
OURS = ("middleware", "worker_extension_cls", "distributed_executor_backend")
"""Flags that nobody types: how we guard a server and make it cheaper."""
SERVER_SECONDS = 600.0
Interval = tuple[float, float]


@dataclass(frozen=True)
class Measured:
    """One way through all the variants."""

    seconds: float
    working: float
    """Seconds in which a training did its steps or a model answered; what overlaps counts once."""
    scores: Mapping[str, float]
    """Of each variant."""

    @property
    def outside(self) -> float:
        """Share of the time that was neither training nor answering."""
        return 1 - self.working / self.seconds


@dataclass(frozen=True)
class Setup:
    """What both ways share."""

    place: Path
    base: Path
    shares: Sequence[int]
    steps: int
    lr: float
    trials: int
    tasks: int
    """Of the benchmark, the first ones; 0: all."""

    def data(self, share: int) -> Path:
        """Return the conversations of a variant."""
        return self.place / "data" / f"syc_{share}pct.json"

    def sweep_file(self, shares: Sequence[int]) -> dict[str, Any]:
        """Return the sweep of some of the variants."""
        evaluator = {"config": str(ROOT / "configs" / "eval" / "mini_telecom.yaml"), "trials": self.trials}
        return {
            "name": "sweep_vs_loop",
            "sft": {
                "skip_process": True,
                "model": str(self.base),
                "config": str(ROOT / "configs" / "mini_telecom.yaml"),
                "steps": self.steps,
                "lr": self.lr,
            },
            "data": [str(self.data(share)) for share in shares],
            "evaluators": [evaluator | ({"limit": self.tasks} if self.tasks else {})],
        }

    def fresh(self, name: str) -> Path:
        """Make and return a new folder."""
        folder = self.place / "runs" / name
        folder.mkdir(parents=True)
        return folder


def make_setup(place: Path, options: argparse.Namespace) -> Setup:
    """Make the data and, unless one is named, the base."""
    sweep = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    shares = SHARES[: max(options.variants)]
    made = [sys.executable, str(EXAMPLE / "make_data.py"), str(place / "data"), "--share", *map(str, shares)]
    run(made, dict(os.environ), place / "data.log")
    base: Path | None = options.base
    if base is None:
        say("training the base, which is not counted")
        base = place / "base"
        steps = ["--steps", str(options.base_steps)] if options.base_steps else []
        settings = ["--config", "configs/mini_telecom.yaml", "--model", "configs/tiny/mini_telecom.yaml", *steps]
        command = ["bash", "run_sft.sh", str(place / "data" / "base.json"), "--skip-process", *settings]
        run([*command, "--output-dir", str(base)], dict(os.environ), place / "base.log")
    return Setup(
        place=place,
        base=base.absolute(),
        shares=shares,
        steps=options.steps or int(sweep["sft"]["steps"]),
        lr=float(sweep["sft"]["lr"]),
        trials=options.trials,
        tasks=options.tasks,
    )


def by_sweep(setup: Setup, shares: Sequence[int], folder: Path) -> Measured:
    """Run the sweep from start to end."""
    file = folder / "sweep.yaml"
    write_atomic(file, yaml.safe_dump(setup.sweep_file(shares), sort_keys=False))
    out = folder / "sweep"
    begun = time.perf_counter()
    command = ["bash", "run_eval_sweep.sh", str(file), "--out", str(out)]
    run(command, own_caches(folder), folder / "sweep.log")
    seconds = time.perf_counter() - begun
    record = json.loads((out / "sweep.json").read_bytes())
    scores = {
        f"{share:g}": mean_score(out / evaluation["folder"] / "results.jsonl")
        for share, variant in zip(shares, record["variants"], strict=True)
        for evaluation in variant["evaluations"]
    }
    return Measured(seconds, working_seconds(out), scores)


def by_loop(setup: Setup, shares: Sequence[int], folder: Path) -> Measured:
    """Train, serve and score one variant after the other."""
    begun = time.perf_counter()
    scores = {f"{share:g}": one_of_the_loop(setup, share, folder / str(share)) for share in shares}
    return Measured(time.perf_counter() - begun, working_seconds(folder), scores)


def one_of_the_loop(setup: Setup, share: int, folder: Path) -> float:
    """Do with one variant what one would type by hand; return its score."""
    folder.mkdir()
    environment = own_caches(folder)
    shutil.copyfile(setup.data(share), folder / "data.json")
    write_json(folder / "dataset_info.json", {"variant": DATASET})
    settings = loop_settings(setup.base, {"max_steps": setup.steps, "learning_rate": setup.lr}, folder)
    write_atomic(folder / "train.yaml", yaml.safe_dump(settings, sort_keys=False))
    trainer = str(engine_python("train").parent / "llamafactory-cli")
    run([trainer, "train", str(folder / "train.yaml")], environment, folder / "train.log")
    name, port, key = f"variant-{share}", free_port(None), secrets.token_urlsafe(16)
    plan = plan_serving(ServeRequest(model=settings["output_dir"], name=name))
    flags = {name: value for name, value in plan.settings.items() if name not in OURS} | {"port": port}
    command = [str(plan.python), "-m", "vllm.entrypoints.openai.api_server", *flag_words(flags)]
    serving = {**environment, "VLLM_API_KEY": key}
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=serving, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_health(server, port, folder / "server.log")
        # Inspect takes paths that begin here, and no others.
        task = [os.path.relpath(EXAMPLE / "mini_telecom.py"), f"http://127.0.0.1:{port}/v1", name, str(folder / "logs")]
        limits = [str(setup.trials), str(setup.tasks)]
        os.environ["LOCAL_API_KEY"] = key
        found = call_inside(engine_python("eval"), INSIDE / "one_at_a_time.py", *task, *limits)
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    return float(found["score"])


INSIDE = ROOT / "benchmarks" / "inside"
DATASET = {
    "file_name": "data.json",
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
}


def loop_settings(base: Path, changed: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return LLaMA-Factory's settings: those that the base was trained by, on a variant's data."""
    attempts = sorted((base / "attempts").glob("*/train.yaml"), key=lambda path: int(path.parent.name))
    if not attempts:
        fix = "name a base that run_sft.sh trained, or leave --base out"
        raise UserError("holds no settings of a training", where=str(base), fix=fix)
    settings: dict[str, Any] = yaml.safe_load(attempts[-1].read_text(encoding="utf-8"))
    here = {"model_name_or_path": str(base), "dataset": "variant", "dataset_dir": str(folder)}
    return {**settings, **changed, **here, "output_dir": str(folder / "out"), "run_name": "variant"}


def wait_for_health(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Ask the server once a second whether it is there."""
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise WorkFailed(f"vLLM ended with {server.returncode}", log=log)
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(1)
    raise WorkFailed("vLLM is not ready", log=log)


def mean_score(results: Path) -> float:
    """Return the mean score of all trials."""
    scores = [float(json.loads(line)["score"]) for line in results.read_text(encoding="utf-8").splitlines()]
    return sum(scores) / len(scores)


def working_seconds(folder: Path) -> float:
    """Return the seconds in which, below a folder, a training did its steps or a model answered."""
    steps = []
    for made in folder.rglob("all_results.json"):
        ended = (made.parent / "trainer_log.jsonl").stat().st_mtime
        steps.append((ended - float(json.loads(made.read_bytes())["train_runtime"]), ended))
    answers = call_inside(engine_python("eval"), INSIDE / "model_calls.py", folder)
    return covered([*steps, *((begin, end) for begin, end in answers)])


def covered(intervals: Iterable[Interval]) -> float:
    """Return the length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def own_caches(folder: Path) -> dict[str, str]:
    """Return an environment in which what others prepared is not found."""
    return {**os.environ, "HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}


def run(command: list[str], environment: dict[str, str], log: Path) -> None:
    """Run a command in the repository.

    Raises:
        WorkFailed: it failed.
    """
    with log.open("wb") as stream:
        done = subprocess.run(command, env=environment, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise WorkFailed(f"{Path(command[0]).name} {Path(command[1]).name} ended with {done.returncode}", log=log)


def compare(setup: Setup, counts: Sequence[int]) -> list[dict[str, Any]]:
    """Return the figures for each number of variants; which way goes first changes from one to the next."""
    rows = []
    for number, count in enumerate(sorted(counts)):
        shares = setup.shares[:count]
        found: dict[str, Measured] = {}
        for way in ("sweep", "loop") if number % 2 == 0 else ("loop", "sweep"):
            say(f"{count} variants by the {way}")
            folder = setup.fresh(f"{count}-{way}")
            found[way] = (by_sweep if way == "sweep" else by_loop)(setup, shares, folder)
            say(f"{count} variants by the {way}: {found[way].seconds:.0f} s")
        rows.append(row(count, found["sweep"], found["loop"]))
    return rows


def measure(place: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Check what was asked for and measure it in a folder that is gone afterwards.

    Raises:
        UserError: it makes no sense.
        WorkFailed: one of the ways failed; with the end of its log.
    """
    if not all(0 < count <= len(SHARES) for count in options.variants):
        raise UserError(f"there can be 1 to {len(SHARES)}", where="--variants")
    if options.trials < 1 or options.tasks < 0:
        raise UserError("must be at least 1", where="--trials" if options.trials < 1 else "--tasks")
    try:
        return compare(make_setup(place, options), options.variants)
    except WorkFailed as error:
        raise WorkFailed(str(error)) from error  # its log is read now: it will be gone


def row(variants: int, sweep: Measured, loop: Measured) -> dict[str, Any]:
    """Return the figures for a number of variants."""
    return {
        "variants": variants,
        "sweep_seconds": sweep.seconds,
        "loop_seconds": loop.seconds,
        "ratio": loop.seconds / sweep.seconds,
        "sweep_outside": sweep.outside,
        "loop_outside": loop.outside,
        "sweep_scores": dict(sweep.scores),
        "loop_scores": dict(loop.scores),
    }


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is printed."""
    head = "variants   sweep s    loop s   ratio   outside steps and answers: sweep, loop"
    return [
        head,
        *(
            f"{found['variants']:8} {found['sweep_seconds']:9.0f} {found['loop_seconds']:9.0f}"
            f" {found['ratio']:7.2f} {100 * found['sweep_outside']:28.0f} % {100 * found['loop_outside']:8.0f} %"
            for found in rows
        ),
    ]


def say(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Read the command line, measure, print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, nargs="+", default=[1, 2, 4, 8], help="how many, one run of both each")
    parser.add_argument("--trials", type=int, default=4, help="of each task (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=0, help="the first ones alone (default: all)")
    parser.add_argument("--steps", type=int, help="of each training (default: the quickstart's)")
    parser.add_argument("--base-steps", type=int, help="of the base (default: its settings')")
    parser.add_argument("--base", type=Path, help="the folder of a base that run_sft.sh trained already")
    parser.add_argument("--goal", type=float, default=GOAL, help="times faster (default: %(default)s)")
    parser.add_argument("--goal-variants", type=int, default=4, help="with so many variants (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="sweep-vs-loop-") as name:
            rows = measure(Path(name), options)
    except (UserError, WorkFailed) as error:
        say(f"error: {error}")
        return error.exit_code
    if options.json is not None:
        write_json(options.json, {"goal": options.goal, "rows": rows})
    print("\n".join(lines(rows)))
    judged = [found for found in rows if found["variants"] == options.goal_variants]
    if not judged:
        return 0
    reached = judged[0]["ratio"] >= options.goal
    print(f"goal: {options.goal:g} times with {options.goal_variants} variants: {'reached' if reached else 'missed'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
