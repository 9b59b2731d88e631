"""What a run's data is: every place once, known by its content, rollouts apart from the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agent_sft.errors import UserError
from agent_sft.files import digest_file
from agent_sft.stages.inputs import digests, resolve_inputs, rewards_of
from tests.conftest import RunCli
from tests.support import SMALL
from tests.test_bad_input import refused


@pytest.fixture(scope="session")
def run_cli(call_cli: RunCli) -> RunCli:
    return call_cli


def files(folder: Path, *names: str) -> list[Path]:
    """Files with a chat each, each another one."""
    paths = [folder / name for name in names]
    for path in paths:
        messages = [{"role": "user", "content": path.name}, {"role": "assistant", "content": "a"}]
        path.write_text(json.dumps({"messages": messages}))
    return paths


def test_globs_are_expanded_in_order_and_known_by_content(tmp_path: Path) -> None:
    b, a, extra = files(tmp_path, "b.jsonl", "a.jsonl", "extra.json")
    found = resolve_inputs([str(extra)], [str(tmp_path / "*.jsonl")])
    assert [(one.name, one.is_rollouts) for one in found] == [(str(extra), False), (str(a), True), (str(b), True)]
    assert digests(found)[str(b)] == digest_file(b)
    assert rewards_of(found, 0.5).rollouts == {str(a), str(b)}


@pytest.mark.parametrize("again", ["a.jsonl", "./a.jsonl", "*.jsonl", "link.jsonl"])
def test_a_place_named_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path, "a.jsonl")
    if again.startswith("link"):
        Path(again).symlink_to("a.jsonl")
    with pytest.raises(UserError, match="given twice"):
        resolve_inputs(["a.jsonl", again])


def test_a_local_dataset_of_the_hubs_form_is_known_by_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    files(folder, "train.jsonl")
    before = resolve_inputs([f"hf:{folder}"])[0].digest
    (folder / "train.jsonl").write_text("{}")
    assert resolve_inputs([f"hf:{folder}"])[0].digest != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("{small}", "nowhere.json"), "nowhere.json: no such file"),
        (("{small}", "{small}"), "is given twice"),
        (("{small}", "--dataset", "no*.json"), "no*.json: no file has such a name"),
        (("{small}", "--trajectory-dataset", "nowhere.eval"), "nowhere.eval: no such file"),
        (
            ("--trajectory-dataset", "{small}"),
            "holds ShareGPT conversations without a reward, not rollouts of an agent",
        ),
        (("--dataset", "demos@1.0.0"), "there is no dataset 'demos'"),
        ((), "no data was given: name INPUT, --dataset or --trajectory-dataset"),
    ],
)
def test_data_that_cannot_be_meant(
    tmp_path: Path,
    run_cli: RunCli,
    train_python: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setenv("AGENT_SFT_HOME", str(tmp_path / "home"))
    shutil.copy(SMALL, tmp_path / "small.json")
    given = [option.format(small="small.json") for option in options]
    assert message in refused(run_cli, tmp_path, *given, "--model", "tiny")


def test_preparing_takes_rollouts_beside_other_data_and_asks_them_alone_for_a_reward(
    tmp_path: Path, run_cli: RunCli
) -> None:
    (chat,) = files(tmp_path, "chat.jsonl")
    rollouts = tmp_path / "run.json"
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    simulations = [
        {"id": str(reward), "task_id": "t", "messages": messages, "reward_info": {"reward": reward}}
        for reward in (1.0, 0.0)
    ]
    rollouts.write_text(json.dumps({"simulations": simulations, "info": {}, "tasks": []}))
    options = ("--input", chat, "--trajectory-dataset", rollouts, "--min-reward", "1", "--output-dir", tmp_path / "out")
    done = run_cli("prepare", *options)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "data_report.json").read_text())["tau2_sft"]
    assert (report["rows_read"], report["examples"], report["rows_left_out"]) == (3, 2, 1)
    twice = run_cli("prepare", "--input", chat, "--input", chat, "--output-dir", tmp_path / "no")
    assert (twice.returncode, "is given twice" in twice.stderr) == (2, True)
    none = run_cli("prepare", "--output-dir", tmp_path / "no")
    assert (none.returncode, "no data was given" in none.stderr) == (2, True)
