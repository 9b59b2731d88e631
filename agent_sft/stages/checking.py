"""What a training would make of data: how many examples of how many tokens, and which rows are too long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent_sft.data.cutoffs import CutoffTable, neighbours
from agent_sft.data.fitting import Counts, Fitting
from agent_sft.data.overflow import Policy, beginnings, most_tokens
from agent_sft.data.supervision import Supervise, is_flagged
from agent_sft.engines.llamafactory.encoding import counted_turns
from agent_sft.stages.looking import NAME, Look


@dataclass
class Outlook:
    """What a training makes of prepared data."""

    table: CutoffTable | None = None
    """What this cutoff and others leave; None where no tokens were counted."""
    promised: int = 0
    """Examples that LLaMA-Factory will train on."""
    tokens: int = 0
    """Tokens of one pass over them."""
    loss_tokens: int = 0
    """Those of them that carry loss."""
    longer: int = 0
    """Rows that are longer than the cutoff; where no tokens were counted, those that may be."""
    changes: list[tuple[str, str]] = field(default_factory=list)
    """Rows that are not trained on as they are, and what is done to them."""
    lost: int = 0
    """Rows of which nothing is trained on."""
    failures: list[tuple[str, str]] = field(default_factory=list)
    """Rows that LLaMA-Factory cannot tokenise, and why."""


def look_ahead(look: Look, cutoff: int, on_overflow: Policy, supervise: Supervise) -> Outlook:
    """Tell what a training would make of prepared data.

    Args:
        look: the data; with a model, all tokens are counted.
        cutoff: tokens that an example may have.
        on_overflow: what becomes of longer ones.
        supervise: the turns that carry loss.

    Raises:
        WorkFailed: the model's tokenizer cannot be used.
    """
    masked = supervise != "all_assistant" or any(is_flagged(row["conversations"]) for row in look.rows())
    if look.python is None:
        return _without_tokens(look, Fitting(cutoff, on_overflow, supervise, masked))
    outlook = Outlook()
    with counted_turns(look.python, look.folder, NAME, look.settings) as (facts, counted):
        fitting = Fitting(facts.cutoff, on_overflow, supervise, masked)
        outlook.table = CutoffTable.of(on_overflow, neighbours(facts.cutoff, lower=True))
        for number, (row, found) in enumerate(zip(look.rows(), counted, strict=True), start=1):
            if found.error is not None:
                outlook.failures.append((look.origins.label(number), found.error))
                continue
            counts = Counts(found.pairs, found.head, found.extra, found.ends, found.prompts)
            starts = beginnings(row["conversations"])
            outlook.table.add(counts, starts)
            outlook.longer += found.total > facts.cutoff
            _enter(outlook, look.origins.label(number), fitting, row, counts)
    return outlook


def _without_tokens(look: Look, fitting: Fitting) -> Outlook:
    outlook = Outlook()
    for number, row in enumerate(look.rows(), start=1):
        outlook.longer += most_tokens(row) > fitting.cutoff
        _enter(outlook, look.origins.label(number), fitting, row, None)
    return outlook


def _enter(outlook: Outlook, label: str, fitting: Fitting, row: dict[str, object], counts: Counts | None) -> None:
    made = fitting.apply(row, counts)
    outlook.promised += len(made.rows)
    outlook.tokens += made.tokens_trained or 0
    outlook.loss_tokens += made.loss_tokens or 0
    outlook.lost += not made.rows
    if made.fate is not None:
        kept = f"{made.turns_kept} of {made.turns} turns kept"
        outlook.changes.append((label, f"{made.fate}: {kept}" + (f", {made.tokens:,} tokens" if made.tokens else "")))


def lengths(look: Look) -> Iterator[tuple[int, int]]:
    """Yield the tokens of each example and those with loss, before any truncation; look must have a model."""
    assert look.python is not None
    with counted_turns(look.python, look.folder, NAME, look.settings) as (_, counted):
        yield from ((found.total, found.loss_tokens) for found in counted)
