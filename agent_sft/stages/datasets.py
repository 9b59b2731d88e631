"""The datasets by name that a run reads: resolved once, so that `@latest` means one version for the whole run."""

from __future__ import annotations

from agent_sft.config.sft import SFTConfig
from agent_sft.data.store import is_reference, resolve


def resolve_datasets(config: SFTConfig) -> tuple[SFTConfig, dict[str, str]]:
    """Return the options with files in place of NAME@VERSION, and each version with its digest, for the record.

    Raises:
        UserError: there is no such dataset or version.
    """
    found: dict[str, str] = {}
    files = {}
    for field in ("input", "eval_dataset"):
        given = getattr(config, field)
        if given is not None and is_reference(str(given)):
            resolved = resolve(str(given))
            files[field] = resolved.path
            found[resolved.card.reference] = resolved.card.digest
    return (config.model_copy(update=files), found) if files else (config, {})
