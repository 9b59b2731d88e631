"""Finding evaluators, and one of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.errors import UserError
from agent_sft.evals.results import read_results
from agent_sft.stages.evaluators.registry import EVALUATORS, make_evaluator
from tests.conftest import RunCli
from tests.provider import KEY, provider

OWN = '''
from agent_sft.evals.results import Trial
from agent_sft.stages.evaluators.contract import Benchmark, Evaluator


class Polite(Evaluator):
    """Always content."""

    has_floor = False

    def check(self, run):
        pass

    def benchmark(self, run):
        return Benchmark(name="polite", tasks=("hello", "goodbye"))

    def score(self, model, work, run):
        for task, trial in work.pending:
            work.recorder.add(Trial(task=task, trial=trial, score=1.0, ended="done"))
'''


def test_every_built_in_kind_is_found_and_listed(run_cli: RunCli) -> None:
    listed = run_cli("eval", "list")
    assert listed.returncode == 0, listed.stderr
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(EVALUATORS.built_in)
    assert all(len(line.split()) > 4 for line in listed.stdout.splitlines())


@pytest.mark.parametrize(
    ("kind", "params", "what", "fix"),
    [
        ("inspct", {}, "there is no evaluator of the kind 'inspct'", "did you mean 'inspect'?"),
        ("tau2", {}, "'tau2' needs the parameter 'tau2_dir'", ""),
        ("loss", {"cutoff": 3}, "'loss' has no parameter 'cutoff'", "did you mean 'cutoff_len'?"),
        (
            "loss",
            {"cutoff_len": 0},
            "the parameter 'cutoff_len' of 'loss': input should be greater than 0 (given: 0)",
            "",
        ),
    ],
)
def test_a_wrong_kind_or_parameter_is_named(kind: str, params: dict[str, object], what: str, fix: str) -> None:
    with pytest.raises(UserError) as error:
        make_evaluator(kind, params, where="--evaluator")
    assert (error.value.what, error.value.fix or "") == (what, fix)


@pytest.mark.slow
def test_an_evaluator_in_a_file_of_ones_own(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with provider(lambda _: "") as server:
        given = ("--model", server.url, "--evaluator", f"{tmp_path / 'own.py'}:Polite", "--task", "any")
        done = run_cli("eval", "run", *given, "--out", tmp_path / "out", env={"AGENT_SFT_API_KEY": KEY})
    assert done.returncode == 0, done.stderr
    evaluation, trials = read_results(tmp_path / "out")
    assert (evaluation.benchmark, len(trials), evaluation.floor) == ("polite", 2, None)
