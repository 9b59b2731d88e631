"""Where tokenizers are recorded, and when LLaMA-Factory itself is asked instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.preparing import prepare_dataset
from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.encoding import COUNT, counted_turns
from agent_sft.engines.llamafactory.tiny import make_tiny_model
from agent_sft.engines.llamafactory.tokenizer_record import record_path
from tests.support import short_data

PYTHON = Path("some-python")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with what tokenizers are read from."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    return folder


def place(model: Path, python: Path = PYTHON, **settings: Any) -> Path | None:
    return record_path(python, {"model_name_or_path": str(model), "template": "qwen", **settings})


def test_a_record_is_of_the_content_of_the_tokenizers_files(model: Path) -> None:
    before = place(model)
    assert before is not None and before == place(model, cutoff_len=5, default_system="Be brief.")
    (model / "model.safetensors").write_bytes(b"weights")
    assert place(model) == before
    (model / "tokenizer.json").write_text('{"version": "1.1"}')
    assert place(model) not in (before, None)


def test_a_record_is_of_the_settings_that_bear_on_the_tokenizer(model: Path) -> None:
    kinds = [place(model), place(model, template="llama3"), place(model, split_special_tokens=True)]
    kinds.append(place(model, Path("other-python")))
    assert None not in kinds and len(set(kinds)) == 4


@pytest.mark.parametrize(
    "settings",
    [{"trust_remote_code": True}, {"add_tokens": "<a>"}, {"new_special_tokens_config": "a.yaml"}, {"cache_dir": "c"}],
)
def test_there_is_none_where_more_than_the_models_files_decides(model: Path, settings: dict[str, Any]) -> None:
    assert place(model, **settings) is None


def test_there_is_none_of_a_model_that_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert place(Path("somebody/some-model")) is None


@pytest.mark.slow
def test_a_record_is_made_once_and_again_when_its_versions_are_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, train_python: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = prepare_dataset(short_data(tmp_path), name="d", folder=tmp_path / "data").data_path
    make_tiny_model(train_python, data, tmp_path / "base", seed=1)
    settings = {"model_name_or_path": str(tmp_path / "base"), "template": "qwen", "cutoff_len": 100}
    path = record_path(train_python, settings)
    assert path is not None and not path.exists()
    totals = set()
    for _ in range(2):
        with counted_turns(train_python, tmp_path / "data", "d", settings) as (facts, rows):
            totals.add(sum(row.total for row in rows))
            assert (facts.started, facts.cutoff, facts.rows) == (False, 100, 24)
        record = json.loads(path.read_bytes())
        assert record["versions"].keys() == {"llamafactory", "transformers", "tokenizers"}
        path.write_text(json.dumps(record | {"versions": {"transformers": "4.0"}, "tokenizer": "{}"}))
    assert len(totals) == 1

    # A template of models that see may put media into the text: that is left to LLaMA-Factory.
    order = {"settings": {**settings, "template": "qwen2_vl"}, "record": str(tmp_path / "other.json")}
    refused = call_inside(train_python, COUNT, payload=order)
    assert refused == {"refused": "the template takes media as 'qwen2_vl' does"}
