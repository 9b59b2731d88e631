"""What a sweep's keys become: its variants, their names, values and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_sft.config.evaluation import EvaluationConfig, LimitsConfig
from agent_sft.config.sft import SFTConfig
from agent_sft.errors import UserError
from agent_sft.sweep.commands import evaluation_command, runnable, training_command
from agent_sft.sweep.patterns import Match, expand, names_of, values_of
from tests.sweep_plans import make_files, make_model, plan_of

SFT = {"input": "data.json", "model": "tiny"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "names", "values"),
    [
        ("d/syc_{0,5,10,20}pct.json", ["d/syc_0pct.json", "d/syc_5pct.json"], [0, 5, 10, 20]),
        ("d/{0pct,5pct}.json", ["d/0pct.json", "d/5pct.json"], [0, 5]),
        ("d/run{1..4}.json", ["d/run1.json", "d/run2.json"], [1, 2, 3, 4]),
        ("d/run{4..0..2}.json", ["d/run4.json", "d/run2.json"], [4, 2, 0]),
        ("d/{polite,rude}.json", ["d/polite.json", "d/rude.json"], ["polite", "rude"]),
        ("d/{a,b}_{1,2}.json", ["d/a_1.json", "d/a_2.json"], ["a-1", "a-2", "b-1", "b-2"]),
        ("d/{a,b}_{0.5,0.5}.json", ["d/a_0.5.json", "d/a_0.5.json"], ["a", "a", "b", "b"]),
        ("d/syc_{0.5,10}.json", ["d/syc_0.5.json", "d/syc_10.json"], [0.5, 10]),
    ],
)
def test_braces(pattern: str, names: list[str], values: list[Any]) -> None:
    matches = expand(pattern, "data")
    assert [match.name for match in matches[:2]] == names
    assert values_of(matches) == values


def test_a_glob_is_ordered_by_number_and_its_varying_part_is_the_value(tmp_path: Path) -> None:
    make_files(tmp_path, *(f"d/syc_{share}pct_500.json" for share in (0, 10, 20, 5)), "d/other.json")
    for pattern in ("d/syc_*pct_500.json", "d/syc_*.json", "d/s*.json", "*/syc_*pct_500.json"):
        matches = expand(pattern, "data")
        assert [match.name for match in matches] == [f"d/syc_{share}pct_500.json" for share in (0, 5, 10, 20)]
        assert values_of(matches) == [0, 5, 10, 20]


def test_numbers_stay_whole_where_they_begin_alike(tmp_path: Path) -> None:
    make_files(tmp_path, "d/syc_10.json", "d/syc_15.json")
    assert values_of(expand("d/*.json", "data")) == [10, 15]


def test_one_file_has_no_value() -> None:
    assert values_of([Match("a.json", ("a",))]) == [None]


def test_a_glob_without_files_and_a_brace_of_one_are_refused() -> None:
    with pytest.raises(UserError, match=r"no file is called d/\*\.json"):
        expand("d/*.json", "data")
    with pytest.raises(UserError, match=r"\{0\} stands for one thing alone"):
        expand("d/{0}.json", "data")


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["d/a.json", "d/b.jsonl.gz"], ["a", "b"]),
        (["a/x.json", "b/x.json"], ["a-x", "b-x"]),
        (["a/x.json", "a/x.jsonl"], ["x-1", "x-2"]),
        (["runs/v1.5", "runs/v1.6"], ["v1.5", "v1.6"]),
        (["telecom@1", "telecom@2"], ["telecom-1", "telecom-2"]),
        (["d/ä b.json"], ["b"]),
    ],
)
def test_names_are_plain_and_unique(files: list[str], names: list[str]) -> None:
    assert names_of(files) == names


def test_a_variant_for_each_file(tmp_path: Path) -> None:
    make_files(tmp_path, "d/syc_0pct.json", "d/syc_5pct.json")
    plan = plan_of(tmp_path, data=["d/syc_{0,5}pct.json"], sft={"model": "tiny", "epochs": 3})
    assert [(one.name, one.group, one.value, one.seed) for one in plan.variants] == [
        ("syc_0pct", "syc_0pct", 0.0, 42),
        ("syc_5pct", "syc_5pct", 5.0, 42),
    ]
    sft = plan.variants[1].sft
    assert sft is not None
    assert (sft.input, sft.dataset_name, sft.epochs) == (("d/syc_5pct.json",), "syc_5pct", 3)
    assert str(sft.output_dir) == plan.variants[1].model == "sweeps/trial/variants/syc_5pct"
    assert plan.baseline == "syc_0pct"


def test_files_named_one_by_one_have_values_too(tmp_path: Path) -> None:
    make_files(tmp_path, "a_0.json", "a_7.json")
    assert [one.value for one in plan_of(tmp_path, data=["a_7.json", "a_0.json"]).variants] == [7, 0]


def test_a_file_that_is_not_there_is_named_unless_a_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data: d/a_5\.json: no such file"):
        plan_of(tmp_path, data=["d/a_5.json"])
    prepare = [{"command": ["make"], "makes": ["d/a_5.json", "d/a_10.json"]}]
    for pattern in ("d/a_{5,10}.json", "d/a_*.json"):
        plan = plan_of(tmp_path, data=[pattern], prepare=prepare)
        assert [one.value for one in plan.variants] == [5, 10]


def test_seeds_multiply_and_share_a_group(tmp_path: Path) -> None:
    make_files(tmp_path, "a_0.json", "a_5.json")
    plan = plan_of(tmp_path, data=["a_{0,5}.json"], seeds=[1, 2], baseline="a_5")
    assert [(one.name, one.group, one.value) for one in plan.variants] == [
        *(("a_0-seed1", "a_0", 0), ("a_0-seed2", "a_0", 0)),
        *(("a_5-seed1", "a_5", 5), ("a_5-seed2", "a_5", 5)),
    ]
    assert [one.sft.seed for one in plan.variants if one.sft] == [1, 2, 1, 2]
    # The data of a variant is prepared once: the second seed takes it over from the first.
    first = {name: Path("sweeps/trial/variants") / f"{name}-seed1" for name in ("a_0", "a_5")}
    assert [(one.sft.dataset_name, one.sft.data_from) for one in plan.variants if one.sft] == [
        *(("a_0", ()), ("a_0", (first["a_0"],)), ("a_5", ()), ("a_5", (first["a_5"],)))
    ]
    assert plan.baseline == "a_5"


def test_a_grid_over_one_option_gives_values_over_two_it_does_not(tmp_path: Path) -> None:
    make_files(tmp_path, "data.json")
    one = plan_of(tmp_path, sft=SFT, grid={"lr": ["1e-5", 2e-5]})
    assert [(variant.name, variant.value) for variant in one.variants] == [("lr1e-05", 1e-5), ("lr2e-05", 2e-5)]
    assert one.config.varied == "lr"
    grid = {"set.packing": [True, False], "deepspeed": ["ds_configs/ds_zero2.json", "ds_configs/ds_zero3.json"]}
    two = plan_of(tmp_path, sft=SFT, grid=grid)
    assert [variant.name for variant in two.variants] == [
        *("packing-True-deepspeed-ds_zero2", "packing-True-deepspeed-ds_zero3"),
        *("packing-False-deepspeed-ds_zero2", "packing-False-deepspeed-ds_zero3"),
    ]
    assert {variant.value for variant in two.variants} == {None}
    assert [variant.sft.set for variant in two.variants if variant.sft][2] == {"packing": False}


def test_a_grid_is_taken_times_the_data(tmp_path: Path) -> None:
    make_files(tmp_path, "a_0.json", "a_5.json")
    plan = plan_of(tmp_path, data=["a_{0,5}.json"], grid={"epochs": [1, 2]})
    assert [one.name for one in plan.variants] == ["a_0-epochs1", "a_0-epochs2", "a_5-epochs1", "a_5-epochs2"]


def test_variants_in_a_list_add_to_the_common_options(tmp_path: Path) -> None:
    make_files(tmp_path, "data.json")
    listed = [
        {"name": "plain", "value": 0},
        {"name": "warm", "value": 1, "sft": {"set": {"warmup_steps": 9}, "lr": 1e-4}},
        {"name": "untrained", "model": "some/model"},
    ]
    plan = plan_of(tmp_path, sft={**SFT, "set": {"packing": True}}, variants=listed)
    assert [(one.name, one.value) for one in plan.variants] == [("plain", 0), ("warm", 1), ("untrained", None)]
    warm = plan.variants[1].sft
    assert warm is not None
    assert (warm.lr, warm.set) == (1e-4, {"packing": True, "warmup_steps": 9})
    assert (plan.variants[2].sft, plan.variants[2].model) == (None, "some/model")


def test_finished_models_by_pattern(tmp_path: Path) -> None:
    for share in (0, 5):
        make_model(tmp_path / f"saves/syc_{share}pct")
    for pattern in ("saves/syc_{0,5}pct", "saves/*"):
        plan = plan_of(tmp_path, models=[pattern])
        assert [(one.name, one.value, one.model) for one in plan.variants] == [
            ("syc_0pct", 0, "saves/syc_0pct"),
            ("syc_5pct", 5, "saves/syc_5pct"),
        ]
        assert [job.kind for job in plan.jobs] == ["score", "score"]


def test_a_model_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    make_files(tmp_path, "a.json")
    for model, said in (
        ("a.json", r"a\.json: is a file, not a model's folder"),
        ("saves/some/run", "no such folder"),
        ("./run", "no such folder"),
        ("", "an empty name"),
    ):
        with pytest.raises(UserError, match=said):
            plan_of(tmp_path, models=[model])
    assert plan_of(tmp_path, models=["http://127.0.0.1:9/v1"]).jobs[0].kind == "evaluate"


def test_a_baseline_that_is_no_variant_is_refused_with_the_nearest(tmp_path: Path) -> None:
    make_files(tmp_path, "syc_0.json", "syc_5.json")
    with pytest.raises(UserError, match=r"trial, baseline: there is no variant 'syc_00'\n  did you mean 'syc_0'"):
        plan_of(tmp_path, data=["syc_{0,5}.json"], baseline="syc_00")


def test_two_variants_of_one_name_are_refused(tmp_path: Path) -> None:
    make_files(tmp_path, "a.json")
    make_model(tmp_path / "saves/a")
    with pytest.raises(UserError, match="two variants are called 'a'"):
        plan_of(tmp_path, data=["a.json"], models=["saves/a"])


def test_what_is_set_beside_a_yaml_wins_over_it(tmp_path: Path) -> None:
    from agent_sft.sweep.servers import settings_of

    make_files(tmp_path, "a.json")
    (tmp_path / "mine.yaml").write_text("learning_rate: 1.0e-3\nnum_train_epochs: 9\nwarmup_steps: 7\n")
    sft = plan_of(tmp_path, data=["a.json"], sft={"epochs": 1, "config": "mine.yaml"}).variants[0].sft
    assert sft is not None
    settings = settings_of(sft)
    assert (settings["num_train_epochs"], settings["learning_rate"], settings["warmup_steps"]) == (1, 1e-3, 7)


def test_a_training_command_says_the_same_as_the_plan(tmp_path: Path) -> None:
    """What the child reads from its flags is what the plan resolved."""
    from agent_sft.cli.sft import command
    from agent_sft.cli.sft_options import given_options

    make_files(tmp_path, "a.json", "held_out.json")
    options: dict[str, Any] = {
        "model": "tiny",
        "config": "mine.yaml",
        "lr": "1e-5",
        "epochs": 2,
        "fast": True,
        "skip_process": False,
        "report_to": ["tensorboard", "wandb"],
        "eval_dataset": "held_out.json",
        "dataset": ["b.json", "c d.json"],
        "set": {"adam_epsilon": "1e-8", "optim_args": "a=b, c", "packing": False, "freeze": [1, "x"], "note": "no"},
    }
    (tmp_path / "mine.yaml").write_text("learning_rate: 1.0e-3\n")
    sft = plan_of(tmp_path, data=["a.json"], sft=options, seeds=[3]).variants[0].sft
    assert sft is not None
    words = training_command(sft)
    assert words[:3] == ("agent-sft", "sft", "a.json")
    with command.make_context("sft", list(words[2:])) as context:
        read = SFTConfig.from_options(given_options(context))
    assert read.model_dump(exclude={"given"}) == sft.model_dump(exclude={"given"})
    after = {name for name in read.given[read.given.index("config") :] if name != "input"}
    assert after == {name for name in sft.given if name not in ("input", "skip_process")}


def test_an_evaluation_command_says_the_same_as_the_plan() -> None:
    import click

    from agent_sft.cli.eval_run import command
    from agent_sft.cli.sft_options import parse_setting

    config = EvaluationConfig(
        model="saves/a",
        evaluator="inspect",
        task="my task.py",
        out=Path("r"),
        trials=4,
        task_ids=("1", "2"),
        temperature=0.7,
        limits=LimitsConfig(time_limit=60),
        user_model="local",
        params={"args": {"split": "held_out", "n": 3}, "script": "s.py"},
        serve={"backend": "vllm"},
    )
    words = evaluation_command(config)
    assert words[:3] == ("agent-sft", "eval", "run")
    with command.make_context("run", list(words[3:])) as context:
        read = {name: value for name, value in context.params.items() if value not in (None, (), False)}
    assert isinstance(context, click.Context)
    assert dict(map(parse_setting, read.pop("param"))) == {"args": {"split": "held_out", "n": 3}}
    assert dict(map(parse_setting, read.pop("serve"))) == {"backend": "vllm"}
    assert read == {
        "model": "saves/a",
        "evaluator": "inspect",
        "task": "my task.py",
        "out": Path("r"),
        "trials": 4,
        "task_ids": ("1", "2"),
        "temperature": 0.7,
        "time_limit": 60,
        "user_model": "local",
        "script": Path("s.py"),
    }


def test_commands_are_started_by_this_python() -> None:
    import sys

    assert runnable(["agent-sft", "sft", "a.json"]) == [sys.executable, "-P", "-m", "agent_sft", "sft", "a.json"]
    assert runnable(["python", "make.py"]) == [sys.executable, "make.py"]
    assert runnable(["make", "data"]) == ["make", "data"]
