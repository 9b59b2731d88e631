"""The tiny model: whole, repeatable, and a real one to LLaMA-Factory and transformers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_sft.config.tiny import TinyModel
from agent_sft.engines.llamafactory.launch import COMMAND, SHARED
from agent_sft.engines.llamafactory.tiny import make_tiny_model
from agent_sft.errors import WorkFailed

TOOLS = [
    {
        "name": "get_bill",
        "description": "Return a bill — in €, with \"notes\" and 'remarks'.",
        "parameters": {"type": "object", "properties": {"month": {"type": "number", "default": 1.0}}},
    },
    {"type": "function", "function": {"name": "reboot_modem", "parameters": {"type": "object", "properties": {}}}},
]
CALL = {"name": "get_bill", "arguments": {"month": 3.0, "note": 'größer "als" <b>', "deep": [{"x": None}, True]}}
OTHER = {"name": "reboot_modem", "arguments": {}}


def calls(*functions: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": f"c{number}", "type": "function", "function": made} for number, made in enumerate(functions)]


def hermes(call: dict[str, Any]) -> str:
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"


# (what it is, turns for LLaMA-Factory, system, tools, the same conversation as a client sends it)
CASES: list[tuple[str, list[tuple[str, str]], str, list[dict[str, Any]], list[dict[str, Any]]]] = [
    (
        "default system prompt, no tools",
        [("user", "Hi, it's 2 pm.\n\nWho are you?"), ("assistant", "An agent.")],
        "",
        [],
        [{"role": "user", "content": "Hi, it's 2 pm.\n\nWho are you?"}, {"role": "assistant", "content": "An agent."}],
    ),
    (
        "a call and its result",
        [("user", "Bill?"), ("function", json.dumps(CALL)), ("observation", '{"é": 1}'), ("assistant", "Done.")],
        "Follow the policy.",
        TOOLS,
        [
            {"role": "system", "content": "Follow the policy."},
            {"role": "user", "content": "Bill?"},
            {"role": "assistant", "content": None, "tool_calls": calls(CALL)},
            {"role": "tool", "tool_call_id": "c0", "content": '{"é": 1}'},
            {"role": "assistant", "content": "Done."},
        ],
    ),
    (
        "prose before two parallel calls, two results, no system prompt",
        [
            ("user", "Both, please"),
            ("function", f"Let me look.\n<tool_call>\n{json.dumps([CALL, OTHER])}\n</tool_call>"),
            ("observation", "1\n</tool_response>\n<tool_response>\n2"),
            ("assistant", "There you are."),
        ],
        "",
        TOOLS,
        [
            {"role": "user", "content": "Both, please"},
            {"role": "assistant", "content": "Let me look.", "tool_calls": calls(CALL, OTHER)},
            {"role": "tool", "tool_call_id": "c0", "content": "1"},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
            {"role": "assistant", "content": "There you are."},
        ],
    ),
    (
        "calls written out in the text of a turn",
        [("user", "Go"), ("assistant", f"I will.\n{hermes(CALL)}"), ("user", '{"ok": true}'), ("assistant", "Ok")],
        "Policy",
        [],
        [
            {"role": "system", "content": "Policy"},
            {"role": "user", "content": "Go"},
            {"role": "assistant", "content": f"I will.\n{hermes(CALL)}"},
            {"role": "user", "content": '{"ok": true}'},
            {"role": "assistant", "content": "Ok"},
        ],
    ),
]

ENCODE_BOTH_WAYS = """
import json, sys
from types import SimpleNamespace
from llamafactory.data.template import get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, cases = sys.argv[1], json.load(open(sys.argv[2]))
served = AutoTokenizer.from_pretrained(folder)
trained = AutoTokenizer.from_pretrained(folder)
template = get_template_and_fix_tokenizer(trained, DataArguments(template="qwen"))
answers = []
for turns, system, tools, messages in cases:
    messages_of_template = [{"role": role, "content": content} for role, content in turns]
    pairs = template.encode_multiturn(trained, messages_of_template, system, json.dumps(tools) if tools else "")
    answers.append({
        "trained": [token for pair in pairs for half in pair for token in half],
        "served": served.apply_chat_template(messages, tools=tools or None, return_dict=False),
        "text": served.apply_chat_template(messages, tools=tools or None, tokenize=False),
        "prompt": served.apply_chat_template(
            messages[:-1], tools=tools or None, add_generation_prompt=True, return_dict=False
        ),
    })
model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
facts = {
    "parameters": model.num_parameters(),
    "problems": {name: sorted(map(str, found)) for name, found in report.items()},
    "stops": model.generation_config.eos_token_id,
    "eos": [served.eos_token, served.eos_token_id, model.config.eos_token_id],
    "pad": [served.pad_token, served.pad_token_id, model.config.pad_token_id],
    "markers": [served.encode(marker) for marker in ("<tool_call>", "</tool_call>", "<|im_end|>")],
    "kept": served.decode(served.encode("<tool_call>x"), skip_special_tokens=True),
}
json.dump({"answers": answers, "facts": facts}, open(sys.argv[3], "w"))
"""


def write_conversations(path: Path, count: int = 60) -> Path:
    rows = [
        {
            "conversations": [
                {"from": "human", "value": f"Hello, the bill of customer C{number} looks wrong to me: why {number} €?"},
                {"from": "function_call", "value": json.dumps({"name": "get_bill", "arguments": {"month": number}})},
                {"from": "observation", "value": json.dumps({"amount": number * 3.5})},
                {"from": "gpt", "value": f"It is right: you called abroad for {number} minutes."},
            ],
            "system": "You are an agent of a telecom company.",
            "tools": json.dumps(TOOLS, ensure_ascii=False),
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, train_python: Path) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    make_tiny_model(train_python, write_conversations(place / "data.jsonl"), place / "a model", seed=42)
    return place / "a model"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_the_same_data_and_seed_give_the_same_files(tiny: Path, train_python: Path, tmp_path: Path) -> None:
    data = tiny.parent / "data.jsonl"
    make_tiny_model(train_python, data, tmp_path / "same", seed=42)
    make_tiny_model(train_python, data, tmp_path / "other", seed=43)
    assert contents(tmp_path / "same") == contents(tiny)
    changed = {name for name, content in contents(tmp_path / "other").items() if content != contents(tiny)[name]}
    assert changed == {"model.safetensors"}


def test_an_earlier_model_is_replaced_and_nothing_else_is_left(tiny: Path, train_python: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    (target / "stale.txt").write_text("old")
    make_tiny_model(train_python, tiny.parent / "data.jsonl", target, seed=42)
    assert contents(target) == contents(tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failure_leaves_no_half_model(train_python: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match=r"missing\.jsonl"):
        make_tiny_model(train_python, tmp_path / "missing.jsonl", tmp_path / "out" / "model", seed=1)
    assert list((tmp_path / "out").iterdir()) == []


def test_other_sizes_can_be_asked_for(tiny: Path, train_python: Path, tmp_path: Path) -> None:
    like = TinyModel(layers=2, hidden=64, intermediate=96, vocabulary=4096)
    make_tiny_model(train_python, tiny.parent / "data.jsonl", tmp_path / "m", seed=1, like=like)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]) == (2, 64, 4096)


def test_identifiers_and_what_all_prompts_share_can_be_one_token_each(
    tiny: Path, train_python: Path, tmp_path: Path
) -> None:
    like = TinyModel(one_token=("C07",), shared_as_one=True, weight_scale=0.5, rope_theta=100.0)
    make_tiny_model(train_python, tiny.parent / "data.jsonl", tmp_path / "m", seed=1, like=like)
    config = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    added = [token["content"] for token in config["added_tokens_decoder"].values() if not token["special"]]
    assert added[:4] == ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
    assert added[4:6] == ["C07", "You are an agent of a telecom company."]
    assert sum(token.startswith('{"type": "function", "function": {"name": ') for token in added) == len(TOOLS)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["rope_theta"] == 100.0
    with_words, without = ((folder / "tokenizer.json").read_text() for folder in (tiny, tmp_path / "m"))
    assert '"remarks"' in with_words and '"remarks"' not in without, "a word of the tools takes no token's place"


@pytest.mark.slow
def test_what_a_server_renders_is_what_llamafactory_trains_on(tiny: Path, train_python: Path, tmp_path: Path) -> None:
    (tmp_path / "encode.py").write_text(ENCODE_BOTH_WAYS)
    (tmp_path / "cases.json").write_text(json.dumps([case[1:] for case in CASES]))
    files = (tmp_path / "encode.py", tiny, tmp_path / "cases.json", tmp_path / "answers.json")
    subprocess.run(SHARED.forked([str(train_python), *map(str, files)]), check=True)
    result = json.loads((tmp_path / "answers.json").read_text())
    for (name, *_), answer in zip(CASES, result["answers"], strict=True):
        assert answer["served"] == answer["trained"], f"{name}:\n{answer['text']}"
        assert answer["trained"][: len(answer["prompt"])] == answer["prompt"], name
    facts = result["facts"]
    assert facts["problems"] == {name: [] for name in facts["problems"]}
    assert 300_000 < facts["parameters"] < 1_000_000
    assert facts["eos"][0] == "<|im_end|>" and facts["eos"][1] == facts["eos"][2]
    assert facts["pad"][0] == "<|endoftext|>" and facts["pad"][1] == facts["pad"][2]
    assert facts["stops"] == [facts["eos"][1], facts["pad"][1]]
    assert all(len(tokens) == 1 for tokens in facts["markers"])
    assert facts["kept"] == "<tool_call>x"


@pytest.mark.slow
def test_llamafactory_trains_it(tiny: Path, train_python: Path, tmp_path: Path) -> None:
    roles = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
    roles |= {"observation_tag": "observation", "function_tag": "function_call", "system_tag": "system"}
    info = {
        "file_name": str(tiny.parent / "data.jsonl"),
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
        "tags": roles,
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps({"demo": info}))
    settings = {
        "model_name_or_path": str(tiny),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": "demo",
        "dataset_dir": str(tmp_path),
        "template": "qwen",
        "cutoff_len": 1024,
        "output_dir": str(tmp_path / "out"),
        "max_steps": 12,
        "per_device_train_batch_size": 4,
        "learning_rate": 0.003,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(settings))
    command = [str(train_python), str(COMMAND), "train", str(tmp_path / "train.yaml")]
    done = subprocess.run(SHARED.forked(command), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (tmp_path / "out" / "trainer_log.jsonl").read_text().splitlines()
    losses = [line["loss"] for line in map(json.loads, lines) if "loss" in line]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.5
