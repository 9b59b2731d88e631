"""One scorer, several models: each gets the answers it gives when it is served alone, and deaths are got over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.engines.lines import LineFollower
from agent_sft.evals.results import read_results
from agent_sft.runs.processes import catch_signals
from agent_sft.stages.evaluating import evaluate
from agent_sft.stages.reporting import Quiet
from agent_sft.sweep.orders import OUTCOMES, QUEUE, Answer, Order, write_line
from tests.serving import all_gone, command_of, family_of, other_adapter, random_weights, rewritten

pytestmark = pytest.mark.slow

QUESTIONS = ("My line is slow.", "Which plan do I have?", "Cancel my contract, now!")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, full_run: Path, lora_run: Path) -> dict[str, Path]:
    """A base, another whole model of its shape, and two adapters of the base."""
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for number, name in enumerate(("base", "full"), start=1):
        made[name] = shutil.copytree(full_run, folder / name, ignore=shutil.ignore_patterns("checkpoint-*", "base"))
        random_weights(made[name] / "model.safetensors", number)
    made["lora"] = shutil.copytree(lora_run, folder / "lora", ignore=shutil.ignore_patterns("checkpoint-*", "base"))
    rewritten(made["lora"] / "adapter_config.json", base_model_name_or_path=str(made["base"]))
    made["other"] = other_adapter(made["lora"], folder / "other", 1)
    return made


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    rows = [
        {"task_id": str(number), "instruction": text, "verifier": {"fn_name": "regex", "pattern": "[aeiou]{2}"}}
        for number, text in enumerate(QUESTIONS)
    ]
    (folder / "tasks.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def asked(model: Path, task: Path, out: Path, **options: object) -> EvaluationConfig:
    values = {"model": str(model), "evaluator": "tasks", "task": str(task), "out": out, "max_tokens": 12, **options}
    return EvaluationConfig.model_validate(values)


def answers(folder: Path) -> dict[str, object]:
    """What a model said to each question."""
    said: dict[str, object] = {}
    for trial in read_results(folder)[1]:
        assert trial.transcript is not None
        lines = (folder / trial.transcript.partition("#")[0]).read_text().splitlines()
        kept = next(row for row in map(json.loads, lines) if (row["task"], row["trial"]) == trial.place)
        said[trial.task] = [message for message in kept["messages"] if message["role"] == "assistant"]
    return said


class Desk:
    """A scorer at work."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        command = [sys.executable, "-P", "-m", "agent_sft.sweep.scoring", str(folder)]
        with (folder / "scorer.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self._answers = LineFollower(folder / OUTCOMES)

    def order(self, config: EvaluationConfig) -> Answer:
        """Have an evaluation done."""
        self.begin(config)
        return self.answer()

    def begin(self, config: EvaluationConfig) -> None:
        order = Order(
            what="score",
            job=str(config.out),
            evaluation=config.model_dump(mode="json"),
            lora_rank=8,
            log=str(self.folder / "job.log"),
        )
        write_line(self.folder / QUEUE, order)

    def answer(self) -> Answer:
        deadline = time.monotonic() + 400
        while time.monotonic() < deadline:
            for line in self._answers.new_lines():
                return msgspec.convert(line, Answer)
            assert self.process.poll() is None, (self.folder / "scorer.log").read_text()
            time.sleep(0.05)
        raise AssertionError("no answer")

    @property
    def said(self) -> str:
        return (self.folder / "job.log").read_text()

    @property
    def starts(self) -> int:
        """How often a server was started."""
        return len(list((self.folder / "attempts").iterdir()))

    def engine(self) -> psutil.Process:
        """The server's process."""
        words = {one: command_of(one) for one in family_of(self.process.pid)}
        return next(one for one, line in words.items() if "agent_sft_server.py" in line and "keeper.py" not in line)


@contextmanager
def scorer(folder: Path) -> Iterator[Desk]:
    desk = Desk(folder)
    try:
        yield desk
    finally:
        desk.process.kill()
        desk.process.wait()


def test_sharing_changes_no_answer(models: dict[str, Path], task: Path, serve_python: Path, tmp_path: Path) -> None:
    order = ("lora", "base", "other", "full", "base", "full")
    with scorer(tmp_path / "server") as desk:
        for number, name in enumerate(order):
            answer = desk.order(asked(models[name], task, tmp_path / f"{number}-{name}"))
            assert answer.status == 0, desk.said
        assert desk.starts == 2, "one for the adapters and their base, one for whole models"
        family = family_of(desk.process.pid)
        write_line(desk.folder / QUEUE, Order(what="end"))
        assert desk.process.wait(60) == 0
        assert all_gone(family)
    shared = {f"{number}-{name}": answers(tmp_path / f"{number}-{name}") for number, name in enumerate(order)}
    assert shared["1-base"] == shared["4-base"]
    assert shared["3-full"] == shared["5-full"]
    assert len({json.dumps(shared[name]) for name in ("1-base", "2-other", "3-full")}) == 3
    for name in ("full", "other"):
        with catch_signals() as stop:
            evaluate(asked(models[name], task, tmp_path / name), reporter=Quiet(), stop=stop)
        assert answers(tmp_path / name) == shared[f"{'3' if name == 'full' else '2'}-{name}"]


def test_deaths_of_the_server_are_got_over_twice(
    models: dict[str, Path], task: Path, serve_python: Path, tmp_path: Path
) -> None:
    with scorer(tmp_path / "server") as desk:
        assert desk.order(asked(models["base"], task, tmp_path / "before")).status == 0
        long = asked(models["base"], task, tmp_path / "long", max_tokens=1200, trials=2)
        desk.begin(long)
        for death in (1, 2):
            while desk.starts < death or not (long.out / "attempts" / str(death)).is_dir():
                time.sleep(0.02)
            time.sleep(0.3)
            desk.engine().send_signal(signal.SIGKILL)
        answer = desk.answer()
        assert answer.status == 0, desk.said
        assert desk.starts == 3
        assert desk.said.count("the server has ended") == 2
        changed = asked(models["base"], task, tmp_path / "before", trials=2)
        assert desk.order(changed).status == 0, "the folder's other evaluation is set aside"
        assert read_results(tmp_path / "before")[0].trials == 2
        assert (tmp_path / "before" / "set-aside").is_dir()
        refused = desk.order(asked(models["base"], task / "nothing", tmp_path / "refused"))
        assert refused.status == 2
        assert desk.starts == 3


def test_a_scorer_that_is_killed_leaves_nothing(
    models: dict[str, Path], task: Path, serve_python: Path, tmp_path: Path
) -> None:
    from agent_sft.runs.processes import Child

    folder = tmp_path / "server"
    folder.mkdir()
    command = [sys.executable, "-P", "-m", "agent_sft.sweep.scoring", str(folder)]
    child = Child(command, log=folder / "scorer.log", env=os.environ)
    warm = Order(what="warm", evaluation=asked(models["base"], task, tmp_path / "out").model_dump(mode="json"))
    write_line(folder / QUEUE, warm)
    deadline = time.monotonic() + 200
    while not any("agent_sft_server.py" in command_of(one) for one in family_of(os.getpid())):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = family_of(os.getpid())
    scoring = next(one for one in family if command_of(one).startswith(" ".join(command[:-1])))
    scoring.kill()
    assert child.wait(30) == 128 + signal.SIGKILL
    assert all_gone(family)
