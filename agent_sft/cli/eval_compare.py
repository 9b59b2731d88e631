"""`agent-sft eval compare`: variants on the same tasks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent_sft.cli.eval_options import format_option, give, output_option

if TYPE_CHECKING:
    from agent_sft.report.evaluations import Format


@click.command()
@click.argument("folders", nargs=-1, required=True)
@click.option("--baseline", metavar="FOLDER", help="What the others are compared with.  [default: the first]")
@click.option("--measure", default="pass^1", show_default=True, help="pass^K, pass@K or score.")
@click.option("--family", help="Compare on the tasks of this family alone.")
@click.option("--order", metavar="S1,S2,...", help="The setting of each folder, as numbers: looks for a trend over it.")
@click.option("--common-tasks", is_flag=True, help="Compare on the tasks that all have, where some have others.")
@click.option(
    "--despite-differences", is_flag=True, help="Compare also where customer, benchmark or limits are not the same."
)
@format_option
@output_option
def command(
    folders: tuple[str, ...],
    baseline: str | None,
    measure: str,
    family: str | None,
    order: str | None,
    common_tasks: bool,
    despite_differences: bool,
    shape: Format,
    output: Path | None,
) -> None:
    """Compare the evaluations in FOLDERS, task by task, with the first or with the baseline.

    Shows each difference with its 95 % interval, the p-value of a permutation test within tasks (Holm's correction for
    several variants), how many tasks were gained and lost, and how many it would take to tell such a difference.
    """
    from agent_sft.evals.comparison import compare
    from agent_sft.report.evaluations import show_comparison

    comparison = compare(
        folders,
        baseline=baseline,
        measure=measure,
        order=_settings(order) if order is not None else None,
        family=family,
        common_tasks=common_tasks,
        despite_differences=despite_differences,
    )
    give(show_comparison(comparison, shape), output)


def _settings(text: str) -> list[Fraction]:
    from agent_sft.errors import UserError

    try:
        return [Fraction(part.strip()) for part in text.split(",")]
    except (ValueError, ZeroDivisionError) as error:
        fix = "write numbers with commas between them, such as 0,5,10,20"
        raise UserError(f"'{text}' is no list of numbers", where="--order", fix=fix) from error
