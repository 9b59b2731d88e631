"""What is fitted to the cutoff is trained on whole, by the real LLaMA-Factory's own count."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent_sft.data.dataset_info import info_content
from agent_sft.data.fitting import Counts, Fitting
from agent_sft.engines.llamafactory import encoding
from agent_sft.engines.llamafactory.encoding import counted_turns
from agent_sft.stages.checking import Outlook, lengths, look_ahead
from agent_sft.stages.looking import NAME, Look, looked_at
from tests.support import QUICK, SMALL, engine_jobs, loaded_examples

DATA = Path(__file__).resolve().parents[1] / "examples" / "data"
ROWS = {"*_[24]*.json": 588, "*_[24][04].json": 88}
"""Files of example data, and the rows in them."""
MANY, FEW = ROWS
CASES: dict[str, tuple[str, int, Any, Any]] = {
    "all fit": (MANY, 12_000, "trim", "all_assistant"),
    "most are trimmed": (MANY, 600, "trim", "all_assistant"),
    "most are split": (MANY, 600, "split", "all_assistant"),
    "most are dropped": (MANY, 600, "drop", "all_assistant"),
    "few fit": (MANY, 400, "trim", "all_assistant"),
    "loss on all answers": (FEW, 600, "trim", "all_assistant"),
    "loss on calls": (FEW, 600, "trim", "tool_calls"),
    "loss on the final answer": (FEW, 600, "trim", "final_answer"),
}
"""Files, cutoff, what becomes of longer rows, and the turns with loss."""
SHOWN = ("all fit", "most are trimmed", "few fit")
"""Cases of which all rows are previewed as well."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    """What was promised of the example data, and what a training reads."""

    examples: int
    tokens: int
    loss_tokens: int
    lost: int
    trained: dict[str, int]
    previewed: int | None
    """Tokens with loss that previews of all rows show."""


def write_fitted(look: Look, counts: list[Counts], name: str, case: tuple[str, int, Any, Any], folder: Path) -> None:
    """Write the examples of a case as the dataset `name` of a folder."""
    _, cutoff, policy, supervise = case
    fitting = Fitting(cutoff, policy, supervise, supervise != "all_assistant")
    made = (fitting.apply(row, counted).rows for row, counted in zip(look.rows(), counts, strict=True))
    lines = (orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for rows in made for row in rows)
    (folder / f"{name}.jsonl").write_bytes(b"".join(lines))
    info = folder / "dataset_info.json"
    known = orjson.loads(info.read_bytes()) if info.exists() else {}
    info.write_bytes(info_content(known, name, f"{name}.jsonl"))


@pytest.fixture(scope="module")
def all_data(tmp_path_factory: pytest.TempPathFactory, train_python: Path) -> tuple[dict[str, Case], dict[str, int]]:
    """Every case, and the tokens with loss that statistics count in the files; LLaMA-Factory is started once."""
    folder = tmp_path_factory.mktemp("fit")
    jobs: list[dict[str, Any]] = []
    outlooks: dict[str, Outlook] = {}
    with looked_at(str(DATA / MANY), model="tiny", template="qwen", settings={"cutoff_len": 12_000}) as look:
        shutil.copytree(look.settings["model_name_or_path"], folder / "base")
    model, loss = str(folder / "base"), dict.fromkeys(ROWS, 0)
    for files in ROWS:
        with looked_at(str(DATA / files), model=model, template="qwen", settings={"cutoff_len": 12_000}) as look:
            with counted_turns(train_python, look.folder, NAME, look.settings) as (_, found):
                counts = [Counts(row.pairs, row.head, row.extra, row.ends, row.prompts) for row in found]
            loss[files] = sum(with_loss for _, with_loss in lengths(look))
            for name, case in CASES.items():
                if case[0] != files:
                    continue
                settings = {**look.settings, "cutoff_len": case[1]}
                outlooks[name] = look_ahead(replace(look, settings=settings), *case[1:])
                dataset = f"d{len(jobs)}"
                write_fitted(look, counts, dataset, case, folder)
                asked = {**settings, "dataset": dataset, "dataset_dir": str(folder)}
                asked |= {"mask_history": case[3] != "all_assistant", "per_device_train_batch_size": 8}
                jobs.append({"train": asked})
                if name in SHOWN:
                    (folder / name).mkdir()
                    order = encoding._order(folder, dataset, settings, "tokens", None, folder / name)
                    jobs.append({"program": str(encoding.ENCODE), "order": order})
    answers = iter(engine_jobs(train_python, jobs, folder))
    cases = {}
    for name, outlook in outlooks.items():
        trained, previewed = next(answers), None
        if name in SHOWN:
            next(answers)
            lines = (folder / name / "rows.jsonl").read_bytes().splitlines()
            previewed = sum(encoding._encoded(orjson.loads(line)).loss_tokens for line in lines)
        promised = (outlook.promised, outlook.tokens, outlook.loss_tokens, outlook.lost)
        cases[name] = Case(*promised, trained, previewed)
    return cases, loss


@pytest.mark.parametrize("name", CASES)
def test_a_training_reads_what_was_promised(name: str, all_data: tuple[dict[str, Case], dict[str, int]]) -> None:
    case = all_data[0][name]
    assert case.trained["logged"] == case.trained["examples"] == case.examples > 0
    assert case.trained["tokens"] == case.tokens
    assert case.trained["loss_tokens"] == case.loss_tokens > 0
    assert case.previewed in (None, case.loss_tokens)


def test_the_cases_differ_as_they_should(all_data: tuple[dict[str, Case], dict[str, int]]) -> None:
    cases, counted = all_data
    assert cases["all fit"].examples == ROWS[MANY] and cases["all fit"].loss_tokens == counted[MANY]
    assert all(cases[name].previewed is not None for name in SHOWN)
    trimmed, split, dropped = (cases[f"most are {what}"] for what in ("trimmed", "split", "dropped"))
    assert dropped.loss_tokens < trimmed.loss_tokens <= split.loss_tokens <= counted[MANY]
    assert dropped.examples + dropped.lost == ROWS[MANY]
    assert cases["few fit"].loss_tokens < trimmed.loss_tokens
    every, calls, final = (cases[f"loss on {what}"] for what in ("all answers", "calls", "the final answer"))
    assert every.lost == calls.lost == 0 and final.examples <= every.examples < calls.examples
    assert calls.loss_tokens + final.loss_tokens < every.loss_tokens


def test_a_run_trims_says_so_and_trains_on_what_it_promised(call_cli: Callable[..., Any], tmp_path: Path) -> None:
    options = (*QUICK, "--cutoff-len", "420", "--supervise", "tool_calls", "--steps", "1")
    done = call_cli("sft", SMALL, *options, "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    fitted = (tmp_path / "out" / "fitted" / "calls.jsonl").read_bytes().splitlines()
    assert loaded_examples(tmp_path / "out") == [len(fitted)]
    assert "fit: calls: loss on tool_calls makes" in done.stderr
    changes = [orjson.loads(line) for line in (tmp_path / "out" / "fitted" / "changes.jsonl").read_bytes().splitlines()]
    assert [change["row"] for change in changes] == list(range(1, 25))
    assert all(change["tokens"] > 420 for change in changes if change["what"] == "trimmed")
    again = call_cli("sft", SMALL, *options, "--output-dir", tmp_path / "out")
    assert again.stdout.startswith("finished already")


def test_a_run_that_may_not_cut_names_the_longest_row(call_cli: Callable[..., Any], tmp_path: Path) -> None:
    options = (*QUICK, "--cutoff-len", "420", "--on-overflow", "error")
    done = call_cli("sft", SMALL, *options, "--output-dir", tmp_path / "out")
    assert done.returncode == 2
    assert "24 of 24 rows are longer than the 420 tokens of --cutoff-len: row 1 has" in done.stderr
    assert not (tmp_path / "out").exists()
