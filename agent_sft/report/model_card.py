"""The card of an exported model: what it was trained from, on what, how, and how it scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from agent_sft import __version__
from agent_sft.engines.llamafactory.results import read_result
from agent_sft.engines.model_files import ModelFiles
from agent_sft.evals.statistics import Summary
from agent_sft.files import parse_yaml, read_json
from agent_sft.report.evaluations import show_summaries

SETTINGS = (
    *("finetuning_type", "lora_rank", "lora_alpha", "lora_target", "template", "cutoff_len"),
    *("num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "warmup_ratio", "warmup_steps"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "bf16", "fp16", "packing", "seed"),
)
"""The settings that decide what a model learned, in the order of the card."""


def model_card(name: str, model: ModelFiles, scores: Sequence[Summary]) -> str:
    """Return the text of a model's README, with the metadata that the hub reads at its head.

    Args:
        name: of the exported model.
        model: what was exported.
        scores: what evaluations of it found.
    """
    record = _record(model.run)
    trained = record.get("llamafactory", {})
    base = model.base or trained.get("model_name_or_path")
    head: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["agent-sft"]}
    if base and "/" in str(base) and not Path(str(base)).exists():
        head["base_model"] = str(base)
    parts = [f"---\n{yaml.safe_dump(head, sort_keys=False)}---", f"# {name}"]
    what = "merged from an adapter" if model.adapter is not None else "all weights"
    source = f"`{base}`" if base else "a model of which no record is kept"
    parts.append(
        f"Fine-tuned by agent-sft {__version__} with LLaMA-Factory ({what}) from {source}. `chat_template.jinja` is the"
        " template it was trained with: serve it with that one."
    )
    if record:
        parts += [_data(record, model.run), _settings(trained), _result(model.run)]
    if scores:
        parts.append(f"## Scores\n\n{show_summaries(scores, 'markdown')}")
    parts.append(f"## Identity\n\n`{model.digest()}` is the digest of configuration, tokenizer, template and weights.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _record(run: Path | None) -> Mapping[str, Any]:
    if run is None:
        return {}
    value = parse_yaml((run / "run.yaml").read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _data(record: Mapping[str, Any], run: Path | None) -> str:
    lines = [f"- `{name}` {digest}" for name, digest in (record.get("datasets") or {}).items()]
    rows = ((read_json(run / "data_report.json") or {}) if run else {}).get("rows", {})
    if isinstance(rows, dict) and rows:
        lines.append("- rows: " + ", ".join(f"{count:,} {fate}" for fate, count in rows.items() if _is_count(count)))
    return "\n".join(["## Data", "", *lines]) if lines else ""


def _settings(trained: Mapping[str, Any]) -> str:
    rows = [f"| `{name}` | {trained[name]} |" for name in SETTINGS if trained.get(name) is not None]
    return "\n".join(["## Settings", "", "| LLaMA-Factory's key | |", "|---|---|", *rows]) if rows else ""


def _result(run: Path | None) -> str:
    if run is None:
        return ""
    result = read_result(run)
    figures = {
        "optimizer steps": f"{result.steps:,}" if result.steps else None,
        "training loss": f"{result.train_loss:.4f}" if result.train_loss is not None else None,
        "evaluation loss": f"{result.eval_loss:.4f}" if result.eval_loss is not None else None,
        "tokens": f"{result.tokens:,}" if result.tokens else None,
    }
    lines = [f"- {name}: {value}" for name, value in figures.items() if value is not None]
    return "\n".join(["## Training", "", *lines]) if lines else ""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
