"""The jobs of a sweep: what comes after what, what each takes, which share a server, which checkpoints are scored."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agent_sft.errors import UserError
from agent_sft.runs.devices import Gpu
from agent_sft.sweep.cluster import ClusterFacts
from agent_sft.sweep.graph import Slots, SweepPlan
from agent_sft.sweep.plan import with_checkpoints
from agent_sft.sweep.slots import Capacity, Node
from tests.sweep_plans import TASK, make_files, make_model, make_weights, plan_of

AT = "2030-01-01T00:00:00+00:00"
"""When a training ended."""
LOSS = {"evaluator": "loss", "task": "held_out.json"}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with_gpus(monkeypatch, 0)
    make_files(tmp_path, "a_0.json", "a_5.json")


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the machine have GPUs."""
    gpus = tuple(Gpu(index, f"GPU-{index}", "a GPU", 80 << 30, 80 << 30, 8.0) for index in range(count))
    monkeypatch.setattr("agent_sft.sweep.resources.visible_gpus", lambda: gpus)


def order(plan: SweepPlan) -> dict[str, tuple[str, ...]]:
    """Each job with those before it."""
    return {job.id: job.after for job in plan.jobs}


def test_each_job_comes_after_what_makes_what_it_needs(tmp_path: Path) -> None:
    prepare = [
        {"command": ["make", "base"], "makes": ["made/base.json"]},
        {"command": ["make", "five"], "makes": ["made/a_5.json"]},
    ]
    base = {"input": "made/base.json", "model": "tiny"}
    plan = plan_of(tmp_path, prepare=prepare, base=base, data=["a_0.json", "made/a_5.json"])
    assert order(plan) == {
        "prepare/0": (),
        "prepare/1": ("prepare/0",),
        "train/base": ("prepare/0",),
        "train/a_0": ("train/base",),
        "score/a_0/final/tasks": ("train/a_0",),
        "train/a_5": ("prepare/1", "train/base"),
        "score/a_5/final/tasks": ("train/a_5",),
    }
    started = [variant.sft.model for variant in plan.variants if variant.sft]
    assert started == [str(tmp_path / "sweeps/trial/base")] * 2


def test_a_command_whose_files_nobody_names_comes_before_all(tmp_path: Path) -> None:
    prepare = [{"command": ["make"], "makes": ["made/anything"]}]
    assert order(plan_of(tmp_path, prepare=prepare, data=["a_0.json"]))["train/a_0"] == ("prepare/0",)


def test_a_folder_that_a_command_makes_holds_what_is_in_it(tmp_path: Path) -> None:
    prepare = [{"command": ["make"], "makes": ["tasks"]}, {"command": ["make"], "makes": ["a_0.json"]}]
    plan = order(plan_of(tmp_path, prepare=prepare, data=["a_{0,5}.json"]))
    assert plan["score/a_5/final/tasks"] == ("prepare/0", "train/a_5")
    assert (plan["train/a_0"], plan["train/a_5"]) == (("prepare/1",), ())


def test_a_model_that_a_command_makes_is_scored_after_it(tmp_path: Path) -> None:
    prepare = [{"command": ["merge"], "makes": ["merged/a"]}, {"command": ["merge"], "makes": ["merged/b"]}]
    plan = order(plan_of(tmp_path, prepare=prepare, models=["merged/{a,b}"]))
    assert (plan["score/a/final/tasks"], plan["score/b/final/tasks"]) == (("prepare/0",), ("prepare/1",))


def test_evaluators_that_need_no_server_are_jobs_of_their_own(tmp_path: Path) -> None:
    both = [TASK, {**LOSS, "name": "held-out"}]
    plan = plan_of(tmp_path, data=["a_0.json"], evaluators=both)
    kinds = {job.id: (job.kind, job.server) for job in plan.jobs}
    assert kinds == {
        "train/a_0": ("train", None),
        "score/a_0/final/tasks": ("score", "Qwen2.5-7B-Instruct"),
        "evaluate/a_0/final/held-out": ("evaluate", None),
    }
    assert plan.evaluators == ("tasks", "held-out")


def test_two_evaluators_of_one_name_and_wrong_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluators\.1: two evaluators are called 'tasks'"):
        plan_of(tmp_path, data=["a_0.json"], evaluators=[TASK, TASK])
    with pytest.raises(UserError, match=r"evaluators\.0: there is no evaluator of the kind 'lss'"):
        plan_of(tmp_path, data=["a_0.json"], evaluators=[{**LOSS, "evaluator": "lss"}])
    with pytest.raises(UserError, match=r"evaluators\.0: 'loss' has no parameter 'templat'\n  did you mean 'template'"):
        plan_of(tmp_path, data=["a_0.json"], evaluators=[{**LOSS, "params": {"templat": "qwen"}}])


def test_an_evaluation_is_asked_what_the_file_says(tmp_path: Path) -> None:
    asked = {**TASK, "trials": 4, "serve": {"lora_later": 9}}
    plan = plan_of(tmp_path, data=["a_0.json"], evaluators=[asked], serve={"backend": "vllm", "lora_later": 8})
    evaluation = plan.jobs[-1].evaluation
    assert evaluation is not None
    assert evaluation.model == "sweeps/trial/variants/a_0"
    assert str(evaluation.out) == "sweeps/trial/evaluations/a_0/final/tasks"
    assert (evaluation.trials, evaluation.serve) == (4, {"backend": "vllm", "lora_later": 9})
    assert plan.jobs[-1].command[:3] == ("agent-sft", "eval", "run")


@pytest.mark.parametrize(
    ("sft", "keys", "servers"),
    [
        ({"model": "some/model"}, {}, ["model", "model"]),
        ({"model": "some/model"}, {"share_server": False}, ["a_0-final", "a_5-final"]),
        ({"model": "tiny"}, {}, ["a_0", "a_5"]),
        ({"model": "some/model", "finetuning_type": "lora"}, {}, ["model-adapters", "model-adapters"]),
        (
            {"model": "some/model", "set": {"finetuning_type": "lora"}},
            {"share_server": False},
            ["model-adapters", "model-adapters"],
        ),
    ],
)
def test_models_that_fit_one_server_share_it(
    sft: dict[str, Any], keys: dict[str, Any], servers: list[str], tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, data=["a_{0,5}.json"], sft=sft, **keys)
    assert [job.server for job in plan.jobs if job.kind == "score"] == servers


def test_variants_of_a_base_share_a_server_of_templates_or_options_that_differ_do_not(tmp_path: Path) -> None:
    base = {"input": "a_0.json", "model": "tiny"}
    plan = plan_of(tmp_path, data=["a_{0,5}.json"], base=base)
    assert {job.server for job in plan.jobs if job.kind == "score"} == {"base"}
    grid = plan_of(tmp_path, sft={"input": "a_0.json", "model": "some/model"}, grid={"template": ["qwen", "qwen3"]})
    assert [job.server for job in grid.jobs if job.kind == "score"] == ["model", "model-2"]
    served = [TASK, {**TASK, "name": "long", "serve": {"set": {"max_model_len": 9}}}]
    two = plan_of(tmp_path, data=["a_{0,5}.json"], base=base, evaluators=served)
    assert [job.server for job in two.jobs if job.kind == "score"] == ["base", "base-2", "base", "base-2"]


def test_finished_models_that_are_alike_share_a_server(tmp_path: Path) -> None:
    make_model(tmp_path / "saves/a", hidden_size=8, torch_dtype="float32")
    make_model(tmp_path / "saves/b", hidden_size=8, torch_dtype="bfloat16")
    make_model(tmp_path / "saves/c", hidden_size=9)
    plan = plan_of(tmp_path, models=["saves/{a,b,c}", "hub/model"])
    assert [job.server for job in plan.jobs] == ["a", "a", "c", "model"]


def test_without_a_gpu_processors_are_shared_out(tmp_path: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    plan = plan_of(tmp_path, data=["a_0.json"])
    assert [job.slots for job in plan.jobs] == [Slots(cores=max(1, cores - 1)), Slots(cores=1)]
    plan = plan_of(tmp_path, data=["a_0.json"], resources={"cores_per_train": 1, "gpus_per_train": 8})
    assert plan.jobs[0].slots == Slots(cores=1)
    assert plan.notes == ("there is no GPU here: gpus_per_train count for nothing, processors are shared out",)
    with pytest.raises(UserError, match=r"resources\.cores_per_serve: 9999 processors are wanted, there are"):
        plan_of(tmp_path, data=["a_0.json"], resources={"cores_per_serve": 9999})


def test_with_gpus_a_training_runs_a_process_on_each_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(monkeypatch, 8)
    plan = plan_of(tmp_path, data=["a_0.json"])
    assert [job.slots for job in plan.jobs] == [Slots(gpus=8), Slots(gpus=1)]
    assert plan.variants[0].sft is not None
    assert plan.variants[0].sft.nproc_per_node == 8
    few = plan_of(tmp_path, data=["a_0.json"], resources={"gpus": [2, 3], "gpus_per_serve": 2})
    assert [job.slots for job in few.jobs] == [Slots(gpus=2), Slots(gpus=2)]
    assert "--nproc-per-node 2" in " ".join(few.jobs[0].command)
    for resources, said in (({"gpus": [9]}, "there is no GPU 9"), ({"gpus_per_train": 9}, "9 GPUs are wanted")):
        with pytest.raises(UserError, match=said):
            plan_of(tmp_path, data=["a_0.json"], resources=resources)


def test_of_a_cluster_a_stage_has_a_machine_and_a_training_several_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = [Node("1", "head", 0, 16, here=True), *(Node(name, name, 4, 16) for name in "abc"), Node("d", "d", 8, 16)]
    asked = []

    def look(address: str) -> ClusterFacts:
        asked.append(address)
        return ClusterFacts(address, Capacity.of(nodes), (), ("a note",))

    monkeypatch.setattr("agent_sft.sweep.resources.cluster_facts", look)
    plan = plan_of(tmp_path, data=["a_0.json"], resources={"executor": "ray"})
    assert set(asked) == {"auto"}
    assert [job.slots for job in plan.jobs] == [Slots(gpus=8), Slots(gpus=1)]
    assert plan.notes == ("a note",)
    several = {"executor": "ray", "gpus_per_train": 4, "nodes_per_train": 4}
    plan = plan_of(tmp_path, data=["a_0.json"], resources=several)
    assert plan.jobs[0].slots == Slots(gpus=4, nodes=4)
    assert "--nproc-per-node 4 --nnodes 4 --master-port" in " ".join(plan.jobs[0].command)
    for resources, said in (
        ({"gpus_per_train": 9}, "9 GPUs are wanted, there are 8 on the largest of 5 machines"),
        ({"nodes_per_train": 2}, "2 machines with 8 GPUs each are wanted, the cluster has 1"),
    ):
        with pytest.raises(UserError, match=said):
            plan_of(tmp_path, data=["a_0.json"], resources={"executor": "ray", **resources})


@pytest.mark.parametrize(
    ("checkpoints", "sft", "said"),
    [
        ("every", {}, "keeps no checkpoint beside the last"),
        ("best", {"checkpoint_interval": 5}, "has no evaluation data"),
        ("every", {"checkpoint_interval": 5, "set": {"save_strategy": "no"}}, "keeps no checkpoint"),
    ],
)
def test_checkpoints_that_are_not_kept_or_cannot_be_compared_are_refused(
    checkpoints: str, sft: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        plan_of(tmp_path, data=["a_0.json"], sft=sft, checkpoints=checkpoints)


def finish_training(
    run: Path, losses: dict[int, float], last: int, finished: str = "2030-01-01T00:00:00+00:00"
) -> None:
    """Leave in a run's folder what a finished training leaves: checkpoints, losses, the stamp."""
    for step in losses:
        make_weights(run / f"checkpoint-{step}")
    make_weights(run)
    history = [{"step": step, "eval_loss": loss} for step, loss in losses.items()]
    (run / "trainer_state.json").write_text(json.dumps({"global_step": last, "log_history": history}))
    stamp = {
        "stage": "train",
        "fingerprint": "x",
        "inputs": {},
        "outputs": {},
        "started": finished,
        "finished": finished,
    }
    (run / "stages").mkdir(exist_ok=True)
    (run / "stages/train.json").write_text(json.dumps(stamp))


def leave_evaluation(out: Path, checkpoint: str, model: str, started: str) -> None:
    """Leave what tells of an evaluation."""
    folder = out / "evaluations/a_0" / checkpoint / "tasks"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(json.dumps({"model": model, "started": started}))


def scored(plan: SweepPlan) -> dict[str | None, str]:
    """The checkpoints that are scored, with their folders' names."""
    return {job.checkpoint: Path(job.evaluation.model).name for job in plan.jobs if job.evaluation}


def test_every_checkpoint_is_scored_once_the_training_is_there(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, data=["a_0.json"], sft={"checkpoint_interval": 5}, checkpoints="every")
    assert scored(plan) == {"every": "a_0"}
    assert with_checkpoints(plan, "a_0").jobs == plan.jobs
    finish_training(Path(plan.variants[0].model), {5: 1.0, 10: 1.0, 12: 1.0}, last=12)
    known = with_checkpoints(plan, "a_0")
    assert scored(known) == {"step-5": "checkpoint-5", "step-10": "checkpoint-10", "final": "a_0"}
    assert with_checkpoints(known, "a_0").jobs == known.jobs
    assert {job.server for job in known.jobs[1:]} == {plan.jobs[1].server}
    assert known.jobs[1].after == ("train/a_0",)


def test_a_checkpoint_that_is_gone_counts_where_it_was_scored_after_the_training(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, data=["a_0.json"], sft={"checkpoint_interval": 5}, checkpoints="every")
    run = Path(plan.variants[0].model)
    finish_training(run, {12: 1.0}, last=12)
    leave_evaluation(plan.out, "step-5", f"{run}/checkpoint-5", "2030-01-01T00:00:01+00:00")
    leave_evaluation(plan.out, "step-10", f"{run}/checkpoint-10", "2029-12-31T23:59:59+00:00")
    assert scored(with_checkpoints(plan, "a_0")) == {"step-5": "checkpoint-5", "final": "a_0"}


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ({5: 2.0, 10: 1.0, 12: 3.0}, "checkpoint-10"),
        ({5: 1.0, 10: 1.0, 12: 3.0}, "checkpoint-5"),
        ({5: 2.0, 12: 1.0}, "a_0"),
    ],
)
def test_the_best_has_the_lowest_evaluation_loss(losses: dict[int, float], best: str, tmp_path: Path) -> None:
    sft = {"checkpoint_interval": 5, "val_size": 0.1}
    plan = plan_of(tmp_path, data=["a_0.json"], sft=sft, checkpoints="best")
    finish_training(Path(plan.variants[0].model), losses, last=12)
    known = with_checkpoints(plan, "a_0")
    assert scored(known) == {"best": best}
    assert known.jobs[1].id == plan.jobs[1].id == "score/a_0/best/tasks"


def test_the_best_stays_the_best_when_it_was_pruned(tmp_path: Path) -> None:
    sft = {"checkpoint_interval": 5, "val_size": 0.1}
    plan = plan_of(tmp_path, data=["a_0.json"], sft=sft, checkpoints="best")
    run = Path(plan.variants[0].model)
    finish_training(run, {5: 1.0, 12: 2.0}, last=12)
    leave_evaluation(plan.out, "best", str((run / "checkpoint-5").absolute()), "2030-01-01T00:00:01+00:00")
    (run / "checkpoint-5/model.safetensors").unlink()
    assert scored(with_checkpoints(plan, "a_0")) == {"best": "checkpoint-5"}


def test_without_an_evaluation_loss_there_is_no_best(tmp_path: Path) -> None:
    sft = {"checkpoint_interval": 5, "val_size": 0.1}
    plan = plan_of(tmp_path, data=["a_0.json"], sft=sft, checkpoints="best")
    finish_training(Path(plan.variants[0].model), {}, last=12)
    with pytest.raises(UserError, match="recorded no evaluation loss"):
        with_checkpoints(plan, "a_0")


def test_every_checkpoint_of_a_finished_run(tmp_path: Path) -> None:
    finish_training(tmp_path / "saves/run", {5: 1.0, 10: 1.0}, last=12)
    (tmp_path / "saves/run/config.json").write_text("{}")
    assert scored(plan_of(tmp_path, models=["saves/run"], checkpoints="every")) == {
        "step-5": "checkpoint-5",
        "step-10": "checkpoint-10",
        "final": "run",
    }


def test_checkpoints_by_glob_are_variants_whose_value_is_the_step(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        make_model(tmp_path / f"saves/run/checkpoint-{step}")
    plan = plan_of(tmp_path, models=["saves/run/checkpoint-*"])
    assert [(one.name, one.value) for one in plan.variants] == [
        *(("checkpoint-5", 5), ("checkpoint-10", 10)),
        ("checkpoint-100", 100),
    ]
