"""`agent-sft sft`: a data file to a trained model."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.sft_options import given_options, sft_options
from agent_sft.cli.show import TerminalReporter, duration, program, say
from agent_sft.cli.slurm import EXECUTOR, slurm_of, slurm_options, submit_training

if TYPE_CHECKING:
    from agent_sft.stages.plan import TrainingPlan
    from agent_sft.stages.sft import SFTOutcome


@click.command()
@click.argument("input", nargs=-1)
@sft_options
@EXECUTOR
@slurm_options
@click.option("--dry-run", is_flag=True, help="Print what would run, and touch nothing.")
@click.option("--fresh", is_flag=True, help="Set an earlier result aside and start over.")
@click.pass_context
def command(context: click.Context, /, **_options: Any) -> None:
    """Fine-tune a model on the conversations in INPUT: process, prepare, train.

    INPUT is a file, a glob, NAME@VERSION or hf:NAME, or several of them; --dataset and --trajectory-dataset name more.
    The same command run again goes on where it was stopped, and does nothing once it is done.
    """
    from agent_sft.config.sft import SFTConfig
    from agent_sft.runs.processes import Interrupted
    from agent_sft.stages.inputs import names
    from agent_sft.stages.plan import build_plan
    from agent_sft.stages.sft import dry_run, run_sft

    options = given_options(context)
    slurm, is_array = slurm_of(options)
    options.pop("executor", None)
    config = SFTConfig.from_options({**options, "given": tuple(name for name in options["given"] if name in options)})
    if slurm is not None:
        submit_training(config, slurm, is_array=is_array)
        return
    plan = build_plan(config)
    for note in plan.notes:
        say(note)
    for override in plan.overrides:
        say(f"{config.config} sets {override.key}: {override.theirs} (instead of {override.ours})")
    if not plan.trains_on_input:
        say(
            f"{config.config} names its own dataset_dir: training reads {plan.arguments['dataset']} there,"
            f" not {', '.join(names(plan.inputs))}"
        )
    if config.dry_run:
        for line in dry_run(plan):
            click.echo(line)
        return
    try:
        outcome = run_sft(plan, TerminalReporter())
    except Interrupted as stopped:
        done = f"at step {stopped.step}, its checkpoint is saved" if stopped.step else "before a checkpoint"
        say(f"stopped {done}; the same command goes on")
        context.exit(stopped.exit_code)
    for line in summary(outcome):
        click.echo(line)


def summary(outcome: SFTOutcome) -> list[str]:
    """Return what to show when a run is finished: its figures, and what can be done with the model."""
    result, plan = outcome.result, outcome.plan
    where = plan.output_dir
    if outcome.paused is not None:
        return [f"stopped at step {outcome.paused}, as --pause-at asks; without it, the same command goes on: {where}"]
    if not outcome.ran:
        return [
            f"finished already ({result.steps} steps): {where}",
            "  --fresh sets it aside and starts over",
        ]
    if plan.launch.node_rank != 0:
        return [f"machine {plan.launch.node_rank} is done; the model is on machine 0"]
    figures = {
        "train loss": f"{result.train_loss:.4f}" if result.train_loss is not None else None,
        "eval loss": f"{result.eval_loss:.4f}" if result.eval_loss is not None else None,
        "loss plot": str(result.loss_plot) if result.loss_plot else None,
        "steps": str(result.steps),
        "tokens": f"{result.tokens:,}" if result.tokens else None,
        "time": duration(result.seconds) if result.seconds else None,
    }
    lines = [f"trained: {where}"]
    lines += [f"  {name:<11}{value}" for name, value in figures.items() if value is not None]
    return [*lines, "", *next_steps(plan, where)]


def next_steps(plan: TrainingPlan, where: Path) -> list[str]:
    """Return commands that work when pasted: serve the model, evaluate it."""
    from agent_sft.engines.llamafactory.serving import evaluation_command

    base = plan.base_dir if plan.is_tiny else None
    evaluated = str(plan.arguments.get("eval_dataset", plan.dataset))
    with_it = f" --capability {shlex.quote(plan.config.capability)}" if plan.config.capability else ""
    evaluation = evaluation_command(plan.python, where, plan.arguments, base, plan.dataset_dir, evaluated)
    return [
        "Serve it (prints its address, and how to call it from Python and the shell):",
        f"  {shlex.quote(program())} serve {shlex.quote(str(where))}{with_it}",
        "",
        "Evaluate it (the loss on a dataset made by prepare_sft_data.py):",
        f"  {evaluation}",
    ]
