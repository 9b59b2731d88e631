"""`agent-sft eval run`: score a model on a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent_sft.cli.eval_show import run_and_show
from agent_sft.cli.sft_options import FILE


@click.command()
@click.option("--config", type=FILE, help="The same options in a YAML file, such as those in configs/eval.")
@click.option("--model", help="A run, a model's folder or hub name, or an address: http://HOST:PORT/v1#NAME.")
@click.option("--evaluator", help="inspect, tau2, tasks, loss, command, or FILE.py:CLASS of your own.")
@click.option("--task", help="What to evaluate on: a task of Inspect, a domain of tau2, a folder with tasks.jsonl, ...")
@click.option("--out", type=FILE, help="Where the results go.")
@click.option("--trials", type=int, help="Trials of each task.  [default: 1]")
@click.option("--limit", type=int, help="Only the first tasks.")
@click.option("--task-id", "task_ids", multiple=True, help="Only this task; may be given several times.")
@click.option("--user-model", help="Who plays the customer: PROVIDER/NAME, an address, local, or scripted.")
@click.option("--concurrency", type=int, help="Trials at the same time.  [default: 16]")
@click.option("--temperature", type=float, help="Of the agent.  [default: 0]")
@click.option("--max-tokens", type=int, help="Tokens of one answer.  [default: 1024]")
@click.option("--seed", type=int, help="Each trial gets a seed of its own from it.  [default: 42]")
@click.option("--max-messages", type=int, help="Messages of a conversation.  [default: 200]")
@click.option("--token-limit", type=int, help="Tokens of a trial.  [default: 1000000]")
@click.option("--time-limit", type=int, help="Seconds of a trial.  [default: 1800]")
@click.option("--request-timeout", type=int, help="Seconds of a request that gets no answer.  [default: 300]")
@click.option("--max-retries", type=int, help="Of a request that the provider failed.  [default: 5]")
@click.option("--param", multiple=True, metavar="KEY=VALUE", help="A parameter of the evaluator.")
@click.option("--tau2-dir", type=FILE, help="Where Sierra's tau2 is installed (evaluator tau2).")
@click.option("--script", type=FILE, help="Your program (evaluator command).")
@click.option("--capability", metavar="NAME@VERSION", help="System prompt and tools to put before conversations.")
@click.option("--serve", multiple=True, metavar="KEY=VALUE", help="An option of agent-sft serve, such as backend=vllm.")
@click.option("--fresh", is_flag=True, help="Set earlier results in --out aside and start over.")
@click.pass_context
def command(context: click.Context, /, config: Path | None, fresh: bool, **options: Any) -> None:
    """Score a model: serve it, run every task and trial, write results.jsonl and evaluation.json.

    Keys of providers are read from the environment and from .env. The same command run again goes on where it was
    stopped; trials that could not be run are never counted as wrong, and the exit code is 1 while there are any.
    """
    from agent_sft.cli.sft_options import parse_setting
    from agent_sft.config.evaluation import read_evaluation_config

    params = dict(parse_setting(text) for text in options.pop("param"))
    params |= {name: str(value) for name in ("tau2_dir", "script") if (value := options.pop(name)) is not None}
    serve = dict(parse_setting(text) for text in options.pop("serve"))
    if (capability := options.pop("capability")) is not None:
        serve["capability"] = capability
    given = {name: value for name, value in options.items() if value not in (None, ())}
    given |= {"params": params} if params else {}
    given |= {"serve": serve} if serve else {}
    run_and_show(context, read_evaluation_config(config, given), fresh=fresh)
