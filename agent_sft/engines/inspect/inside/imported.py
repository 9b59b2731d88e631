"""What evaluations share when they are forked: Inspect, the tasks that are installed, and what it imports later."""

import importlib
from collections.abc import Mapping
from contextlib import suppress

ENGINE = ("inspect_ai", "inspect_ai._eval.loader", "inspect_ai.model._openai")
LATER = (
    "inspect_ai.agent._acp.server",
    "inspect_ai.model._providers.openai_compatible",
    "openai.resources.chat.completions.completions",
    "pygments.lexers.special",
    "rich.markdown",
)
"""Most of what an evaluation imports when it begins."""


def import_engine() -> None:
    """Import what is shared."""
    for name in ENGINE:
        importlib.import_module(name)
    for name in LATER:
        with suppress(ImportError):  # another Inspect, which has it elsewhere
            importlib.import_module(name)
    # Each evaluation looks for hooks in all that extends Inspect, which imports every task that is installed.
    importlib.import_module("inspect_ai._util.entrypoints").ensure_entry_points()


def begin(_: Mapping[str, str]) -> None:
    """Nothing of Inspect's depends on how many threads there are."""
