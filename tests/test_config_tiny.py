"""A model that is made on the spot: what a YAML file can say of it, and what it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.config.sft import SFTConfig
from agent_sft.config.tiny import TinyModel, is_made_here, read_tiny
from agent_sft.engines.llamafactory.arguments import default_output_dir
from agent_sft.errors import UserError


def written(folder: Path, text: str) -> str:
    path = folder / "small model.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_what_is_not_said_is_as_in_the_tiny_one(tmp_path: Path) -> None:
    assert read_tiny("tiny") == TinyModel()
    assert read_tiny(written(tmp_path, "layers: 2\none_token: [A1, A2]\n")) == TinyModel(
        layers=2, one_token=("A1", "A2")
    )


def test_names_and_folders_of_models_are_no_descriptions() -> None:
    assert is_made_here("tiny") and is_made_here("configs/tiny/mini_telecom.yaml")
    assert not any(map(is_made_here, ("Qwen/Qwen2.5-7B-Instruct", "saves/tiny", "tiny/", "./model")))


def test_the_shipped_one_can_be_served_without_a_gpu(repo: Path) -> None:
    model = read_tiny(str(repo / "configs" / "tiny" / "mini_telecom.yaml"))
    assert model.hidden // model.heads == 32, "narrower heads are refused by vLLM on a CPU"
    assert {f"C{number:02}" for number in range(1, 25)} < set(model.one_token)


def test_a_run_is_named_after_the_file(tmp_path: Path) -> None:
    config = SFTConfig(input=Path("data.json"), model="configs/tiny/mini_telecom.yaml", dataset_name="base")
    assert default_output_dir(config) == Path("saves/mini_telecom/base")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer: 2", "did you mean 'layers'"),
        ("layers: two", "layers: "),
        ("layers: 0", "layers: "),
        ("hidden: 100\nheads: 8", "multiple of twice the heads"),
        ("heads: 4\nkey_value_heads: 3", "multiple of key_value_heads"),
        ("tokens: 12", "tokens: "),
        ("- layers", "must hold the sizes"),
        ("layers: [", "not YAML"),
    ],
)
def test_a_wrong_description_is_refused_with_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_tiny(written(tmp_path, text))
    assert message in str(caught.value)
    assert "small model.yaml" in str(caught.value.where)


def test_a_missing_file_is_said() -> None:
    with pytest.raises(UserError, match="no such file"):
        read_tiny("nowhere/model.yaml")
