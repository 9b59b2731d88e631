"""The options of an evaluation, from a file and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_sft.config.evaluation import read_evaluation_config
from agent_sft.errors import UserError

WHOLE = "model: m\nevaluator: tasks\ntask: t\nout: o\nlimits: {time_limit: 5}\nparams: {a: 1}\ntask_ids: [1, b]\n"


def test_what_is_given_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text(WHOLE)
    config = read_evaluation_config(
        tmp_path / "e.yaml", {"trials": 4, "max_messages": 9, "params": {"b": 2}, "task": "u"}
    )
    assert (config.trials, config.task, config.task_ids) == (4, "u", ("1", "b"))
    assert (config.limits.time_limit, config.limits.max_messages) == (5, 9)
    assert config.params == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("content", "given", "what", "fix"),
    [
        (WHOLE + "trails: 4\n", {}, "there is no such option", "did you mean 'trials'?"),
        (WHOLE.replace("time_limit", "time_limits"), {}, "there is no such option", "did you mean 'time_limit'?"),
        (WHOLE, {"trials": 0}, "input should be greater than 0 (given: 0)", ""),
        ("model: m\n", {}, "--evaluator is missing", ""),
        ("- 1\n", {}, "must hold options, each with its value", ""),
        ("a: [\n", {}, "is not YAML", ""),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str, given: dict[str, Any], what: str, fix: str) -> None:
    (tmp_path / "e.yaml").write_text(content)
    with pytest.raises(UserError) as error:
        read_evaluation_config(tmp_path / "e.yaml", given)
    assert (error.value.what, error.value.fix or "") == (what, fix)
    assert "e.yaml" in str(error.value.where)
