"""Parity from the command line, and in a run before its first step."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.conftest import RunCli
from tests.support import QUICK, SMALL, short_data

pytestmark = pytest.mark.slow

DRIFT = ("--set", "tool_format=qwen")
"""Overriding the format of tools makes LLaMA-Factory leave out the line break after a call."""


def calling_data(folder: Path) -> Path:
    """Write conversations whose calls have turns of their own."""
    turns = [("human", "My line?"), ("function_call", '{"name": "get_plan", "arguments": {}}')]
    turns += [("observation", "3 GB"), ("gpt", "3 GB are left.")]
    row = {"conversations": [{"from": role, "value": text} for role, text in turns], "system": "You help."}
    path = folder / "calls.jsonl"
    path.write_text(f"{json.dumps(row)}\n" * 24)
    return path


def test_all_our_example_data_is_rendered_as_it_is_trained_on(call_cli: RunCli) -> None:
    done = call_cli("data", "parity", "--model", "tiny", "--sample", "5000", SMALL.parent / "*.json")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith("equal: 12,785 assistant turns of 2,088 conversations, prompt and answer")


def test_what_our_pipelines_make_is_rendered_as_it_is_trained_on(call_cli: RunCli, tmp_path: Path) -> None:
    """With the policies and the tools in the system text, calls and results in their turns."""
    for number, name in enumerate(("telecom_small_24", "telecom_eval_24", "airline_retail_40")):
        made = call_cli("data", "process", SMALL.parent / f"{name}.json", "--output", tmp_path / f"{number}.jsonl")
        assert made.returncode == 0, made.stderr
    done = call_cli("data", "parity", "--model", "tiny", "--sample", "5000", tmp_path / "?.jsonl")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert re.match(r"equal: \d+ assistant turns of \d+ conversations, prompt and answer", done.stdout)


def test_a_difference_is_exit_1_and_a_bad_request_exit_2(call_cli: RunCli, tmp_path: Path) -> None:
    template = tmp_path / "other.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}\n{% endfor %}")
    data = short_data(tmp_path)
    done = call_cli("data", "parity", "--model", "tiny", data, "--chat-template", template)
    assert done.returncode == 1, done.stderr
    assert "different: the server renders 24 of 24 conversations otherwise" in done.stdout
    done = call_cli("data", "parity", "--model", "tiny", data, "--chat-template", tmp_path / "missing.jinja")
    assert (done.returncode, "missing.jinja: cannot be read as text" in done.stderr) == (2, True)


def test_a_run_stops_before_its_first_step_where_the_server_would_render_other_prompts(
    call_cli: RunCli, tmp_path: Path
) -> None:
    data = calling_data(tmp_path)
    out = tmp_path / "out"
    options = ("sft", data, *QUICK, "--skip-process", "--steps", "1", "--output-dir", out, *DRIFT)
    stopped = call_cli(*options)
    assert stopped.returncode == 1, stopped.stderr
    assert "the prompts trained on are not those that the server will render" in stopped.stderr
    assert "cause: missing newline" in stopped.stderr
    assert "--allow-template-drift trains all the same" in stopped.stderr
    assert not (out / "attempts" / "1" / "training.json").exists()

    again = call_cli(*options)
    assert (again.returncode, "cause: missing newline" in again.stderr) == (1, True)
    assert not (out / "attempts" / "2").exists(), "what is known is not looked at again"

    allowed = call_cli(*options, "--allow-template-drift")
    assert allowed.returncode == 0, allowed.stderr
    assert "cause: missing newline" in allowed.stderr
    record = json.loads((out / "stages" / "train.json").read_text())["outputs"]["parity"]
    assert record == {"equal": False, "rows": 16, "different": 16, "causes": {"missing newline": 16}}


def test_a_run_on_a_named_dataset_records_it_and_that_its_prompts_will_be_served(
    call_cli: RunCli, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    home = {"AGENT_SFT_HOME": str(tmp_path / "home")}
    pushed = call_cli("data", "push", short_data(tmp_path), "--name", "lines", "--version", "0.1.0", env=home)
    assert pushed.returncode == 0, pushed.stderr
    options = ("--steps", "1", "--output-dir", out, "--eval-dataset", "lines@0.1.0")
    done = call_cli("sft", "lines@latest", *QUICK, *options, cwd=tmp_path, env=home)
    assert done.returncode == 0, done.stderr
    digest = re.search(r"sha256:[0-9a-f]{64}", pushed.stdout)
    assert digest is not None
    assert yaml.safe_load((out / "run.yaml").read_text())["datasets"] == {"lines@0.1.0": digest[0]}
    assert "parity: equal: 32 assistant turns of 16 conversations" in done.stderr
    assert json.loads((out / "stages" / "train.json").read_text())["outputs"]["parity"]["equal"] is True
    assert json.loads((out / "stages" / "parity.json").read_text())["outputs"]["parity"]["rows"] == 16
