"""`agent-sft eval report` and `compare`, as a user runs them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.evaluations import written


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three variants of 30 tasks, each worse than the one before."""
    place = tmp_path_factory.mktemp("results")
    families = {f"t{number}": "forbidden" if number % 2 else "allowed" for number in range(30)}
    return [
        written(
            place / f"syc_{step * 10}",
            {f"t{number}": [float(number >= 8 * step), float(number > 8 * step)] for number in range(30)},
            families=families,
            user_model="scripted",
            floor=0.1,
        )
        for step in range(3)
    ]


def test_a_report_shows_every_number_with_its_interval(run_cli: RunCli, folders: list[Path]) -> None:
    done = run_cli("eval", "report", folders[1])
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head == f"{folders[1]}: tiny on sums, 30 tasks x 2 trials, customer scripted"
    row = next(line.split() for line in lines if line.startswith("pass^1"))
    assert row[:2] == ["pass^1", "0.717"]
    assert row[-1] == "30"
    assert "* an agent that does nothing scores 0.100 here" in lines
    assert any(line.split()[:3] == ["forbidden", "15", "30"] for line in lines)


def test_the_formats_hold_the_same_numbers(run_cli: RunCli, folders: list[Path]) -> None:
    summaries = json.loads(run_cli("eval", "report", *folders, "--format", "json").stdout)
    assert [summary["evaluation"]["trials"] for summary in summaries] == [2, 2, 2]
    rows = list(csv.DictReader(io.StringIO(run_cli("eval", "report", *folders, "--format", "csv").stdout)))
    of_all = [
        (float(row["value"]), float(row["low"])) for row in rows if row["measure"] == "pass^2" and not row["family"]
    ]
    in_json = [
        (one["value"], one["low"])
        for summary in summaries
        for one in summary["overall"]["estimates"]
        if one["measure"] == "pass^2"
    ]
    assert of_all == in_json
    page = run_cli("eval", "report", *folders, "--format", "markdown").stdout
    assert f"| pass^2 | {in_json[1][0]:.3f} |" in page


def test_an_evaluation_that_is_not_whole_is_reported_and_exits_1(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("eval", "report", written(tmp_path, {"a": [1, None], "b": [1]}))
    assert done.returncode == 1
    assert "2 of 4 trials have no score" in done.stdout


def test_a_comparison_shows_differences_and_the_trend(run_cli: RunCli, folders: list[Path]) -> None:
    done = run_cli("eval", "compare", *folders, "--order", "0,10,20")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "pass^1 on the same 30 tasks"
    assert lines[2].split() == ["syc_0", "(0)", "0.983", "baseline"]
    assert lines[4].split()[-1] == "worse"
    assert any(line.startswith("* trend: falls") for line in lines)
    assert any("tasks would tell such a difference" in line for line in lines)


def test_a_comparison_in_other_formats_and_to_a_file(run_cli: RunCli, folders: list[Path], tmp_path: Path) -> None:
    arguments = ("eval", "compare", *folders, "--baseline", folders[2], "--order", "0,10,20")
    result = json.loads(run_cli(*arguments, "--format", "json").stdout)
    assert result["baseline"] == str(folders[2])
    assert result["trend"]["verdict"] == "falls"
    rows = list(csv.DictReader(io.StringIO(run_cli(*arguments, "--format", "csv").stdout)))
    assert [row["kind"] for row in rows] == ["difference", "difference", "trend"]
    assert [float(row["p"]) for row in rows] == [
        *(one["p"] for one in result["differences"]),
        result["trend"]["p"],
    ]
    page = tmp_path / "page.md"
    done = run_cli(*arguments, "--format", "markdown", "--output", page)
    assert (done.returncode, done.stdout) == (0, "")
    assert "| syc\\_0 (0) |" in page.read_text() or "| syc\\_0 (0) " in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("report", "nowhere"), "no evaluation is here"),
        (("compare", "FIRST"), "nothing to compare"),
        (("compare", "FIRST", "SECOND", "--order", "0,many"), "no list of numbers"),
        (("compare", "FIRST", "SECOND", "--measure", "pass"), "no measure"),
        (("compare", "FIRST", "SECOND", "--baseline", "other"), "not among the folders"),
        (("compar",), "did you mean 'compare'?"),
    ],
)
def test_a_wrong_request_exits_2_with_what_to_do(
    run_cli: RunCli, folders: list[Path], arguments: tuple[str, ...], said: str
) -> None:
    named = {"FIRST": str(folders[0]), "SECOND": str(folders[1])}
    done = run_cli("eval", *(named.get(word, word) for word in arguments))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_one_task_has_no_interval_and_says_so(run_cli: RunCli, tmp_path: Path) -> None:
    folders = [written(tmp_path / name, {"x": [1, score]}) for name, score in (("a", 1), ("b", 0))]
    done = run_cli("eval", "compare", *folders)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pass^1 on the same 1 task\n")
    assert "there is one task" in done.stdout
    assert "would tell" not in done.stdout
