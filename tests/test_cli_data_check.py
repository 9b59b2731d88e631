"""`agent-sft data check` and `stats`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import SMALL, conversations


def write(folder: Path, rows: list[Any]) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_clean_data_exit_0_and_promise_every_row(run_cli: Callable[..., Any]) -> None:
    done = run_cli("data", "check", SMALL)
    assert done.returncode == 0, done.stderr
    assert "24 rows, 24 usable, 0 rejected" in done.stdout
    assert done.stdout.splitlines()[-1] == "LLaMA-Factory will train on 24 examples"


def test_rejected_rows_exit_1_each_with_its_reason(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    broken = {"conversations": [{"from": "human", "value": None}]}
    done = run_cli("data", "check", write(tmp_path, [*conversations(), broken]))
    assert done.returncode == 1
    assert "rejected: row 25: turn 1 (human)" in done.stdout
    assert "LLaMA-Factory will train on 24 examples" in done.stdout


def test_data_of_which_no_row_is_usable_exit_1(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    done = run_cli("data", "check", write(tmp_path, [{"conversations": [{"from": "human", "value": None}]}]))
    assert done.returncode == 1
    assert "the only row cannot be trained on" in done.stdout


def test_what_cannot_be_read_exits_2(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    assert run_cli("data", "check", tmp_path / "none.json").returncode == 2
    path = tmp_path / "cut.json"
    path.write_text('[{"conversations": [', encoding="utf-8")
    assert run_cli("data", "check", path).returncode == 2


def test_rows_that_may_be_too_long_are_said_without_a_model(run_cli: Callable[..., Any]) -> None:
    done = run_cli("data", "check", SMALL, "--cutoff-len", "100")
    assert "24 examples may be longer than 100 tokens: --model counts them" in done.stdout


def test_a_setting_that_does_not_bear_on_tokens_is_refused(run_cli: Callable[..., Any]) -> None:
    done = run_cli("data", "check", SMALL, "--set", "mask_histori=true")
    assert done.returncode == 2
    assert "did you mean 'mask_history'?" in done.stderr


def test_a_format_that_is_insisted_on_is_the_one_that_is_read(run_cli: Callable[..., Any]) -> None:
    for command in ("check", "stats"):
        assert run_cli("data", command, SMALL, "--format", "sharegpt").returncode == 0
    done = run_cli("data", "check", SMALL, "--format", "openai")
    assert (done.returncode, "row 1: the row has no messages" in done.stdout) == (1, True)
    done = run_cli("data", "stats", SMALL, "--format", "openay")
    assert (done.returncode, "did you mean 'openai'?" in done.stderr) == (2, True)


@pytest.mark.slow
def test_a_template_that_is_not_there_is_told_without_a_model(
    run_cli: Callable[..., Any], train_python: Path, tmp_path: Path
) -> None:
    prepare = ("prepare", "--input", SMALL, "--output-dir", tmp_path / "out")
    for command in (("data", "check", SMALL), ("data", "stats", SMALL), prepare):
        done = run_cli(*command, "--template", "qwem")
        assert (done.returncode, "did you mean 'qwen'?" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()
    for name in ("preview", "parity"):
        done = run_cli("data", name, SMALL, "--format", "openay", "--model", "tiny")
        assert (done.returncode, "did you mean 'openai'?" in done.stderr) == (2, True)


@pytest.mark.slow
def test_rows_that_would_be_cut_are_named(run_cli: Callable[..., Any]) -> None:
    done = run_cli("data", "check", SMALL, "--model", "tiny", "--cutoff-len", "560", "--on-overflow", "drop")
    assert done.returncode == 1
    changed = [line for line in done.stdout.splitlines() if line.startswith("changed: row ")]
    assert changed[0].startswith("changed: row 3: dropped: 0 of 12 turns kept, ")
    assert f"LLaMA-Factory will train on {24 - len(changed)} examples" in done.stdout
    assert "longer than 560 tokens" in done.stdout


def test_statistics_show_figures_and_a_histogram(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    path = write(tmp_path, [*conversations(), conversations()[0]])
    done = run_cli("data", "stats", path, "--html", tmp_path / "s.html")
    assert done.returncode == 0, done.stderr
    figures = {" ".join(line.split()[:-1]): line.split()[-1] for line in done.stdout.splitlines() if line.split()}
    assert figures["conversations"] == "25"
    assert figures["get_customer"] == "25"
    assert "duplicates                1 (4.0%)" in done.stdout
    assert "█" in done.stdout
    shown = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert "<svg" in shown
    assert "get_customer" in shown


def test_a_model_that_is_not_there_is_told_before_an_engine_starts(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    done = run_cli("data", "stats", SMALL, "--model", str(tmp_path / "model"))
    assert done.returncode == 2
    assert f"--model {tmp_path}/model: no such folder" in done.stderr
