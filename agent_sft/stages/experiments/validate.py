"""Looks at all of an experiment that can be looked at before anything is spent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from agent_sft.config.benchmark import BenchmarkConfig
from agent_sft.data.pipeline import load_pipeline
from agent_sft.data.preparing import NothingUsable
from agent_sft.data.processing import process_data
from agent_sft.engines.llamafactory.encoding import encoding_settings
from agent_sft.engines.llamafactory.parity import check_parity, sample_rows
from agent_sft.errors import UserError, WorkFailed
from agent_sft.evals.tasks import read_tasks
from agent_sft.stages.checking import look_ahead
from agent_sft.stages.doctor import case_of, diagnose
from agent_sft.stages.doctor_case import Finding, failed
from agent_sft.stages.experiments.resolve import PIPELINE, Resolved, template_of
from agent_sft.stages.in_loop.plan import check_benchmarks, plan_loop
from agent_sft.stages.inputs import names
from agent_sft.stages.looking import looked_at
from agent_sft.stages.outside import open_outside
from agent_sft.stages.parity import SAMPLE_BYTES, SAMPLE_ROWS
from agent_sft.stages.plan import TrainingPlan, build_plan

FIRST = 1000
"""Rows of a file that are looked at."""


def look_deep(found: Resolved) -> Iterator[Finding]:
    """Yield what there is to say of an experiment's settings, data, template, benchmarks and memory.

    No GPU is used, nothing is fetched and nothing is left behind.
    """
    with tempfile.TemporaryDirectory(prefix="agent-sft-") as temporary, _offline():
        scratch = Path(temporary)
        found.write_inputs(scratch)
        try:
            options = found.sft(scratch, template=template_of(found))
            plan = build_plan(options.model_copy(update={"dry_run": True}))
        except UserError as error:
            yield failed("settings", error)
            return
        yield Finding("ok", "settings", f"LLaMA-Factory takes them; template '{options.template}'")
        yield from _data(found, plan, scratch)
        for benchmark in found.config.all_benchmarks:
            yield _benchmark(benchmark)
        if (loop := plan_loop(plan)) is not None and loop.benchmarks:
            place = "by the model that trains" if loop.where == "in_process" else "on a server beside the training"
            yield Finding("ok", "scoring", f"{place}: {loop.why}")
        yield from (one for one in diagnose(case_of(plan, quick=True)) if one.name != "data")


def _data(found: Resolved, plan: TrainingPlan, scratch: Path) -> Iterator[Finding]:
    try:
        source, whole = _first_rows(plan, scratch)
        ready = source
        if found.config.run.data.transforms:
            pipeline = load_pipeline(scratch / PIPELINE)
            report = process_data(source, pipeline, output=scratch / "processed" / "data.jsonl", opener=open_outside)
            counts = {fate: report.rows.get(fate, 0) for fate in ("read", "kept", "left out", "rejected")}
            said = ", ".join(f"{count:,} {fate}" for fate, count in counts.items() if count or fate in ("read", "kept"))
            said = f"{said} of the first {FIRST:,} rows" if not whole else said
            first = next((f"row {origin.row}: {reason}" for origin, reason in report.first_rejects), None)
            yield Finding("warn" if report.rejected else "ok", "data", f"transforms: {said}", first)
            ready = [str(report.output)]
        yield from _tokens(plan, ready)
    except NothingUsable as error:
        yield Finding("fail", "data", str(error))
    except UserError as error:
        yield failed("data", error)
    except WorkFailed as error:
        why = str(error).splitlines()[0]
        yield Finding("warn", "tokens", f"not counted: {why}", "once the model's tokenizer is here, they are")


def _tokens(plan: TrainingPlan, source: list[str]) -> Iterator[Finding]:
    config, settings = plan.config, encoding_settings(plan.arguments)
    with looked_at(source, model=config.model, template=config.template, settings=settings) as look:
        outlook = look_ahead(look, config.cutoff_len, config.on_overflow, config.supervise)
        said = f"{outlook.promised:,} examples, {outlook.tokens:,} tokens, {outlook.loss_tokens:,} of them with loss"
        unusable = look.report.rows_rejected + len(outlook.failures) + outlook.lost
        said += f"; {unusable:,} rows cannot be trained on" if unusable else ""
        yield Finding("warn" if unusable else "ok", "tokens", said)
        longer = f"{outlook.longer:,} examples are longer than max_seq_len {config.cutoff_len:,}"
        what = {"trim": "their last turns go", "split": "windows are made of them", "drop": "they go"}
        fate = what.get(config.on_overflow, "the run stops")
        yield Finding("warn" if outlook.longer else "ok", "overflow", f"{longer}: {fate}" if outlook.longer else longer)
        assert look.python is not None
        rows = sample_rows(look.report.data_path, SAMPLE_ROWS, config.seed, SAMPLE_BYTES)
        rows = [(look.origins.rows[number - 1], row) for number, row in rows]
        parity = check_parity(look.python, look.settings, rows)
        lines = list(parity.lines())
        yield Finding("ok" if parity.equal else "fail", "parity", lines[0] if parity.equal else "\n".join(lines))


def _benchmark(benchmark: BenchmarkConfig) -> Finding:
    name = f"benchmark {benchmark.name}"
    try:
        check_benchmarks((benchmark,))
    except UserError as error:
        return failed(name, error)
    except WorkFailed as error:
        return Finding("fail", name, str(error))
    when = f"after every {benchmark.run_every} steps" if benchmark.run_every else "once, after training"
    if benchmark.evaluator != "tasks":
        return Finding("ok", name, f"{benchmark.evaluator} {benchmark.path}, {when}")
    count = len(read_tasks(Path(benchmark.path))[: benchmark.limit])
    return Finding("ok", name, f"{count:,} tasks, {when}; {benchmark.score_key}")


def _first_rows(plan: TrainingPlan, scratch: Path) -> tuple[list[str], bool]:
    """Return what to read, and whether that is all there is: of large files of lines only the first rows."""
    found = names(plan.inputs)
    if len(found) != 1 or Path(found[0]).suffix != ".jsonl":
        return found, True
    with Path(found[0]).open("rb") as lines:
        head = list(islice(lines, FIRST + 1))
    if len(head) <= FIRST:
        return found, True
    (scratch / "first.jsonl").write_bytes(b"".join(head[:FIRST]))
    return [str(scratch / "first.jsonl")], False


@contextmanager
def _offline() -> Iterator[None]:
    """Let nothing be fetched in this block."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
