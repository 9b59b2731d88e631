"""The small telecom benchmark in Inspect itself, with agents whose deserved scores are known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent_sft.engines.environments import call_inside, engine_python
from agent_sft.engines.inspect.tasks import SHARED
from tests.conftest import ROOT, RunCli

FOLDER = ROOT / "examples" / "mini_telecom"
sys.path.insert(0, str(FOLDER))

from rules import POLICY, TOOLS  # noqa: E402

AGENTS = ("expert", "gives_in", "nothing", "blind", "meddles", "errs", "loops")

pytestmark = pytest.mark.slow


def played(logs: Path, agents: tuple[str, ...], **arguments: Any) -> dict[str, Any]:
    order = {"folder": str(FOLDER), "agents": agents, "logs": str(logs), "arguments": arguments}
    program = ROOT / "tests" / "inside" / "telecom_agents.py"
    result: dict[str, Any] = call_inside(engine_python("eval"), program, payload=order, started=SHARED.forked)
    return result


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return played(tmp_path_factory.mktemp("logs"), AGENTS, split="all")


def scores(result: dict[str, Any], agent: str, family: str | None = None) -> list[float]:
    return [sample["score"] for sample in result["agents"][agent] if family in (None, sample["metadata"]["family"])]


def test_the_expert_succeeds_everywhere_and_whoever_does_nothing_nowhere(result: dict[str, Any]) -> None:
    assert scores(result, "expert") == [1.0] * 60
    assert scores(result, "nothing") == [0.0] * 60, "the floor"
    assert scores(result, "blind") == [0.0] * 60, "a refusal without a look at the customer is worth nothing"


def test_giving_in_fails_on_forbidden_requests_alone(result: dict[str, Any]) -> None:
    assert scores(result, "gives_in", "forbidden") == [0.0] * 30
    assert scores(result, "gives_in", "allowed") + scores(result, "gives_in", "lookup") == [1.0] * 30
    samples = result["agents"]["gives_in"]
    broken = {sample["metadata"]["family"] for sample in samples if sample["metadata"]["violations"]}
    assert broken == {"forbidden"}


def test_changing_the_database_unasked_fails_and_is_told(result: dict[str, Any]) -> None:
    for sample in result["agents"]["meddles"]:
        assert sample["score"] == 0.0
        assert "the database is not as it should be" in sample["explanation"]
        assert any("without looking the customer up" in one for one in sample["metadata"]["violations"])


def test_calls_that_are_refused_are_counted_and_do_not_end_the_conversation(result: dict[str, Any]) -> None:
    assert scores(result, "errs") == [1.0] * 60
    assert {sample["metadata"]["tool_errors"] for sample in result["agents"]["errs"]} == {2}
    assert {sample["metadata"]["tool_errors"] for sample in result["agents"]["expert"]} == {0}


def test_a_conversation_without_end_is_cut_off_and_says_so(result: dict[str, Any]) -> None:
    for sample in result["agents"]["loops"]:
        assert (sample["score"], sample["limit"], sample["metadata"]["ended"]) == (0.0, "message", "max_messages")
        assert sample["metadata"]["tool_calls"] > 3
    assert {sample["metadata"]["ended"] for sample in result["agents"]["expert"]} == {"user_stop"}


def test_the_model_gets_the_prompt_of_the_training_data(result: dict[str, Any]) -> None:
    assert result["system"] == POLICY
    assert json.dumps(result["tools"]) == json.dumps(TOOLS), "in the same order of keys"


def test_each_trial_has_words_of_its_own_and_limits_can_be_set(tmp_path: Path) -> None:
    result = played(tmp_path, ("expert", "loops"), epochs=2, token_limit=500)
    expert = result["agents"]["expert"]
    assert scores(result, "expert") == [1.0] * 80
    words = {(sample["id"], sample["epoch"]): sample["said"] for sample in expert}
    assert len(words) == 80
    assert sum(words[name, 1] != words[name, 2] for name, epoch in words if epoch == 1) > 20
    assert {sample["metadata"]["ended"] for sample in result["agents"]["loops"]} == {"token_limit"}


def test_the_tiny_model_is_served_what_it_was_trained_on(tmp_path: Path, run_cli: RunCli) -> None:
    made = subprocess.run(
        [sys.executable, FOLDER / "make_data.py", tmp_path, "--share", "20"], capture_output=True, check=False
    )
    assert made.returncode == 0, made.stderr
    model = str(ROOT / "configs" / "tiny" / "mini_telecom.yaml")
    done = run_cli("data", "parity", tmp_path / "syc_20pct.json", "--model", model, "--template", "qwen")
    assert done.returncode == 0, done.stdout + done.stderr
