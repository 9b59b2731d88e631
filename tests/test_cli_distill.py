"""`agent-sft distill`: what is wrong is said before anything is asked, and what it would cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.distilling import adds, options, sums, teaching, write_rows
from tests.provider import Provider


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def wrong(name: str) -> Callable[[Path, Provider], tuple[list[str], str]]:
    """A wrong command line and what is said of it."""
    cases: dict[str, Callable[[Path, Provider], tuple[list[str], str]]] = {
        "no prompts": lambda folder, server: (["--teacher", server.url, "--to", "a@0.1.0"], "name either files"),
        "missing file": lambda folder, server: (options(server, folder / "none.jsonl")[1:], "no such file"),
        "bad row": lambda folder, server: (
            options(server, write_rows(folder / "a.jsonl", [{"text": 1}, {"text": 2}]))[1:],
            "row 1: holds no prompt: its keys are 'text'",
        ),
        "no target": lambda folder, server: ([str(sums(folder, 1)), "--teacher", server.url], "--to is missing"),
        "bad target": lambda folder, server: (options(server, sums(folder, 1), to="a b")[1:], "neither NAME@VERSION"),
        "bad version": lambda folder, server: (options(server, sums(folder, 1), to="a@1")[1:], "is no version"),
        "no key": lambda folder, server: (
            options(server, sums(folder, 1), "--key-variable", "NOT_SET_HERE")[1:],
            "there is no variable NOT_SET_HERE",
        ),
        "wrong key": lambda folder, server: (
            options(server, sums(folder, 1), "--key-variable", "AGENT_SFT_API_KEY")[1:],
            "the server wants a key",
        ),
        "budget without prices": lambda folder, server: (
            options(server, sums(folder, 1), "--budget", "1")[1:],
            "--budget needs --price-in and --price-out",
        ),
        "verifier": lambda folder, server: (
            options(server, sums(folder, 1), "--verifier", "numerc")[1:],
            "did you mean 'numeric'?",
        ),
        "model": lambda folder, server: (
            options(server, sums(folder, 1), "--teacher", f"{server.url}#servd")[1:],
            "did you mean 'served'?",
        ),
        "training": lambda folder, server: (
            [*options(server, sums(folder, 1))[1:], "--then", "train", "--", "--lr", "-1"],
            "greater than 0",
        ),
        "training options alone": lambda folder, server: (
            [*options(server, sums(folder, 1))[1:], "--", "--lr", "1"],
            "--then train",
        ),
        "reuse": lambda folder, server: (
            options(server, sums(folder, 1), "--reuse", str(folder))[1:],
            "holds no answers.jsonl",
        ),
        "config": lambda folder, server: (
            options(server, sums(folder, 1), "--config", str(config_file(folder)))[1:],
            "did you mean 'samples'?",
        ),
    }
    return cases[name]


def config_file(folder: Path) -> Path:
    path = folder / "distill.yaml"
    path.write_text("sample: 2\n")
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("no prompts", "missing file", "bad row", "no target", "bad target", "bad version", "no key", "wrong key"),
        *("budget without prices", "verifier", "model", "training", "training options alone", "reuse", "config"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_asked(run_cli: RunCli, tmp_path: Path, name: str) -> None:
    with teaching(adds, tmp_path) as (server, variables):
        words, said = wrong(name)(tmp_path, server)
        done = run_cli("distill", *words, env=variables, cwd=tmp_path)
        assert not server.requests
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_version_that_exists_is_refused_before_anything_is_paid_for(run_cli: RunCli, tmp_path: Path) -> None:
    with teaching(adds, tmp_path) as (server, variables):
        assert run_cli(*options(server, sums(tmp_path, 2)), env=variables).returncode == 0
        paid = len(server.requests)
        done = run_cli(*options(server, sums(tmp_path, 3)), env=variables)
        assert (done.returncode, len(server.requests)) == (2, paid)
    assert "sums@0.1.0 exists: versions do not change" in done.stderr


def test_a_dry_run_tells_the_most_it_can_cost_and_asks_nothing(run_cli: RunCli, tmp_path: Path) -> None:
    with teaching(adds, tmp_path) as (server, variables):
        more = ["-n", "2", "--price-in", "1", "--price-out", "5", "--dry-run"]
        done = run_cli(*options(server, sums(tmp_path, 10), *more), env=variables)
        assert not server.requests
    assert done.returncode == 0, done.stderr
    assert "at most 20, 40,960 tokens of answers" in done.stdout
    assert "at most 0.2048" in done.stdout
    assert not (tmp_path / "out").exists()
