"""`agent-sft plan DATA`: makes a plan and carries it out, as far as it is approved."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.executor_options import EXECUTOR_NAMES, EXECUTOR_OPTIONS
from agent_sft.cli.plan_show import carry_out
from agent_sft.cli.sft_options import FILE, SFT_OPTIONS, given_options
from agent_sft.cli.show import say
from agent_sft.cli.slurm import SLURM_OPTION, check_left_to_slurm, slurm_of, submit_plan
from agent_sft.cli.sweep_run import SWEEP_OPTIONS

if TYPE_CHECKING:
    from agent_sft.config.slurm import SlurmConfig

_OWN = (
    *("models", "template", "ranks", "rates", "epochs", "seed", "eval_data", "group_by", "search_rows", "draft"),
    *("search", "max_parallel", "skip_final", "deploy", "probe", "gpu_price", "budget"),
)
_EVALUATOR = ("domain", "evaluator", "task", "trials", "limit", "user_model", "temperature", "tau2_dir")
_RESOURCES = ("jobs", "gpus", "gpus_per_train", "gpus_per_serve", "cores_per_train", "cores_per_serve")


@click.command(short_help="Make a plan of DATA and carry it out.")
@click.argument("data")
@click.option("--name", help="Names the plan, its folder and its deployment.  [default: by the data]")
@click.option("--out", type=FILE, help="The plan's folder.  [default: plans/NAME]")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Model to start from, as run_sft.sh takes it; several are tried side by side."
    "  [default: Qwen/Qwen2.5-7B-Instruct]",
)
@click.option("--template", help="LLaMA-Factory chat template.  [default: each model's own]")
@click.option("--ranks", metavar="N,N", help="LoRA ranks of the candidates.  [default: 8,16,32]")
@click.option("--rates", metavar="X,X", help="Learning rates, each with each rank.  [default: one for each rank]")
@click.option("--epochs", metavar="X,X", help="Passes over the data.  [default: min(5, 2500 / conversations)]")
@click.option("--eval-data", metavar="DATA", help="Conversations to choose and judge by.  [default: held out of DATA]")
@click.option("--group-by", metavar="PLACE", help="What names a row's group, such as metadata.task_id.")
@click.option("--search-rows", type=int, help="Candidates are tried on so many conversations.  [default: 1000]")
@click.option(
    "--search",
    type=click.Choice(["grid", "asha"]),
    help="Train every candidate to its end, or stop those that fall behind.  [default: grid]",
)
@click.option("--draft", is_flag=True, help="Judge by an evaluator that is made of the data.")
@click.option("--max-parallel", type=int, help="Candidates at the same time.  [default: 6]")
@click.option("--skip-final", is_flag=True, help="Deploy the winning candidate without training it on all data.")
@click.option("--deploy/--no-deploy", help="Serve the final model at the end.  [default: deploy]")
@click.option("--probe/--no-probe", help="Measure twenty steps of each model for the costs.  [default: probe]")
@click.option("--gpu-price", type=float, help="Of one GPU for an hour; of this machine where there is no GPU.")
@click.option("--budget", metavar="AMOUNT|HOURSh", help="Refuse, or stop, what costs more: money, or hours as 3h.")
@click.option("--seed", type=int, help="Of the parts of the data and of the trainings.  [default: 42]")
@click.option("--serve", multiple=True, metavar="KEY=VALUE", help="An option of agent-sft serve; several times.")
@click.option("--yes", is_flag=True, help="Approve the plan and the winner without a question.")
@SLURM_OPTION
@click.option("--dry-run", is_flag=True, help="Of --executor slurm: print the script, and touch nothing.")
@click.pass_context
def command(context: click.Context, /, data: str, yes: bool, dry_run: bool, **_options: Any) -> None:
    """Inspect DATA, say what finding a good model for it costs, and do it once that is approved.

    Without a terminal it stops where it needs an approval, with exit code 0: `agent-sft plan approve NAME` and
    `agent-sft plan promote NAME` go on. The same command run again goes on where it was stopped.
    """
    from agent_sft.config.planning import read_plan_config
    from agent_sft.planning.approving import Grants

    options = given_options(context)
    slurm, _ = slurm_of(options)
    given = _given(data, options)
    if slurm is not None:
        _submit(given, slurm, dry_run=dry_run)
        return
    if dry_run:
        raise click.UsageError(
            "--dry-run shows what --executor slurm would submit; a plan itself asks before it spends"
        )
    carry_out(context, read_plan_config(given), Grants(everything=yes))


def _submit(given: dict[str, Any], slurm: SlurmConfig, *, dry_run: bool) -> None:
    """Submit a plan.

    Raises:
        UserError: it cannot be made, or the job decides what was given.
    """
    from agent_sft.config.planning import read_plan_config
    from agent_sft.errors import UserError
    from agent_sft.planning.folder import PlanFolder
    from agent_sft.planning.inspection import Inspector

    if given.get("deploy"):
        what = "what a job of Slurm serves ends with it"
        raise UserError(what, where="--deploy", fix="leave it out: `agent-sft deploy` serves the final model")
    check_left_to_slurm(given["resources"])
    config = read_plan_config({**given, "deploy": False})
    Inspector(config, PlanFolder(config.out), say)  # the data is there
    words = sys.argv[1:] if "deploy" in given else [*sys.argv[1:], "--no-deploy"]
    submit_plan(config, slurm, words, dry_run=dry_run)


def _params(options: Sequence[Callable[[Any], Any]], wanted: Callable[[str], bool]) -> list[click.Parameter]:
    """Return those of another command's options that are wanted, in their order."""

    def holder() -> None:
        """Hold them."""

    for option in reversed(options):
        option(holder)
    found: list[click.Parameter] = list(reversed(holder.__click_params__))  # type: ignore[attr-defined]
    return [param for param in found if param.name is not None and wanted(param.name)]


def _taken_from_runs(name: str) -> bool:
    """Tell whether an option of a run is taken as it is."""
    decided = ("dataset", "output_dir", "dataset_name", "lr", "lora_rank", "eval_dataset", "val_size", "data_from")
    machines = ("nnodes", "node_rank", "master_addr", "master_port", "nproc_per_node")
    steps = ("steps", "checkpoint_interval", "pause_at")
    return name not in (*_OWN, *decided, *machines, *steps, "model")


command.params += _params(EXECUTOR_OPTIONS, lambda _name: True)
command.params += _params(SWEEP_OPTIONS, lambda name: name in (*_EVALUATOR, *_RESOURCES))
command.params += _params(SFT_OPTIONS, _taken_from_runs)


def _given(data: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a plan as the command line gives them."""
    from agent_sft.cli.serve_options import gpus_of
    from agent_sft.cli.sft_options import parse_setting
    from agent_sft.config.sweep_checks import check_name
    from agent_sft.config.sweep_evaluators import chosen
    from agent_sft.planning.folder import PLANS

    options = {name: value for name, value in options.items() if name not in ("data", "yes", "given", "dry_run")}
    name = options.pop("name", None) or re.sub(r"[^\w.-]+", "-", Path(data).name.split(".")[0], flags=re.ASCII)
    name = name.strip("._-") or "plan"
    check_name(name, "--name")
    given: dict[str, Any] = {"data": data, "name": name, "out": options.pop("out", PLANS / name)}
    for key in ("ranks", "rates", "epochs"):
        if key in options:
            given[key] = _numbers(options.pop(key), f"--{key}", whole=key == "ranks")
    given |= {key: options.pop(key) for key in _OWN if key in options}
    if "serve" in options:
        given["serve"] = dict(parse_setting(text) for text in options.pop("serve"))
    evaluator = {key: options.pop(key) for key in _EVALUATOR if key in options}
    if evaluator:
        given["evaluator"] = chosen([], evaluator)[0]
    resources = {key: options.pop(key) for key in (*EXECUTOR_NAMES, *_RESOURCES) if key in options}
    if "gpus" in resources:
        resources["gpus"] = gpus_of(resources["gpus"])
    return {**given, "resources": resources, "sft": _plain(options)}


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as YAML keeps them."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}


def _numbers(text: str, flag: str, *, whole: bool) -> list[float]:
    """Return the numbers of a list with commas.

    Raises:
        UserError: it is none.
    """
    from agent_sft.errors import UserError

    try:
        return [int(part) if whole else float(part) for part in text.split(",")]
    except ValueError as error:
        kind = "whole numbers" if whole else "numbers"
        raise UserError(f"'{text}' is not a list of {kind}", where=flag, fix=f"such as {flag} 8,16") from error
