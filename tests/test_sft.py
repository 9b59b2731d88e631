"""`run_sft.sh`, from a data file to a trained model, with the real LLaMA-Factory."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from agent_sft.errors import UserError
from agent_sft.runs.directory import RunDirectory
from agent_sft.stages.sft import removed_if_refused
from tests.conftest import RunCli
from tests.forks import unforked
from tests.support import QUICK, SMALL, conversations, final_step, loaded_examples, losses, short_data, tree

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, run_cli: RunCli) -> tuple[Path, str]:
    """A folder in which a run was finished, with what the run printed. Names are as awkward as they get."""
    folder = tmp_path_factory.mktemp('a b\'c "d" $HOME é')
    shutil.copy(SMALL, folder / "my data.json")
    done = run_cli("sft", "my data.json", *QUICK, "--epochs", "1", "--output-dir", "out put", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout + done.stderr


def test_a_disk_that_fills_up_after_the_training_costs_nothing_of_it(tmp_path: Path) -> None:
    trained, refused = RunDirectory(tmp_path / "trained"), RunDirectory(tmp_path / "saves" / "refused")
    for run in (trained, refused):
        with pytest.raises(UserError), removed_if_refused(run):
            run.path.mkdir(parents=True)
            if run is trained:
                (run.path / "model.safetensors").touch()
            raise UserError("no space left on the disk")
    assert (trained.path / "model.safetensors").exists()
    assert not (tmp_path / "saves").exists()


def test_a_model_is_trained_on_every_row(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    assert loaded_examples(folder / "out put") == [len(conversations())]
    assert final_step(folder / "out put") == len(conversations()) // 2
    assert (folder / "out put" / "model.safetensors").is_file()


def test_the_end_shows_the_figures_and_what_to_do_next(trained: tuple[Path, str]) -> None:
    _, printed = trained
    for word in (
        "trained: out put",
        "train loss",
        "loss plot",
        "tokens",
        "agent-sft serve",
        "--do_eval",
    ):
        assert word in printed, word


def test_what_was_merged_and_trimmed_is_said(trained: tuple[Path, str]) -> None:
    _, printed = trained
    assert "process: merge_turns: 22 changed" in printed
    assert "process: telecom.yaml, because" in printed
    assert "24 rows, 24 usable, 0 rejected" in printed


def test_the_run_is_recorded_with_every_setting(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    record = yaml.safe_load((folder / "out put" / "run.yaml").read_text())
    assert record["llamafactory"]["learning_rate"] == 0.000005
    assert record["versions"]["llamafactory"] == "0.9.5"
    settings = yaml.safe_load((folder / "out put" / "attempts" / "1" / "train.yaml").read_text())
    assert settings["model_name_or_path"] == "out put/base"


def test_the_same_command_again_does_nothing(trained: tuple[Path, str], run_cli: RunCli) -> None:
    folder, _ = trained
    before = tree(folder / "out put")
    again = run_cli("sft", "my data.json", *QUICK, "--epochs", "1", "--output-dir", "out put", cwd=folder)
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "finished already (12 steps): out put")
    assert tree(folder / "out put") == before


def test_a_dry_run_says_what_would_run_and_touches_nothing(trained: tuple[Path, str], run_cli: RunCli) -> None:
    folder, _ = trained
    before = tree(folder)
    options = ("sft", "my data.json", *QUICK, "--epochs", "2", "--output-dir", "out put", "--dry-run")
    shown = run_cli(*options, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert "prepare: done already" in shown.stdout
    assert "train: runs: num_train_epochs was 1.0, is 2.0" in shown.stdout
    assert tree(folder) == before


def test_a_changed_setting_sets_the_earlier_result_aside(trained: tuple[Path, str], run_cli: RunCli) -> None:
    folder, _ = trained
    shutil.copytree(folder / "out put", folder / "changed")
    done = run_cli(
        "sft", "my data.json", *QUICK, "--epochs", "1", "--lr", "1e-3", "--output-dir", "changed", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    assert "learning_rate was 5e-06, is 0.001" in done.stderr
    assert (folder / "changed" / "set-aside" / "1" / "model.safetensors").is_file()
    assert final_step(folder / "changed") == 12
    assert loaded_examples(folder / "changed") == [24, 24]


def test_fresh_sets_an_earlier_result_aside_and_starts_over(trained: tuple[Path, str], run_cli: RunCli) -> None:
    folder, _ = trained
    shutil.copytree(folder / "out put", folder / "fresh")
    options = ("sft", "my data.json", *QUICK, "--epochs", "1", "--fresh", "--output-dir", "fresh")
    done = run_cli(*options, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "--fresh; set aside in fresh/set-aside/1" in done.stderr
    before = folder / "fresh" / "set-aside" / "1"
    assert (before / "checkpoint-12").is_dir()
    assert losses(folder / "fresh") == losses(before)
    assert loaded_examples(folder / "fresh") == [24, 24]


def test_somebody_elses_model_is_not_overwritten(trained: tuple[Path, str], run_cli: RunCli) -> None:
    folder, _ = trained
    (folder / "theirs").mkdir()
    (folder / "theirs" / "model.safetensors").write_text("precious")
    done = run_cli("sft", "my data.json", *QUICK, "--steps", "1", "--output-dir", "theirs", cwd=folder)
    assert done.returncode == 2
    assert "holds files that this command did not make (model.safetensors)" in done.stderr
    assert tree(folder / "theirs").keys() == {"model.safetensors"}


def test_the_serving_works_when_pasted(trained: tuple[Path, str], serve_python: Path) -> None:
    folder, printed = trained
    command = next(line for line in printed.splitlines() if "agent-sft serve" in line)
    done = subprocess.run(
        ["bash", "-c", f"{command} --dry-run"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "agent_sft_server.py --model 'out put'" in done.stdout


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory, run_cli: RunCli) -> tuple[Path, str]:
    """A folder in which an adapter was trained and evaluated on the way, with what the run printed."""
    folder = tmp_path_factory.mktemp("lora")
    options = ("--finetuning-type", "lora", "--lora-rank", "4", "--lora-target", "q_proj,v_proj")
    evaluated = ("--steps", "4", "--checkpoint-interval", "2", "--eval-dataset", short_data(folder / "held out", 4))
    given = (*QUICK, *options, *evaluated, "--output-dir", "out put")
    done = run_cli("sft", short_data(folder), *given, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_evaluation_works_when_pasted(lora: tuple[Path, str]) -> None:
    folder, printed = lora
    command = next(line for line in printed.splitlines() if "--do_eval" in line)
    subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, check=True)
    assert json.loads((folder / "out put" / "evaluation" / "eval_results.json").read_text())["eval_loss"] > 0


def test_lora(lora: tuple[Path, str]) -> None:
    folder, printed = lora
    adapter = json.loads((folder / "out put" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], set(adapter["target_modules"])) == (4, 8, {"q_proj", "v_proj"})
    assert "--adapter_name_or_path" in printed


def test_evaluation_loss_during_and_after_training(lora: tuple[Path, str]) -> None:
    folder, printed = lora
    history = json.loads((folder / "out put" / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [2, 4]
    assert "eval loss" in printed
    assert {path.name for path in (folder / "out put").glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}


def test_a_users_yaml_is_followed_and_what_it_overrides_is_shown(
    trained: tuple[Path, str], tmp_path: Path, run_cli: RunCli
) -> None:
    folder, _ = trained
    theirs = {"dataset": "calls", "dataset_dir": str(folder / "out put" / "data"), "max_steps": 2, "max_samples": 5}
    theirs |= {"learning_rate": 0.001, "lr_scheduler_type": "constant", "output_dir": str(tmp_path / "theirs")}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(theirs))
    done = run_cli(
        "sft",
        short_data(tmp_path),
        *QUICK,
        "--lr",
        "0.5",
        "--config",
        tmp_path / "my.yaml",
        "--seed",
        "7",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "sets learning_rate: 0.001 (instead of 0.5)" in done.stderr
    settings = yaml.safe_load((tmp_path / "theirs" / "attempts" / "1" / "train.yaml").read_text())
    assert (settings["learning_rate"], settings["lr_scheduler_type"], settings["seed"]) == (0.001, "constant", 7)
    assert final_step(tmp_path / "theirs") == 2
    assert "training reads calls there" in done.stderr
    assert loaded_examples(tmp_path / "theirs") == [5]


def test_a_loop_over_variants(tmp_path: Path, repo: Path, train_python: Path) -> None:
    loop = f"""
    for pct in 0 5; do
      bash '{repo}/run_sft.sh' "data_${{pct}}.json" --skip-process --dataset-name "telecom_${{pct}}pct" \
        --model tiny --steps 1
    done
    """
    for pct in (0, 5):
        (tmp_path / f"data_{pct}.json").write_text(json.dumps(conversations()[pct : pct + 4]))
    done = subprocess.run(["bash", "-euc", loop], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for pct in (0, 5):
        assert final_step(tmp_path / "saves" / "tiny" / f"telecom_{pct}pct") == 1


def test_the_steps_by_hand(trained: tuple[Path, str], tmp_path: Path, repo: Path, train_python: Path) -> None:
    folder, _ = trained
    config = (repo / "configs" / "sft_config.yaml").read_text()
    settings = yaml.safe_load(config) | {
        "model_name_or_path": str(folder / "out put" / "base"),
        "output_dir": "out",
        "max_steps": 1,
        "bf16": False,
    }
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(settings))
    steps = f"""
    python '{repo}/merge_consecutive_turns.py' --input '{SMALL}' --output merged.json
    python '{repo}/prepare_sft_data.py' --input merged.json --dataset-name tau2_sft --output-dir ./workdir
    '{train_python.parent}/llamafactory-cli' train my.yaml
    """
    done = subprocess.run(["bash", "-euc", steps], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_interrupted_once_it_saves_and_goes_on_from_there(tmp_path: Path, repo: Path, train_python: Path) -> None:
    out = tmp_path / "out"
    command = [
        "bash",
        str(repo / "run_sft.sh"),
        str(short_data(tmp_path)),
        *QUICK,
        "--epochs",
        "4",
        "--output-dir",
        str(out),
    ]
    # As from a shell: LLaMA-Factory is imported anew.
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=unforked())
    wait_for_step(out, 3)
    run.send_signal(signal.SIGINT)  # the script has become the program by exec
    _, printed = run.communicate(timeout=600)
    assert run.returncode == 130, printed
    saved = next(out.glob("checkpoint-*"))
    assert f"stopped at step {saved.name.removeprefix('checkpoint-')}, its checkpoint is saved" in printed
    assert not (out / "model.safetensors").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"going on from {saved.name}" in done.stderr
    assert final_step(out) == 48


def test_a_failed_training_shows_the_end_of_its_log(tmp_path: Path, run_cli: RunCli) -> None:
    options = ("--steps", "1", "--set", "lr_scheduler_kwargs={sideways: 1}", "--output-dir", tmp_path / "out")
    done = run_cli("sft", short_data(tmp_path), *QUICK, *options)
    assert done.returncode == 1
    assert "the training failed" in done.stderr
    assert "sideways" in done.stderr
    assert str(tmp_path / "out" / "attempts" / "1" / "train.log") in done.stderr
    assert 'Traceback (most recent call last):\n  File "' + str(tmp_path) not in done.stderr


def wait_for_step(out: Path, step: int) -> None:
    """Wait until the trainer has logged this step."""
    log = out / "trainer_log.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if log.is_file() and f'"current_steps": {step},' in log.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached")
