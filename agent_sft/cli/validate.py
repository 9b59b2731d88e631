"""`agent-sft validate`: an experiment file, checked."""

from __future__ import annotations

from pathlib import Path

import click

from agent_sft.cli.sft_options import FILE


@click.command()
@click.argument("file", type=FILE)
@click.option(
    "--deep", is_flag=True, help="Also look at the data, the template, the tokens, the benchmarks and the memory."
)
@click.pass_context
def command(context: click.Context, file: Path, deep: bool) -> None:
    """Check every kind and parameter of the experiment in FILE, touching nothing.

    With --deep also load the data, run the transforms on the first rows, compare the prompts trained on with those
    that will be served, read the benchmarks and estimate the memory: without a GPU, without network. Exits 1 where
    something would fail.
    """
    from agent_sft.cli.doctor import findings_table
    from agent_sft.stages.doctor_case import Finding
    from agent_sft.stages.experiments.resolve import resolve

    found = resolve(file)
    config = found.config
    scored = ", ".join(f"{one.name} ({one.score_key})" for one in config.all_benchmarks)
    findings = [
        Finding("ok", "experiment", f"{config.name}: {config.run.algorithm.kind} of {config.run.model.name}"),
        Finding("ok", "transforms", ", ".join(one.kind for one in config.run.data.transforms) or "chosen by the data"),
        Finding("ok", "callbacks", ", ".join(one.kind for one in found.callbacks)),
        Finding("ok", "benchmarks", scored or "none"),
        *(Finding("warn", "benchmarks", note) for note in found.notes()),
    ]
    if deep:
        from agent_sft.stages.experiments.validate import look_deep

        findings += look_deep(found)
    click.echo(findings_table(findings), nl=False)
    if any(finding.level == "fail" for finding in findings):
        context.exit(1)
