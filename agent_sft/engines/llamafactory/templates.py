"""Does this chat template belong to this model?"""

from __future__ import annotations

from pathlib import Path

from agent_sft.engines.llamafactory.facts import Facts
from agent_sft.errors import UserError, nearest
from agent_sft.files import parse_yaml, read_json


def check_template(template: str, model: str, facts: Facts) -> None:
    """Refuse a template, one that LLaMA-Factory has, that does not fit the model.

    LLaMA-Factory's own table decides for the models in it, by hub name or by the name of the folder. For
    other folders the tokenizer does: a template whose control tokens it does not have cannot be right.

    Raises:
        UserError: naming the template that fits, as far as it is known.
    """
    expected = expected_template(model, facts)
    if expected is not None and template not in _variants(expected):
        raise UserError(
            f"'{template}' is not the template of {model}, which is '{expected}'",
            where="--template",
            fix=f"use --template {expected}, or --force-template to insist",
        )
    if expected is None and (tokens := tokenizer_tokens(Path(model))):
        missing = [marker for marker in facts.templates[template]["markers"] if marker not in tokens]
        if missing:
            config = read_json(Path(model) / "config.json")
            kind = str(config.get("model_type")) if isinstance(config, dict) else ""
            fitting = [name for name, facts_of in facts.templates.items() if _fits(facts_of["markers"], tokens)]
            fitting.sort(key=lambda name: not kind.startswith(name))  # 'qwen' of a 'qwen2' before all others
            raise UserError(
                f"the tokenizer of {model} does not have {', '.join(missing)}, which the template '{template}' writes",
                where="--template",
                fix=f"templates whose tokens it has: {', '.join(fitting[:8]) or 'none'}; --force-template insists",
            )


def check_template_name(template: str, facts: Facts) -> None:
    """Refuse a template that LLaMA-Factory does not have.

    Raises:
        UserError: with the nearest one that it has.
    """
    if template not in facts.templates:
        raise UserError(
            f"LLaMA-Factory has no template '{template}'",
            where="--template",
            fix=nearest(template, facts.templates) or "see LLaMA-Factory's list of templates",
        )


def expected_template(model: str, facts: Facts) -> str | None:
    """Return the template that belongs to a model, or None if nothing tells."""
    if (entry := facts.models.get(model)) is not None:
        return entry["template"]
    if (recorded := _trained_template(Path(model))) is not None:
        return recorded
    name = Path(model).name.lower()
    for path, entry in facts.models.items():
        if name in (path.rpartition("/")[2].lower(), str(entry["name"]).lower()):
            return entry["template"]
    return None


def tokenizer_tokens(folder: Path) -> frozenset[str]:
    """Return the tokens of a local model's fast tokenizer; empty where there is none."""
    tokenizer = read_json(folder / "tokenizer.json")
    if not isinstance(tokenizer, dict):
        return frozenset()
    added = {entry["content"] for entry in tokenizer.get("added_tokens", ())}
    vocabulary = tokenizer.get("model", {}).get("vocab", ())
    return frozenset(added) | frozenset(
        vocabulary if isinstance(vocabulary, dict) else (piece for piece, _ in vocabulary)
    )


def _variants(template: str) -> tuple[str, ...]:
    """The same model trained with and without its thinking form."""
    base = template.removesuffix("_nothink")
    return (base, f"{base}_nothink")


def _fits(markers: list[str], tokens: frozenset[str]) -> bool:
    return bool(markers) and all(marker in tokens for marker in markers)


def _trained_template(folder: Path) -> str | None:
    """Return the template that a run of ours trained the model in `folder` with."""
    record = folder / "run.yaml"
    if not record.is_file():
        return None
    value = parse_yaml(record.read_text(encoding="utf-8"))
    template = value.get("llamafactory", {}).get("template") if isinstance(value, dict) else None
    return str(template) if template else None
