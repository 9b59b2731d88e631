"""The wizard: by a file of answers, and by keys as a terminal sends them."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from agent_sft.config.tiny import TINY
from agent_sft.runs.devices import Gpu
from agent_sft.wizard.models import KNOWN, needed, offered
from agent_sft.wizard.settings import computed
from tests.conftest import RunCli
from tests.support import SMALL

ENTER, DOWN, CTRL_C, ERASE = "\r", "\x1b[B", "\x03", "\x15"
GIB = 1 << 30


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with conversations, prompts, and files that are neither."""
    shutil.copy(SMALL, tmp_path / "talks.json")
    rows = [{"prompt": f"What is {number} + 1?"} for number in range(30)]
    (tmp_path / "ask.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "other.json").write_text('{"name": "something else"}')
    (tmp_path / "broken.jsonl").write_text('{"messages": [\n{"messages": []}\n')
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.yaml").write_text("")
    shutil.copy(SMALL, tmp_path / "old" / "made.json")
    return tmp_path


def answers(place: Path, **given: Any) -> Path:
    path = place.parent / f"{place.name} answers.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


TRAINING = {"scenario": "file", "data": "talks.json", "model": "tiny", "name": "first-001"}
DISTILLING = {
    "scenario": "distill",
    "prompts": "ask.jsonl",
    "teacher": "http://127.0.0.1:9/v1#big",
    "samples": 2,
    "model": "Qwen/Qwen2.5-7B-Instruct",
    "name": "second",
}


def files(place: Path, name: str) -> tuple[str, dict[str, Any]]:
    """The script and the settings that were written."""
    script = place / name / "sft_train.sh"
    assert script.stat().st_mode & stat.S_IXUSR
    return script.read_text(), yaml.safe_load((place / name / "sft_train.yaml").read_text())


def test_answers_in_a_file_write_a_script_and_its_settings(call_cli: RunCli, place: Path) -> None:
    done = call_cli("init", "--answers", answers(place, **TRAINING, settings={"lora_rank": 4, "epochs": 1}), cwd=place)
    assert done.returncode == 0, done.stderr
    script, settings = files(place, "first-001")
    assert 'bash "$agent_sft/run_sft.sh" talks.json' in script
    assert "--config first-001/sft_train.yaml" in script
    assert settings == {
        "finetuning_type": "full",
        "num_train_epochs": 1,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 0.0002,
        "lr_scheduler_type": "linear",
        "warmup_steps": 10,
        "cutoff_len": 12000,
    }
    assert "bash first-001/sft_train.sh" in done.stdout


def test_a_distillation_stands_in_a_file_of_its_own(call_cli: RunCli, place: Path) -> None:
    done = call_cli("init", "--answers", answers(place, **DISTILLING, max_tokens_total=5000), cwd=place)
    assert done.returncode == 0, done.stderr
    script, settings = files(place, "second")
    assert "distill --config second/distill.yaml" in script
    assert 'run_sft.sh" second@0.1.0' in script
    assert (settings["finetuning_type"], settings["lora_rank"]) == ("lora", 8)
    asked = call_cli("distill", "--config", "second/distill.yaml", "--dry-run", cwd=place)
    assert asked.returncode == 0, asked.stderr
    assert "at most 60" in asked.stdout
    assert "--max-tokens-total 5,000" in asked.stdout


def test_on_a_ray_cluster_the_script_submits_a_job_and_waits_for_it(call_cli: RunCli, place: Path) -> None:
    given = {**TRAINING, "model": "Qwen/Qwen2.5-7B-Instruct", "where": "ray", "ray_address": "10.0.0.1:6379", "gpus": 4}
    done = call_cli("init", "--answers", answers(place, **given), cwd=place)
    assert done.returncode == 0, done.stderr
    script, settings = files(place, "first-001")
    assert '"$python" -P -m agent_sft train sft talks.json' in script
    for words in ("--executor ray", "--ray-address 10.0.0.1:6379", "--gpus 4", "--wait", "--fast"):
        assert f"    {words}" in script
    assert settings["per_device_train_batch_size"] == 1, "on four GPUs"


def test_slurm_is_there_where_jobs_are_submitted(
    call_cli: RunCli, place: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path_factory.mktemp("programs")
    monkeypatch.setenv("PATH", str(programs))
    given = answers(place, **TRAINING, where="slurm", slurm="partition=gpu time=4:00:00")
    done = call_cli("init", "--answers", given, cwd=place)
    assert (done.returncode, "there is no sbatch here" in done.stderr) == (2, True)

    sbatch = programs / "sbatch"
    sbatch.touch(mode=0o755)
    done = call_cli("init", "--answers", given, cwd=place)
    assert done.returncode == 0, done.stderr
    script, _ = files(place, "first-001")
    assert '"$python" -P -m agent_sft train sft ' in script
    for words in ("--executor slurm", "--slurm partition=gpu", "--slurm time=4:00:00", "--wait"):
        assert f"    {words}" in script
    wrong = answers(place, **{**TRAINING, "name": "second"}, where="slurm", slurm="partitoin=gpu")
    done = call_cli("init", "--answers", wrong, cwd=place)
    assert (done.returncode, "did you mean 'partition'?" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({**TRAINING, "scenario": "fil"}, "scenario: 'fil' is no answer"),
        ({**TRAINING, "data": "none.json"}, "data: none.json: no such file"),
        ({**TRAINING, "data": "other.json"}, "data: other.json"),
        ({**TRAINING, "model": "nowhere"}, "model: there is no model 'nowhere'"),
        ({**TRAINING, "name": "Not A Name"}, "name: 'Not A Name' cannot be the name"),
        ({**TRAINING, "name": "old"}, "is there already"),
        ({**TRAINING, "settings": {"epoch": 1}}, "did you mean 'epochs'?"),
        ({**TRAINING, "settings": {"learning_rate": "fast"}}, "learning_rate: input should be a valid number"),
        ({**TRAINING, "where": "there"}, "where: 'there' is no answer"),
        ({**TRAINING, "where": "ray", "ray_address": "host"}, "ray_address: 'host' is no address of a Ray cluster"),
        ({**TRAINING, "where": "ray", "gpus": "all"}, "gpus: 'all' is no number of GPUs"),
        ({**TRAINING, "nme": "x"}, "did you mean 'name'?"),
        ({**TRAINING, "teacher": "x"}, "'teacher' is not asked after these answers"),
        ({**TRAINING, "run": "perhaps"}, "run: 'perhaps' is no answer"),
        ({key: value for key, value in TRAINING.items() if key != "name"}, "there is no answer to 'name'"),
        ({**DISTILLING, "prompts": "broken.jsonl"}, "prompts: broken.jsonl"),
        ({**DISTILLING, "teacher": "http://nowhere"}, "teacher: 'http://nowhere' is no address"),
        ({**DISTILLING, "samples": 0}, "samples: '0' is no number from 1 on"),
        ({**DISTILLING, "max_tokens_total": "many"}, "max_tokens_total: 'many' is no number"),
        ({**DISTILLING, "key_variable": "sk-1234"}, "give the variable's name, never the key itself"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_wrong_answer_is_named_and_nothing_is_written(
    call_cli: RunCli, place: Path, given: dict[str, Any], said: str
) -> None:
    before = sorted(place.rglob("*"))
    done = call_cli("init", "--answers", answers(place, **given), cwd=place)
    assert done.returncode == 2, done.stdout
    assert said in done.stderr
    assert sorted(place.rglob("*")) == before


def test_without_a_terminal_and_without_answers_nobody_is_asked(call_cli: RunCli, place: Path) -> None:
    done = call_cli("init", cwd=place)
    assert done.returncode == 2
    assert "--answers FILE" in done.stderr


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[PipeInput]:
    """What is typed; the terminal is this pipe."""
    monkeypatch.setattr("agent_sft.wizard.terminal.is_terminal", lambda: True)
    monkeypatch.setattr("agent_sft.wizard.steps.visible_gpus", lambda: ())
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


@pytest.mark.slow
def test_every_question_can_be_answered_wrongly_and_gone_back_from(
    call_cli: RunCli, place: Path, keys: PipeInput
) -> None:
    typed = [
        ENTER,  # a file
        DOWN + ENTER,  # another file than the one that is offered
        "none.json" + ENTER,
        ERASE + "back" + ENTER,
        ENTER,  # the one that is offered
        DOWN + ENTER,  # another model than tiny
        "nowhere" + ENTER,
        ERASE + "back" + ENTER,
        ENTER,  # tiny
        DOWN + ENTER,  # on a Ray cluster
        ERASE + "nowhere" + ENTER,
        ERASE + "back" + ENTER,
        ENTER,  # on this machine
        "No Name" + ENTER,
        ERASE + "old" + ENTER,
        ERASE + "mine" + ENTER,
        DOWN + ENTER,  # change the epochs
        ERASE + "none" + ENTER,
        ERASE + "3" + ENTER,
        ENTER,  # take them
        DOWN + ENTER,  # do not run it
    ]
    keys.send_text("".join(typed))
    done = call_cli("init", cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        "no such file",
        "there is no model 'nowhere'",
        "'nowhere' is no address of a Ray cluster",
        "cannot be the name",
        "is there already",
        "epochs: input",
    ):
        assert said in done.stdout
    assert "files here read to the end; conversations in 1 of them" in done.stdout
    script, settings = files(place, "mine")
    assert " talks.json" in script
    assert settings["num_train_epochs"] == 3


FIRST = [ENTER, ENTER, ENTER, ENTER, "mine" + ENTER, ENTER]
"""Keys that answer the questions of a training, in order."""


@pytest.mark.parametrize("answered", range(len(FIRST)))
@pytest.mark.parametrize(("end", "status"), [(CTRL_C, 130), ("quit", 0)], ids=["ctrl-c", "quit"])
def test_one_can_leave_at_every_question(
    call_cli: RunCli, place: Path, keys: PipeInput, answered: int, end: str, status: int
) -> None:
    before = sorted(place.rglob("*"))
    if end == "quit":  # the last of the choices, or a word
        end = "\x1b[A" + ENTER if answered != 4 else "quit" + ENTER
    keys.send_text("".join(FIRST[:answered]) + end)
    done = call_cli("init", cwd=place)
    assert done.returncode == status, done.stdout + done.stderr
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("rows", "epochs", "warmup"), [(1, 10, 10), (700, 10, 18), (3000, 3, 75), (10_000, 1, 250), (90_000, 1, 1000)]
)
def test_settings_follow_from_the_number_of_rows(rows: int, epochs: int, warmup: int) -> None:
    settings = computed(rows, tiny=False)
    assert (settings.epochs, settings.warmup_steps) == (epochs, warmup)
    assert (settings.batch_size, settings.learning_rate, settings.schedule) == (2, 2e-4, "linear")


def gpu(gibibytes: int) -> Gpu:
    return Gpu(0, "GPU-0", "a GPU", gibibytes * GIB, gibibytes * GIB, 9.0)


def test_only_models_that_fit_are_offered_with_the_reason() -> None:
    assert [choice.value for choice in offered([])] == [TINY, "other"]
    assert [choice.value for choice in offered([gpu(1)])] == [TINY, "other"]
    small = [choice.value for choice in offered([gpu(24)])]
    large = [choice.value for choice in offered([gpu(140)])]
    assert large[0] == "Qwen/Qwen3-30B-A3B-Instruct-2507"
    assert large[0] not in small
    assert len(small) > 2
    assert "of 24 GiB free" in offered([gpu(24)])[0].title
    sizes = [needed(model, 1) for model in KNOWN]
    assert sizes == sorted(sizes, reverse=True)


def stand_in(place: Path, script: str) -> Path:
    """A clone whose `run_sft.sh` is a script of the test."""
    clone = place.parent / f"{place.name} clone"
    clone.mkdir()
    (clone / "run_sft.sh").write_text(script)
    return clone


OUT_OF_MEMORY = """
while [[ $1 != --output-dir ]]; do shift; done
mkdir -p "$2/attempts/1"
if grep -q 'finetuning_type: lora' "$2/../sft_train.yaml"; then
    echo '{"global_step": 7}' >"$2/trainer_state.json"
    exit 0
fi
echo 'torch.OutOfMemoryError: CUDA out of memory' >"$2/attempts/1/train.log"
exit 1
"""


@pytest.mark.slow
def test_out_of_memory_leads_to_settings_that_need_less(call_cli: RunCli, place: Path, keys: PipeInput) -> None:
    clone = stand_in(place, OUT_OF_MEMORY)
    keys.send_text("".join(FIRST) + ENTER + ENTER)  # run it; write what is proposed, and run that
    done = call_cli("init", cwd=place, env={"AGENT_SFT_CLONE": str(clone)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "memory did not suffice; what would fit: one conversation at a time, LoRA" in done.stdout
    _, settings = files(place, "mine")
    assert settings["per_device_train_batch_size"] == 1
    assert settings["gradient_accumulation_steps"] == 2
    assert "mine is trained" in done.stdout
    assert "servers/mine/api-key" in done.stdout
    assert 'OpenAI(base_url="http://127.0.0.1:8000/v1"' in done.stdout
    assert "curl -s http://127.0.0.1:8000/v1/chat/completions" in done.stdout


@pytest.mark.parametrize("script", [OUT_OF_MEMORY, "exit 1"], ids=["memory", "another reason"])
def test_a_run_that_fails_by_answers_fails(call_cli: RunCli, place: Path, script: str) -> None:
    clone = stand_in(place, script)
    given = answers(place, **TRAINING, run=True)
    done = call_cli("init", "--answers", given, cwd=place, env={"AGENT_SFT_CLONE": str(clone)})
    assert done.returncode == 1
    assert ("memory did not suffice" in done.stdout) == (script == OUT_OF_MEMORY)
    assert "is trained" not in done.stdout


Held = Callable[[], dict[str, Any]]


def test_who_holds_a_gpus_memory_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from agent_sft.runs.devices import GpuProcess
    from agent_sft.wizard import steps

    held: Held = lambda: {"GPU-0": (GpuProcess(4711, "ann, python", 20 * GIB),)}  # noqa: E731
    monkeypatch.setattr(steps, "visible_gpus", lambda: (gpu(24),))
    monkeypatch.setattr(steps, "gpu_processes", held)
    said = "\n".join(steps.held_memory())
    assert "GPU 0 (a GPU): process 4711 (ann, python) holds 20.0 GiB" in said
    assert "kill PID" in said
