"""A template that does not belong to the model is refused, and the right one named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from agent_sft.engines.environments import engine_versions
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS, Facts, load_facts
from agent_sft.engines.llamafactory.templates import (
    check_template,
    check_template_name,
    expected_template,
    tokenizer_tokens,
)
from agent_sft.errors import UserError


@pytest.fixture(scope="module")
def facts(train_python: Path) -> Facts:
    return load_facts(train_python, engine_versions(train_python, DISTRIBUTIONS))


def tokenizer(folder: Path, *tokens: str) -> Path:
    folder.mkdir(parents=True)
    added = [{"id": number, "content": token} for number, token in enumerate(tokens)]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added, "model": {"vocab": {"a": 9}}}))
    return folder


@pytest.mark.parametrize(
    ("model", "template"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "qwen"),
        ("Qwen/Qwen3-8B", "qwen3"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama3"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3"),
        ("a/folder/named/Qwen2.5-7B-Instruct", "qwen"),
        ("Qwen/Qwen2.5-7B", None),
        ("somebody/unheard-of", None),
    ],
)
def test_the_models_own_template(facts: Facts, model: str, template: str | None) -> None:
    assert expected_template(model, facts) == template


def test_a_mismatch_names_the_right_one(facts: Facts) -> None:
    with pytest.raises(UserError, match="--template llama3"):
        check_template("qwen", "meta-llama/Meta-Llama-3.1-8B-Instruct", facts)
    with pytest.raises(UserError, match="--template qwen3"):
        check_template("qwen", "Qwen/Qwen3-8B", facts)


def test_a_model_may_be_trained_with_and_without_thinking(facts: Facts) -> None:
    check_template("qwen3", "Qwen/Qwen3-8B", facts)
    check_template("qwen3_nothink", "Qwen/Qwen3-8B", facts)


def test_an_unknown_template_names_the_nearest(facts: Facts) -> None:
    with pytest.raises(UserError, match="did you mean 'llama3'"):
        check_template_name("lama3", facts)


def test_a_folders_tokenizer_decides_where_the_name_tells_nothing(facts: Facts, tmp_path: Path) -> None:
    folder = tokenizer(tmp_path / "mine", "<|im_start|>", "<|im_end|>")
    check_template("qwen", str(folder), facts)
    with pytest.raises(UserError, match=r"does not have <\|end_header_id\|>.*'llama3'"):
        check_template("llama3", str(folder), facts)
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(UserError) as refused:
        check_template("llama3", str(folder), facts)
    assert str(refused.value.fix).startswith("templates whose tokens it has: qwen, chatml")


def test_a_model_of_ours_keeps_its_template(facts: Facts, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"llamafactory": {"template": "mistral"}}))
    assert expected_template(str(tmp_path), facts) == "mistral"


def test_a_folder_without_a_tokenizer_tells_nothing(tmp_path: Path) -> None:
    assert tokenizer_tokens(tmp_path) == frozenset()
