"""Progress and figures come from what the trainer writes."""

from __future__ import annotations

import json
from pathlib import Path

from agent_sft.engines.llamafactory.results import TrainerLog, read_result, trainer_files


def test_only_whole_lines_that_are_new_are_read(tmp_path: Path) -> None:
    path = tmp_path / "trainer_log.jsonl"
    path.write_text('{"current_steps": 1}\n')
    log = TrainerLog(path)
    assert log.new_lines() == []
    with path.open("a") as stream:
        stream.write('{"current_steps": 2}\n{"current_st')
    assert log.new_lines() == [{"current_steps": 2}]
    with path.open("a") as stream:
        stream.write('eps": 3}\nnot json\n')
    assert log.new_lines() == [{"current_steps": 3}]


def test_a_log_that_is_not_there_yet_has_no_lines(tmp_path: Path) -> None:
    assert TrainerLog(tmp_path / "trainer_log.jsonl").new_lines() == []


def test_the_figures_of_a_finished_training(tmp_path: Path) -> None:
    history = [{"loss": 2.0, "step": 1}, {"loss": 1.0, "step": 2}, {"eval_loss": 1.5, "step": 2}, {"train_loss": 1.4}]
    state = {"global_step": 2, "log_history": history, "num_input_tokens_seen": 640}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    (tmp_path / "train_results.json").write_text(json.dumps({"train_runtime": 3.5}))
    (tmp_path / "training_loss.png").write_bytes(b"png")
    result = read_result(tmp_path)
    assert (result.steps, result.train_loss, result.eval_loss) == (2, 1.0, 1.5)
    assert (result.tokens, result.seconds, result.loss_plot) == (640, 3.5, tmp_path / "training_loss.png")


def test_what_is_missing_is_not_made_up(tmp_path: Path) -> None:
    result = read_result(tmp_path)
    assert (result.train_loss, result.eval_loss, result.tokens, result.seconds) == (None, None, None, None)


def test_the_users_own_files_are_not_the_trainers(tmp_path: Path) -> None:
    for name in ("notes.md", "run.yaml", "model.safetensors", "trainer_log.jsonl"):
        (tmp_path / name).write_text("")
    (tmp_path / "checkpoint-5").mkdir()
    assert [path.name for path in trainer_files(tmp_path)] == ["checkpoint-5", "model.safetensors", "trainer_log.jsonl"]
