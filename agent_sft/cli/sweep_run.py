"""`agent-sft sweep run`: variants trained, served, scored and compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.executor_options import EXECUTOR_NAMES, RAY_ADDRESS, executor_option
from agent_sft.cli.sft_options import FILE, given_options, sft_options
from agent_sft.cli.show import say
from agent_sft.cli.slurm import check_left_to_slurm, slurm_of, slurm_options, submit_sweep

if TYPE_CHECKING:
    from agent_sft.sweep.graph import SweepPlan

SWEEP_OPTIONS = (
    click.option("--data", multiple=True, metavar="PATTERN", help="A variant for each file: 'syc_{0,5}pct.json'."),
    click.option("--grid", multiple=True, metavar="KEY=V,V", help="A variant for each value of an option or set.KEY."),
    click.option("--variant", multiple=True, metavar="'NAME: {KEY: V}'", help="A variant with options of its own."),
    click.option("--models", multiple=True, metavar="PATTERN", help="Finished models: runs, folders, hub names."),
    click.option("--seeds", metavar="N,N", help="Training seeds: each variant is trained with each.  [default: 42]"),
    click.option(
        "--checkpoints",
        type=click.Choice(["final", "best", "every"]),
        help="Which of a training's models are scored.  [default: final]",
    ),
    click.option("--domain", help="A domain of tau2: by Sierra's own (--tau2-dir), else by inspect_evals."),
    click.option("--evaluator", help="inspect, tau2, tasks, loss, command, or FILE.py:CLASS of your own."),
    click.option("--task", help="What to evaluate on, as agent-sft eval run takes it."),
    click.option("--trials", type=int, help="Trials of each task."),
    click.option("--limit", type=int, help="Only the first tasks."),
    click.option("--user-model", help="Who plays the customer: PROVIDER/NAME, an address, local, or scripted."),
    click.option("--temperature", type=float, help="Of the agent."),
    click.option("--tau2-dir", type=FILE, help="Where Sierra's tau2 is installed."),
    executor_option(
        "Where stages run: this machine, a Ray cluster, or a job of Slurm (docs/cluster.md).  [default: local]",
        *("local", "ray", "slurm"),
    ),
    RAY_ADDRESS,
    click.option("--nodes-per-train", type=int, help="Machines of a cluster for each training.  [default: 1]"),
    click.option("--jobs", type=int, help="Stages at the same time.  [default: as many as the slots allow]"),
    click.option("--gpus", metavar="N,N", help="GPUs to use, by nvidia-smi's numbers.  [default: all visible]"),
    click.option("--gpus-per-train", type=int, help="GPUs of a training.  [default: all]"),
    click.option("--gpus-per-serve", type=int, help="GPUs of a server.  [default: 1]"),
    click.option("--cores-per-train", type=int, help="Processors of a training without a GPU.  [default: all]"),
    click.option("--cores-per-serve", type=int, help="Processors of a server without a GPU.  [default: 1]"),
    click.option("--retries", type=int, help="Of a stage that failed for a passing reason.  [default: 2]"),
    click.option("--baseline", help="The variant that the others are compared with.  [default: the first]"),
    click.option(
        "--keep",
        type=click.Choice(["last", "scored", "all"]),
        help="Checkpoints that stay when a variant is finished.  [default: scored]",
    ),
    click.option("--gpu-price", type=float, help="Of one GPU for an hour: the report then says what it cost."),
    click.option("--name", help="Names the sweep and its folder.  [default: by the data]"),
    click.option("--out", type=FILE, help="The sweep's folder.  [default: sweeps/NAME]"),
)
_EVALUATOR = ("domain", "evaluator", "task", "trials", "limit", "user_model", "temperature", "tau2_dir")
_KEYS = (
    *("data", "grid", "models", "seeds", "checkpoints"),
    *("retries", "baseline", "keep", "gpu_price", "name", "out"),
)
_RESOURCES = (
    *EXECUTOR_NAMES,
    "nodes_per_train",
    "jobs",
    "gpus",
    "gpus_per_train",
    "gpus_per_serve",
    "cores_per_train",
    "cores_per_serve",
)


def sweep_options(function: Any) -> Any:
    """Add the options of a sweep to a command."""
    for option in reversed(SWEEP_OPTIONS):
        function = option(function)
    return function


@click.command()
@click.argument("file", type=FILE, required=False)
@sweep_options
@sft_options
@slurm_options
@click.option("--dry-run", is_flag=True, help="Print all that would run, and why, and touch nothing.")
@click.pass_context
def command(context: click.Context, /, file: Path | None, dry_run: bool, **_options: Any) -> None:
    """Train, serve, score and compare variants: those of FILE (such as configs/sweeps/quickstart.yaml), or by flags.

    Flags override the file. All options of run_sft.sh are taken, for every variant. The same command run again goes on
    where it was stopped, does what changed, and nothing once it is done.
    """
    from agent_sft.config.sweep_file import read_sweep, source_of
    from agent_sft.sweep.plan import build_plan

    options = given_options(context)
    slurm, is_array = slurm_of(options)
    given, evaluator = _given(options)
    if slurm is not None:
        check_left_to_slurm(given.setdefault("resources", {}))
    plan = build_plan(read_sweep(file, given, evaluator), source=source_of(file))
    if slurm is not None:
        submit_sweep(plan, slurm, sys.argv[1:], is_array=is_array, dry_run=dry_run)
        return
    if dry_run:
        from agent_sft.sweep.dry_run import dry_run as lines

        for line in lines(plan):
            click.echo(line)
        return
    from agent_sft.sweep.checking import check_plan
    from agent_sft.sweep.doneness import reasons

    for note in plan.notes:
        say(note)
    check_plan(plan, reasons(plan))
    context.exit(_run(plan, ["agent-sft", *sys.argv[1:]]))


def _given(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the keys of a sweep that flags give, and the options of its evaluators."""
    from agent_sft.cli.serve_options import gpus_of

    options = {name: value for name, value in options.items() if name not in ("file", "dry_run", "given")}
    evaluator = {name: options.pop(name) for name in _EVALUATOR if name in options}
    resources = {name: options.pop(name) for name in _RESOURCES if name in options}
    if "gpus" in resources:
        resources["gpus"] = gpus_of(resources["gpus"])
    given = {name: options.pop(name) for name in _KEYS if name in options}
    if "seeds" in given:
        given["seeds"] = _seeds(given["seeds"])
    if "grid" in given:
        given["grid"] = dict(_axis(text) for text in given["grid"])
    if "variant" in options:
        given["variants"] = [_variant(text) for text in options.pop("variant")]
    if resources:
        given["resources"] = resources
    if options:
        given["sft"] = options
    return given, evaluator


def _seeds(text: str) -> list[int]:
    """Return the numbers of `--seeds 1,2,3`.

    Raises:
        UserError: it is no list of whole numbers.
    """
    from agent_sft.errors import UserError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise UserError(f"'{text}' is not a list of whole numbers", where="--seeds", fix="such as --seeds 1,2,3")
    return [int(part) for part in parts]


def _variant(text: str) -> dict[str, Any]:
    """Return the variant of `--variant 'NAME: {KEY: VALUE}'`, in YAML, or of a name alone.

    Raises:
        UserError: it is not of this form.
    """
    import yaml

    from agent_sft.errors import UserError
    from agent_sft.files import parse_yaml

    try:
        found = parse_yaml(text)
    except yaml.YAMLError:
        found = None
    if isinstance(found, str):
        return {"name": found}
    if not isinstance(found, dict) or len(found) != 1 or not isinstance(next(iter(found.values())), dict | type(None)):
        what = f"'{text}' is not of the form NAME: {{KEY: VALUE}}"
        raise UserError(what, where="--variant", fix="such as --variant 'warm: {lr: 1e-4, epochs: 3}'")
    name, sft = next(iter(found.items()))
    return {"name": str(name), "sft": sft or {}}


def _axis(text: str) -> tuple[str, list[Any]]:
    """Return the option and the values of `--grid lr=1e-5,2e-5`.

    Raises:
        UserError: it is not of this form.
    """
    from agent_sft.cli.sft_options import parse_setting
    from agent_sft.errors import UserError

    key, equals, values = text.partition("=")
    if not equals or not key.strip() or not values.strip():
        raise UserError(
            f"'{text}' is not of the form KEY=VALUE,VALUE", where="--grid", fix="such as --grid lr=1e-5,2e-5"
        )
    return key.strip(), [parse_setting(f"{key}={value}")[1] for value in values.split(",")]


def _run(plan: SweepPlan, words: list[str]) -> int:
    """Carry a plan out; return the exit code."""
    from agent_sft.cli.sweep_show import SweepTable, show_end
    from agent_sft.runs.processes import Interrupted, catch_signals
    from agent_sft.sweep.schedule import run_sweep

    with catch_signals() as stop:
        try:
            record = run_sweep(plan, reporter=SweepTable(plan.out), stop=stop, command=words)
        except Interrupted as stopped:
            say(f"stopped; the same command goes on: {plan.out}")
            return stopped.exit_code
    show_end(plan.out, record)
    return 1 if any(job.state in ("failed", "skipped") for job in record.jobs) else 0
