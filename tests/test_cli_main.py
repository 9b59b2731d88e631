"""The command line: help at once, unknown words named, exit codes as documented."""

from __future__ import annotations

from tests.conftest import RunCli


def test_help_lists_every_command(run_cli: RunCli) -> None:
    shown = run_cli("--help")
    assert shown.returncode == 0
    for name in ("sft", "prepare", "merge", "serve", "doctor", "setup"):
        assert f"\n  {name} " in shown.stdout


def test_each_command_has_help(run_cli: RunCli) -> None:
    for name in ("sft", "prepare", "merge", "serve", "doctor", "setup"):
        shown = run_cli(name, "--help")
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.startswith("Usage: agent-sft")


def test_an_unknown_command_names_the_nearest(run_cli: RunCli) -> None:
    done = run_cli("doctr")
    assert (done.returncode, "did you mean 'doctor'?" in done.stderr) == (2, True)


def test_a_missing_argument_is_a_wrong_request(run_cli: RunCli) -> None:
    assert run_cli("sft").returncode == 2
