"""`agent-sft distill`: prompts and a teacher to a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent_sft.cli.sft_options import FILE, parse_setting
from agent_sft.cli.show import TerminalReporter, say

if TYPE_CHECKING:
    from agent_sft.config.distill import DistillConfig
    from agent_sft.distill.distilling import Outcome, Work

PAIRS = ("params", "task_args", "request", "serve")


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("prompts", nargs=-1, metavar="[PROMPTS]... [-- TRAINING OPTIONS]")
@click.option("--config", type=FILE, help="The same options in a YAML file.")
@click.option("--task", help="Instead of PROMPTS: an Inspect task, whose samples the teacher works through with tools.")
@click.option("--teacher", help="http://HOST:PORT/v1#NAME, a run, or a model's folder or hub name, which is served.")
@click.option("--key-variable", help="Environment variable with the teacher's key.  [default: AGENT_SFT_API_KEY]")
@click.option("--to", help="Where the conversations go: NAME@VERSION or FILE.jsonl.")
@click.option("--out", type=FILE, help="Folder of the work.  [default: distilled/NAME]")
@click.option("--reuse", type=FILE, multiple=True, help="Take over answers of another distillation; may be repeated.")
@click.option("-n", "--samples", type=int, help="Answers to each prompt, at most.  [default: 1]")
@click.option("--keep", type=click.Choice(["first", "best", "all"]), help="Of those accepted.  [default: first]")
@click.option("--verifier", help="Judges answers to prompts that bring no verifier along.  [default: answered]")
@click.option("--param", "params", multiple=True, metavar="KEY=VALUE", help="A parameter of the verifier.")
@click.option("--min-reward", type=float, help="The score from which an answer is accepted.  [default: 1]")
@click.option("--reasoning/--no-reasoning", default=None, help="Keep what the teacher thought.  [default: keep]")
@click.option("--concurrency", type=int, help="Prompts at the same time.  [default: 16]")
@click.option("--temperature", type=float, help="Of the teacher.  [default: 0.7]")
@click.option("--max-tokens", type=int, help="Tokens of one answer.  [default: 2048]")
@click.option("--request", multiple=True, metavar="KEY=VALUE", help="A further field of every request; null removes.")
@click.option("--seed", type=int, help="Each sample gets a seed of its own from it.  [default: 42]")
@click.option("--max-tokens-total", type=int, help="Ceiling on tokens, requests and answers together.")
@click.option("--budget", type=float, help="Ceiling on money; needs the prices.")
@click.option("--price-in", type=float, help="Of a million tokens of requests.")
@click.option("--price-out", type=float, help="Of a million tokens of answers.")
@click.option("--limit", type=int, help="Only the first prompts.")
@click.option("--format", help="What the prompts' rows are, such as openai.  [default: recognised from them]")
@click.option("--allow-rejects", is_flag=True, default=None, help="Go on when some rows cannot be asked.")
@click.option("--allow-missing", is_flag=True, default=None, help="Write the dataset though prompts got no answer.")
@click.option("--task-arg", "task_args", multiple=True, metavar="KEY=VALUE", help="An argument of the Inspect task.")
@click.option("--scorer", help="Which scorer of the Inspect task counts.  [default: its first]")
@click.option("--user-model", help="Who plays the customer of the Inspect task, as in eval run.")
@click.option("--max-messages", type=int, help="Messages of an Inspect sample.  [default: 200]")
@click.option("--token-limit", type=int, help="Tokens of an Inspect sample.  [default: 1000000]")
@click.option("--time-limit", type=int, help="Seconds of a prompt, pauses included.  [default: 7200]")
@click.option("--request-timeout", type=int, help="Seconds of a request that gets no answer.  [default: 300]")
@click.option("--max-retries", type=int, help="Of a request that the server failed.  [default: 8]")
@click.option("--serve", multiple=True, metavar="KEY=VALUE", help="An option of agent-sft serve, for the teacher.")
@click.option("--then", type=click.Choice(["train"]), help="Then run agent-sft sft on it; its options follow after --.")
@click.option("--dry-run", is_flag=True, help="Say what would be asked and what it can cost; ask nothing.")
@click.pass_context
def command(context: click.Context, /, config: Path | None, then: str | None, dry_run: bool, **options: Any) -> None:
    """Ask a teacher for answers to PROMPTS, keep the good ones as a dataset to train on.

    PROMPTS are files of prompts, conversations or tasks. Every answer is on the disk before it counts: the same command
    run again goes on where it was stopped, and pays for nothing twice. Prompts that came to nothing are listed with
    the reason. Keys are read from the environment and from .env.
    """
    from agent_sft.config.distill import read_distill_config
    from agent_sft.distill.distilling import check, check_complete, distill
    from agent_sft.runs.processes import Interrupted, catch_signals

    asked, training = _parted(options.pop("prompts"), then)
    given = {name: value for name, value in options.items() if value not in (None, ())}
    given |= {name: dict(parse_setting(text) for text in given[name]) for name in PAIRS if name in given}
    given |= {"prompts": asked} if asked else {}
    distillation = read_distill_config(config, given)
    if then is not None:
        _check_training(distillation, training)
    reporter = TerminalReporter("distilling", "sample")
    with catch_signals() as stop:
        work = check(distillation, reporter, stop)
        if dry_run:
            for line in _foreseen(work):
                click.echo(line)
            return
        try:
            outcome = distill(work, reporter, stop)
        except Interrupted as stopped:
            say(f"stopped; the same command goes on: {work.folder}")
            context.exit(stopped.exit_code)
    for line in outcome_lines(outcome, distillation):
        click.echo(line)
    check_complete(outcome)
    if then is not None:
        from agent_sft.cli.sft import command as sft

        sft.main([distillation.to, *training], prog_name="agent-sft sft", standalone_mode=False)


def outcome_lines(outcome: Outcome, config: DistillConfig) -> list[str]:
    """Return what to show when a distillation ended."""
    from agent_sft.distill.distilling import FAILURES
    from agent_sft.report.numbers import counted

    record = outcome.record
    if not outcome.ran:
        return [f"finished already: {record.to} ({counted(record.conversations, 'conversation')}), {outcome.folder}"]
    asked = record.prompts + record.rejected + record.open
    figures = {
        "conversations": f"{record.conversations:,}, from {record.prompts:,} of {counted(asked, 'prompt')}",
        "judged": counted(record.samples, "sample"),
        "rejected": counted(record.rejected, "prompt") if record.rejected else None,
        "no answer": counted(record.unanswered, "prompt") if record.unanswered else None,
        "not asked": counted(record.not_asked, "prompt") if record.not_asked else None,
        "unusable": counted(record.unusable, "row") if record.unusable else None,
        "repeated": counted(record.repeated, "row") if record.repeated else None,
        "tokens": f"{record.input_tokens:,} in, {record.output_tokens:,} out",
        "cost": f"{record.cost:,.4g}" if record.cost is not None else None,
        "failures": str(outcome.folder / FAILURES)
        if record.rejected + record.open + record.unusable + record.repeated
        else None,
    }
    lines = [f"distilled: {record.to if outcome.written else outcome.folder}"]
    lines += [f"  {name:<14}{value}" for name, value in figures.items() if value is not None]
    if outcome.written:
        lines += ["", "Train on it:", f"  bash run_sft.sh {config.to}"]
    return lines


def _parted(words: tuple[str, ...], then: str | None) -> tuple[tuple[str, ...], list[str]]:
    """Return the prompts, and the options of the training that follows."""
    from agent_sft.errors import UserError

    training = next((number for number, word in enumerate(words) if word.startswith("-")), len(words))
    if training < len(words) and then is None:
        raise UserError(f"'{words[training]}' is an option of a training", fix="give --then train too")
    return words[:training], list(words[training:])


def _check_training(config: DistillConfig, training: Sequence[str]) -> None:
    """Find what is wrong with the options of the training before anything is spent."""
    from agent_sft.cli.sft import command as sft
    from agent_sft.cli.sft_options import given_options
    from agent_sft.config.sft import SFTConfig

    with sft.make_context("agent-sft sft", [config.to, *training]) as context:
        SFTConfig.from_options(given_options(context))


def _foreseen(work: Work) -> list[str]:
    """Return what a distillation would ask, and what that can cost at most."""
    from agent_sft.report.numbers import counted

    config, count = work.config, len(work.sampler.tasks)
    requests = count * config.samples
    lines = [f"would ask {config.teacher}", f"  prompts       {count:,}"]
    if work.prompts is not None:
        lines += [
            f"  {name:<14}{counted(len(rows), 'row')}"
            for name, rows in (("unusable", work.prompts.unusable), ("repeated", work.prompts.repeated))
            if rows
        ]
        written = requests * config.max_tokens
        lines.append(f"  requests      at most {requests:,}, {written:,} tokens of answers")
        if config.price_out is not None:
            lines.append(f"  cost          at most {written * config.price_out / 1e6:,.4g} for answers")
    else:
        lines.append(f"  conversations at most {requests:,}")
    for name, ceiling in (("--max-tokens-total", config.max_tokens_total), ("--budget", config.budget)):
        if ceiling is not None:
            lines.append(f"  ceiling       {name} {ceiling:,}")
    return [*lines, f"  work in       {work.folder}", f"  goes to       {config.to}"]
