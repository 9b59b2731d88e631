"""The options of a run, shared by the commands that take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)

SFT_OPTIONS = (
    click.option(
        "--model",
        help="Hub name or folder to start from; 'tiny' makes a small random one, a YAML file one that it describes."
        "  [default: Qwen/Qwen2.5-7B-Instruct]",
    ),
    click.option("--template", help="LLaMA-Factory chat template; must fit the model.  [default: qwen]"),
    click.option("--force-template", is_flag=True, help="Use --template even where it does not fit the model."),
    click.option(
        "--dataset",
        multiple=True,
        metavar="DATA",
        help="More conversations: a file, a glob, NAME@VERSION or hf:NAME; may be given several times.",
    ),
    click.option(
        "--trajectory-dataset",
        multiple=True,
        metavar="DATA",
        help="Rollouts of an agent (tau2 results, Inspect logs), trained on too; may be given several times.",
    ),
    click.option(
        "--capability",
        metavar="NAME@VERSION",
        help="System prompt and tools that are put before every conversation; or the folder of a capability.",
    ),
    click.option(
        "--output-dir",
        type=FILE,
        help="Where the model and the run's record go.  [default: saves/<model>/<dataset>]",
    ),
    click.option("--dataset-name", help="Name in dataset_info.json.  [default: tau2_sft]"),
    click.option("--epochs", type=float, help="Passes over the data.  [default: 2]"),
    click.option("--steps", type=int, help="Optimizer steps, instead of --epochs."),
    click.option("--lr", "--learning-rate", type=float, help="Peak learning rate.  [default: 0.000005]"),
    click.option("--batch-size", type=int, help="Conversations per device and forward pass.  [default: 1]"),
    click.option(
        "--grad-accum",
        "--gradient-accumulation-steps",
        type=int,
        help="Forward passes per optimizer step.  [default: 2]",
    ),
    click.option(
        "--cutoff-len",
        "--max-sequence-length",
        type=int,
        help="Longest example, in tokens.  [default: 12000]",
    ),
    click.option(
        "--on-overflow",
        type=click.Choice(["trim", "split", "drop", "error"]),
        help="For longer ones: leave off the last turns, make windows, drop, or stop.  [default: trim]",
    ),
    click.option(
        "--supervise",
        type=click.Choice(["all_assistant", "last_assistant", "final_answer", "tool_calls"]),
        help="The agent's turns that carry loss.  [default: all_assistant]",
    ),
    click.option(
        "--finetuning-type",
        type=click.Choice(["full", "lora"]),
        help="Train all weights or an adapter.  [default: full]",
    ),
    click.option("--lora-rank", type=int, help="Rank of the adapter.  [default: 8]"),
    click.option("--lora-alpha", type=int, help="Scale of the adapter.  [default: twice the rank]"),
    click.option("--lora-target", help="Modules with an adapter, separated by commas.  [default: all]"),
    click.option("--deepspeed", type=FILE, help="DeepSpeed configuration, such as ds_configs/ds_zero3.json."),
    click.option("--fast", is_flag=True, help="Apply configs/sft_fast.yaml where the machine and the model allow."),
    click.option("--format", help="What the input's rows are, such as openai.  [default: recognised from them]"),
    click.option(
        "--min-reward",
        type=float,
        help="Leave out rows with a reward below this: of --trajectory-dataset, or of all where none is given.",
    ),
    click.option(
        "--process", type=FILE, help="Pipeline of transforms.  [default: one of configs/process, by the data]"
    ),
    click.option(
        "--data-from",
        type=FILE,
        multiple=True,
        metavar="RUN",
        help="Take data that another run prepared from the same input in the same way; as often as you like.",
    ),
    click.option("--skip-process", is_flag=True, help="The input is processed already: go straight to preparing it."),
    click.option("--allow-rejects", is_flag=True, help="Train on the usable rows when others had to be rejected."),
    click.option("--allow-template-drift", is_flag=True, help="Train also where the server will render other prompts."),
    click.option("--config", type=FILE, help="Your own LLaMA-Factory YAML; overrides the options before it."),
    click.option("--eval-dataset", metavar="DATA", help="Conversations held out for the evaluation loss."),
    click.option("--val-size", type=float, help="Share or number of rows held out for the evaluation loss."),
    click.option("--checkpoint-interval", type=int, help="Save and keep a checkpoint every N optimizer steps."),
    click.option(
        "--benchmark",
        multiple=True,
        metavar="DIR",
        help="Tasks with verifiers to score the model on, once it is trained; may be given several times.",
    ),
    click.option("--benchmark-every", type=int, help="Score them every N optimizer steps while it trains."),
    click.option("--best-by", metavar="METRIC", help="Take the checkpoint that is best by a benchmark, or eval_loss."),
    click.option("--pause-at", type=int, help="Stop after N optimizer steps; without it, the same command goes on."),
    click.option("--nproc-per-node", type=int, help="Processes on this machine.  [default: one for each GPU]"),
    click.option("--nnodes", type=int, help="Machines that train together.  [default: 1]"),
    click.option("--node-rank", type=int, help="Number of this machine, from 0.  [default: 0]"),
    click.option("--master-addr", help="Address of machine 0.  [default: 127.0.0.1]"),
    click.option("--master-port", type=int, help="Port on machine 0 where all meet."),
    click.option(
        "--report-to",
        multiple=True,
        type=click.Choice(["wandb", "tensorboard", "mlflow", "swanlab", "trackio"]),
        help="Experiment tracker; may be given several times.",
    ),
    click.option(
        "--set",
        "set",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any LLaMA-Factory key; may be given several times.",
    ),
    click.option("--seed", type=int, help="Seed of data order, dropout and a tiny model's weights.  [default: 42]"),
)


def sft_options(function: F) -> F:
    """Add all options of a run to a command."""
    for option in reversed(SFT_OPTIONS):
        function = option(function)
    return function


def given_options(context: click.Context) -> dict[str, Any]:
    """Return the options that were given, for `SFTConfig`, which holds the defaults.

    `given` keeps their order on the command line: those after `--config` win over it.
    """
    from click.core import ParameterSource

    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if "set" in given:
        given["set"] = dict(parse_setting(text) for text in given["set"])
    return {**given, "given": tuple(given)}


def parse_setting(text: str) -> tuple[str, Any]:
    """Split `key=value`, the value read as YAML reads it.

    Raises:
        UserError: there is no `=`, or the value is no YAML.
    """
    import yaml

    from agent_sft.config.yaml_files import as_number
    from agent_sft.errors import UserError
    from agent_sft.files import parse_yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"'{text}' is not of the form key=value", where="--set")
    try:
        parsed = parse_yaml(value)
    except yaml.YAMLError as error:
        raise UserError(f"the value of {key} is not YAML: {value}", where="--set") from error
    return key.strip(), as_number(parsed)
