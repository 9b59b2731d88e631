"""Trained tokens per second and peak memory: the plain settings against those of --fast.

    python benchmarks/gpu/train_throughput.py --out results            on one NVIDIA GPU, some minutes
    python benchmarks/gpu/train_throughput.py --out results --small    on a CPU: tries the benchmark itself

It needs no network and no model: a random Qwen2 and synthetic tool conversations are made on the spot. The
train environment is the one that AGENT_SFT_TRAIN_PYTHON points to, or this Python where it has LLaMA-Factory.
Written to the folder: report.json, report.md, losses.png.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from agent_sft.config.sft import SFTConfig  # noqa: E402
from agent_sft.config.tiny import TinyModel  # noqa: E402
from agent_sft.data.preparing import prepare_dataset  # noqa: E402
from agent_sft.engines.environments import call_inside, engine_python, engine_versions  # noqa: E402
from agent_sft.engines.llamafactory.arguments import option_arguments  # noqa: E402
from agent_sft.engines.llamafactory.fast import Switch, fast_settings, with_switches  # noqa: E402
from agent_sft.engines.llamafactory.fast_machine import look_at_machine  # noqa: E402
from agent_sft.engines.llamafactory.launch import SHARED  # noqa: E402
from agent_sft.engines.llamafactory.memory import Sharding, estimate_memory  # noqa: E402
from agent_sft.engines.llamafactory.shape import ModelShape, model_shape  # noqa: E402
from agent_sft.engines.llamafactory.tiny import make_tiny_model  # noqa: E402
from agent_sft.errors import UserError, WorkFailed  # noqa: E402
from agent_sft.files import write_atomic, write_json  # noqa: E402
from agent_sft.runs.devices import Gpu, visible_gpus  # noqa: E402
from benchmarks.gpu.analysis import Model, ratio, summarise  # noqa: E402
from benchmarks.gpu.conversations import make_conversations  # noqa: E402
from benchmarks.gpu.page import markdown  # noqa: E402

INSIDE = Path(__file__).with_name("inside")
DATASET = "synthetic"
VERSIONS = ("torch", "transformers", "llamafactory", "liger-kernel", "flash-attn")
SEED = 42
LEARNING_RATE = 3e-4
"""High enough that the loss of a random model falls within the few steps, so that curves can be compared."""


@dataclass(frozen=True)
class Size:
    """How large the experiment is."""

    like: TinyModel
    conversations: int
    shortest: int
    longest: int
    cutoff: int
    steps: int
    warmup: int
    repeats: int


FULL = Size(
    # The sizes of Qwen2.5-0.5B: 494 M parameters.
    TinyModel(layers=24, hidden=896, intermediate=4864, heads=14, key_value_heads=2, vocabulary=151936),
    conversations=240,
    shortest=2000,
    longest=11700,
    cutoff=12000,
    steps=30,
    warmup=6,
    repeats=3,
)
SMALL = Size(TinyModel(), conversations=16, shortest=250, longest=450, cutoff=500, steps=5, warmup=2, repeats=1)


@dataclass(frozen=True)
class Bench:
    """One machine, one model and one set of conversations, ready to be trained on."""

    python: Path
    place: Path
    size: Size
    gpu: Gpu | None

    @property
    def model(self) -> Path:
        """The random model."""
        return self.place / "model"

    def plain(self) -> dict[str, Any]:
        """Return the settings that run_sft.sh trains by when nothing is said: batch 1, accumulation 2, bf16."""
        config = SFTConfig(
            input=(str(self.place / "conversations.jsonl"),),
            model=str(self.model),
            output_dir=self.place / "trained",
            dataset_name=DATASET,
            steps=self.size.steps,
            cutoff_len=self.size.cutoff,
            lr=LEARNING_RATE,
            seed=SEED,
        )
        arguments = option_arguments(config, precision="bf16" if self.gpu is not None else None)
        return arguments | {"dataset_dir": str(self.place), "save_strategy": "no", "plot_loss": False}

    def prepare(self) -> None:
        """Make the conversations and the model."""
        size = self.size
        rows = make_conversations(size.conversations, size.shortest, size.longest, SEED)
        source = self.place / "conversations.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        prepare_dataset(source, name=DATASET, folder=self.place)
        make_tiny_model(self.python, source, self.model, seed=SEED, like=size.like)

    def measure(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Train by these settings in a process of its own."""
        order = {"settings": settings, "warmup": self.size.warmup}
        started = SHARED.forked if self.gpu is None else list
        result: dict[str, Any] = call_inside(
            self.python, INSIDE / "measure_training.py", payload=order, started=started
        )
        return result

    def fast(self, lengths: list[int]) -> list[Switch]:
        """Decide which fast settings this machine can use."""
        shape = model_shape(str(self.model))
        machine = look_at_machine(
            self.python,
            str(self.model),
            gpu_bytes=[self.gpu.free_bytes] if self.gpu else [],
            compute_capability=self.gpu.compute_capability if self.gpu else None,
            memory_needed=lambda arguments: _memory(shape, arguments),
        )
        return fast_settings(self.plain(), machine, lengths)


def run(bench: Bench, out: Path) -> dict[str, Any]:
    """Measure everything; what is known is written after every run, so that nothing measured is lost."""
    say("making the conversations and the model")
    bench.prepare()
    report: dict[str, Any] = {
        "gpu": bench.gpu is not None,
        "machine": call_inside(bench.python, INSIDE / "measure_matmul.py"),
        "versions": {name: value for name, value in engine_versions(bench.python, VERSIONS).items() if value},
        "steps": bench.size.steps,
        "warmup": bench.size.warmup,
        "runs": {"seed": [], "fast": []},
    }
    settings = {"seed": bench.plain()}
    for repeat in range(bench.size.repeats):
        for name in ("seed", "fast"):
            if name not in settings:
                # The first plain run has told how long the conversations are, as LLaMA-Factory counts.
                switches = bench.fast(report["runs"]["seed"][0]["rows"])
                settings["fast"] = with_switches(settings["seed"], switches)
                report["switches"] = [switch.line for switch in switches]
            result = bench.measure(settings[name])
            report["runs"][name].append(result)
            report["settings"] = settings
            write_json(out / "report.json", report)
            speed = result["tokens"] / result["seconds"]
            say(f"{name} {repeat + 1}/{bench.size.repeats}: {speed:,.0f} tokens/s")
    report |= _summary(bench, report)
    write_json(out / "report.json", report)
    write_atomic(out / "report.md", markdown(report))
    curves = {name: [result["losses"] for result in results] for name, results in report["runs"].items()}
    call_inside(bench.python, INSIDE / "draw_losses.py", (out / "losses.png").absolute(), payload=curves)
    return report


def _summary(bench: Bench, report: dict[str, Any]) -> dict[str, Any]:
    first = report["runs"]["seed"][0]
    lengths = first["rows"]
    shape = model_shape(str(bench.model))
    assert shape is not None
    model = Model(first["parameters"], shape.layers, shape.hidden)
    rate = report["machine"]["rate"]
    seed, fast = (summarise(report["runs"][name], model, lengths, rate) for name in ("seed", "fast"))
    return {
        "model": vars(model),
        "data": {
            "conversations": len(lengths),
            "shortest": min(lengths),
            "longest": max(lengths),
            "mean": sum(lengths) / len(lengths),
        },
        "summary": {"seed": seed, "fast": fast, "gain": ratio(seed, fast)},
    }


def _memory(shape: ModelShape | None, arguments: dict[str, Any]) -> int | None:
    estimate = estimate_memory(shape, arguments, Sharding()) if shape else None
    return estimate.total if estimate else None


def train_environment() -> Path:
    """Return the Python to train with."""
    if "AGENT_SFT_TRAIN_PYTHON" not in os.environ and find_spec("llamafactory") is not None:
        return Path(sys.executable)
    return engine_python("train")


def say(text: str) -> None:
    """Say what is going on."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Read the command line, measure, print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for report.json, report.md and losses.png")
    parser.add_argument("--small", action="store_true", help="a tiny model and short conversations, on the CPU")
    parser.add_argument("--steps", type=int, help=f"optimizer steps of a run (default: {FULL.steps})")
    parser.add_argument("--repeats", type=int, help=f"runs of each settings (default: {FULL.repeats})")
    parser.add_argument("--goal", type=float, help="exit 1 where fast / plain stays below this ratio")
    options = parser.parse_args()
    if options.small and visible_gpus():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    gpus = visible_gpus()
    size = SMALL if options.small else FULL
    changes = {name: getattr(options, name) for name in ("steps", "repeats") if getattr(options, name)}
    size = Size(**{**vars(size), **changes})
    try:
        if size.steps <= size.warmup:
            raise UserError(f"{size.warmup} steps are not measured: give more", where="--steps")
        if not gpus and not options.small:
            raise UserError("there is no NVIDIA GPU here", fix="--small tries the benchmark itself on the CPU")
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpus[0].uuid  # one GPU: LLaMA-Factory wants torchrun for several
        with tempfile.TemporaryDirectory(prefix="train-throughput-") as place:
            report = run(Bench(train_environment(), Path(place), size, gpus[0] if gpus else None), options.out)
    except (UserError, WorkFailed) as error:
        say(f"error: {error}")
        return error.exit_code
    print((options.out / "report.md").read_text(encoding="utf-8"))
    reached = report["summary"]["gain"]["ratio"]
    if options.goal is not None and reached < options.goal:
        say(f"fast / plain is {reached:.2f}, the goal {options.goal:g}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
