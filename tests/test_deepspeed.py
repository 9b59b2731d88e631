"""What a user is told about a DeepSpeed configuration before anything starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_sft.engines.deepspeed.config import VALIDATE, read_config, validate
from agent_sft.engines.environments import call_inside
from agent_sft.engines.llamafactory.launch import SHARED_DEEPSPEED
from agent_sft.errors import UserError

SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 2,
    "learning_rate": 5e-6,
    "bf16": True,
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "my config é.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def zero(stage: int = 2, **keys: Any) -> dict[str, Any]:
    return {"zero_optimization": {"stage": stage, **keys}}


def test_what_matters_is_read(repo: Path) -> None:
    two = read_config(repo / "ds_configs/ds_zero2.json", SETTINGS, world_size=8)
    assert (two.stage, two.offload_optimizer, two.offload_param) == (2, None, None)
    three = read_config(repo / "ds_configs/ds_zero3.json", SETTINGS, world_size=8)
    assert (three.stage, three.offload_optimizer, three.offload_param) == (3, "cpu", "cpu")
    assert three.gathers_weights_on_save
    plain = read_config(repo / "ds_configs/ds_zero3_no_offload.json", SETTINGS, world_size=8)
    assert (plain.stage, plain.offload_optimizer, plain.offload_param) == (3, None, None)


def test_the_old_way_to_ask_for_offloading_is_understood(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, zero(2, cpu_offload=True))).offload_optimizer == "cpu"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "line 1, column 1"),
        ('{"zero_optimization": {\n  "stage": 2,\n}}', "line 3, column 1"),
        ("[1]", "JSON object"),
        ('{"zero_optimization": {"stage": 2, "stage": 3}}', "'stage' stands in the same object twice"),
        ({}, "no 'zero_optimization' section"),
        ({"zero_optimization": True}, "no 'zero_optimization' section"),
        ({"zero_optimization": {}}, "0, 1, 2 or 3, not null"),
        (zero(4), "0, 1, 2 or 3, not 4"),
        ({"zero_optimization": {"stage": "2"}}, '0, 1, 2 or 3, not "2"'),
        ({"zero_optimization": {"stage": True}}, "0, 1, 2 or 3, not true"),
        ({**zero(), "gradient_cliping": 1.0}, "did you mean 'gradient_clipping'?"),
        (zero(2, offload_optimizer="cpu"), "zero_optimization.offload_optimizer"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path: Path, content: Any, said: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        read_config(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_config(tmp_path / "none.json")


def test_comments_by_key_are_left_alone(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, {"_comment": "ours", "//": "too", **zero()})).stage == 2


@pytest.mark.parametrize(
    ("raw", "settings", "said"),
    [
        ({"bf16": {"enabled": False}, **zero()}, {}, "bf16.enabled is False, but bf16 is True"),
        ({"fp16": {"enabled": True}, **zero()}, {}, "fp16.enabled is True, but fp16 is False"),
        ({"train_micro_batch_size_per_gpu": 4, **zero()}, {}, "per_device_train_batch_size is 1"),
        ({"gradient_accumulation_steps": 1, **zero()}, {}, "gradient_accumulation_steps is 2"),
        ({"train_batch_size": 32, **zero()}, {}, "8 processes with these settings make it 16"),
        ({"gradient_clipping": 0.5, **zero()}, {}, "max_grad_norm is 1.0"),
        (zero(2, offload_param={"device": "cpu"}), {}, "ZeRO stage 3 only"),
        (zero(3), {}, "the saved model has no weights"),
        (zero(3, stage3_gather_16bit_weights_on_model_save=True), {"pure_bf16": True}, "pure_bf16"),
        (zero(3, stage3_gather_16bit_weights_on_model_save=True), {"use_cpu": True}, "use_cpu"),
        (zero(), {"use_galore": True}, "GaLore"),
    ],
)
def test_a_contradiction_with_the_settings_is_found_before_the_model_is_loaded(
    tmp_path: Path, raw: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    path = write(tmp_path, raw)
    read_config(path)
    with pytest.raises(UserError) as caught:
        read_config(path, SETTINGS | settings, world_size=8)
    assert said in str(caught.value)


def test_values_that_agree_are_accepted(tmp_path: Path) -> None:
    raw = {
        "train_batch_size": 16,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 1,
        "bf16": {"enabled": True},
        **zero(),
    }
    assert read_config(write(tmp_path, raw), SETTINGS, world_size=8).stage == 2


REFUSED: dict[str, tuple[Any, str, str]] = {
    "an unknown key": (
        zero(3, offload_optimizer={"device": "cpu", "pin_memry": True}),
        "zero_optimization.offload_optimizer.pin_memry",
        "did you mean 'pin_memory'?",
    ),
    "a wrong value": (zero(2, reduce_bucket_size=-1), "zero_optimization.reduce_bucket_size", "greater than 0"),
    "an unknown key of a section": ({"bf16": {"enable": True}, **zero()}, "bf16.enable", "did you mean 'enabled'?"),
    "what was removed": ({"elasticity": {"enabled": True}, **zero()}, "", "Elastic training has been removed"),
}
"""What DeepSpeed's own schema refuses: the file, the key and the words it is told with."""


@pytest.mark.slow
def test_deepspeeds_own_schema_is_asked_once_for_a_file(
    repo: Path, train_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_sft.engines.cache.cache_home", lambda: tmp_path / "cache")
    shipped = repo / "ds_configs" / "ds_zero3.json"
    assert validate(shipped, train_python).path == shipped
    raw, where, said = REFUSED["an unknown key"]
    path = write(tmp_path, raw)
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            validate(path, train_python)
        assert f"{path}, {where}" in str(caught.value) and said in str(caught.value)
        monkeypatch.setattr("agent_sft.engines.deepspeed.config.call_inside", None)


@pytest.mark.slow
def test_deepspeeds_own_schema_accepts_the_shipped_files_and_refuses_others_with_the_key(
    repo: Path, train_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = sorted((repo / "ds_configs").glob("*.json"))
    wrong = [(tmp_path / name).with_suffix(".json") for name in REFUSED]
    for path, (raw, *_) in zip(wrong, REFUSED.values(), strict=True):
        path.write_text(json.dumps(raw))
    program = tmp_path / "all.py"
    # The program that is run for one file, with what it says of each; DeepSpeed is started once.
    program.write_text(f"""
import json, runpy, sys
problems = runpy.run_path({str(VALIDATE)!r})["problems"]
files = json.load(sys.stdin)
print(json.dumps([{{"problems": problems(json.load(open(file)))}} for file in files]), file=sys.__stdout__)
""")
    files = [str(path) for path in (*shipped, *wrong)]
    answers = call_inside(train_python, program, payload=files, started=SHARED_DEEPSPEED.forked)
    said_of = dict(zip(files, answers, strict=True))
    monkeypatch.setattr("agent_sft.engines.cache.cache_home", lambda: tmp_path / "cache")
    monkeypatch.setattr("agent_sft.engines.deepspeed.config.call_inside", lambda *words, **_: said_of[words[2]])
    assert [validate(path, train_python).path for path in shipped] == shipped
    for path, (_, where, said) in zip(wrong, REFUSED.values(), strict=True):
        with pytest.raises(UserError) as caught:
            validate(path, train_python)
        assert (f"{path}, {where}" if where else str(path)) in str(caught.value)
        assert said in str(caught.value)


@pytest.mark.slow
def test_the_known_top_level_names_are_those_that_deepspeed_reads(train_python: Path, tmp_path: Path) -> None:
    from agent_sft.engines.deepspeed.keys import TOP_LEVEL_KEYS

    program = tmp_path / "asked.py"
    program.write_text(
        """
import json, sys
from deepspeed.runtime.config import DeepSpeedConfig

class Recorder(dict):
    asked = set()
    def get(self, key, default=None):
        self.asked.add(key)
        return dict.get(self, key, default)
    def __contains__(self, key):
        self.asked.add(key)
        return dict.__contains__(self, key)
    def __copy__(self):
        return self
    def keys(self):
        return self

DeepSpeedConfig(Recorder(train_micro_batch_size_per_gpu=1, zero_optimization={"stage": 2}))
print(json.dumps(sorted(Recorder.asked)), file=sys.__stdout__)
"""
    )
    asked = set(call_inside(train_python, program, started=SHARED_DEEPSPEED.forked))
    assert {"zero_optimization", "gradient_clipping", "bf16"} <= asked
    assert asked <= TOP_LEVEL_KEYS
