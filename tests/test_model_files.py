"""What a model's folder says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_sft.engines.model_files import ModelFiles, read_model
from agent_sft.errors import UserError
from agent_sft.stages.serving_plan import default_name


def write(folder: Path, **files: Any) -> Path:
    """Write JSON files, and text where a value is text."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def model(folder: Path) -> ModelFiles:
    return read_model(str(folder), folder, local=True)


def test_an_adapter_knows_its_base_and_its_highest_rank(tmp_path: Path) -> None:
    adapter = {"base_model_name_or_path": "Qwen/Qwen2.5-7B-Instruct", "r": 8, "rank_pattern": {"q_proj": 32}}
    found = model(write(tmp_path, adapter_config__json=adapter))
    assert (found.base, found.rank) == ("Qwen/Qwen2.5-7B-Instruct", 32)


def test_a_base_made_by_the_run_is_found_where_the_run_was_moved(tmp_path: Path) -> None:
    run = write(tmp_path / "moved", run__yaml="llamafactory: {template: qwen}", adapter_config__json={"r": 8})
    write(run / "base", config__json={"hidden_size": 8})
    assert model(run).base == str(run / "base")
    assert model(run).template == "qwen"


def test_a_checkpoint_knows_the_run_it_lies_in(tmp_path: Path) -> None:
    run = write(tmp_path / "run", run__yaml="llamafactory: {template: llama3, cutoff_len: 99}")
    checkpoint = write(run / "checkpoint-7", config__json={})
    assert model(checkpoint).template == "llama3"
    assert default_name(model(checkpoint), "sha256:0123456789") == "run-checkpoint-7-01234567"


def test_a_model_that_no_run_trained(tmp_path: Path) -> None:
    found = model(write(tmp_path / "a model", config__json={"text_config": {"max_position_embeddings": 7}}))
    assert (found.template, found.base, found.rank, found.positions) == (None, None, 0, 7)
    assert default_name(found, "sha256:0123456789") == "a-model-01234567"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"chat_template__jinja": "file", "tokenizer_config__json": {"chat_template": "config"}}, "file"),
        ({"tokenizer_config__json": {"chat_template": "config"}}, "config"),
        (
            {
                "tokenizer_config__json": {
                    "chat_template": [
                        {"name": "default", "template": "plain"},
                        {"name": "tool_use", "template": "with tools"},
                    ]
                }
            },
            "with tools",
        ),
        ({}, None),
    ],
    ids=["file", "config", "several", "none"],
)
def test_the_chat_template(tmp_path: Path, files: dict[str, Any], expected: str | None) -> None:
    assert model(write(tmp_path, config__json={}, **files)).chat_template == expected


def test_whatever_decides_what_a_model_says_changes_its_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = write(tmp_path / "model", config__json={}, model__safetensors="weights")
    digests = [model(folder).digest()]
    assert model(folder).digest() == digests[0]
    for name, value in (("model__safetensors", "weightz"), ("tokenizer__json", {}), ("chat_template__jinja", "x")):
        digests.append(model(write(folder, **{name: value})).digest())
    write(folder, README__md="words")
    assert model(folder).digest() == digests[-1]
    assert len(set(digests)) == 4


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no model"):
        model(tmp_path)
    write(tmp_path, run__yaml="llamafactory: {}")
    with pytest.raises(UserError, match="the run has no trained model yet"):
        model(tmp_path)
