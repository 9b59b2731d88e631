"""Counts the tokens of every turn without starting LLaMA-Factory: its own templates, and its tokenizer from a record.

Standard input, output and results are those of `encode.py` for "counts"; in addition "record" names the file that
the tokenizer is recorded in, or will be, and "cutoff" the tokens that a row may have. Where LLaMA-Factory may count
otherwise, the result is {"refused": why} and `encode.py` is to be asked.

LLaMA-Factory's module of templates is light, but what is imported along with it for training and for pictures takes
seconds. So it is imported alone.
"""

import functools
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from recording import RecordedTokenizer, Refused, keep, kept, loaded, recorded
from turn_counts import TextCollector, collected, counts, numbered_rows

ROLES = {"human": "user", "gpt": "assistant", "function_call": "function", "observation": "observation"}
PLAIN = "base"
"""What LLaMA-Factory calls the handling of media where there are none."""


@functools.cache
def templates() -> ModuleType:
    """Import LLaMA-Factory's module of templates, with stand-ins for what it only names or does for pictures."""
    found = importlib.util.find_spec("llamafactory")
    if found is None or found.origin is None:
        raise ImportError("there is no LLaMA-Factory")
    root = Path(found.origin).parent
    for name in [name for name in sys.modules if name.partition(".")[0] == "llamafactory"]:
        del sys.modules[name]  # where this was forked from a process that has it
    for name, folder in (("llamafactory", root), ("llamafactory.data", root / "data"), ("llamafactory.extras", root)):
        _module(name, __path__=[str(folder)])
    silent = SimpleNamespace(info_rank0=_nothing, warning_rank0=_nothing, warning_rank0_once=_nothing)
    logging = _module("llamafactory.extras.logging", get_logger=lambda *_: silent)
    sys.modules["llamafactory.extras"].logging = logging  # type: ignore[attr-defined]
    roles = {name: name.lower() for name in ("USER", "ASSISTANT", "SYSTEM", "FUNCTION", "OBSERVATION")}
    _module("llamafactory.data.data_utils", Role=SimpleNamespace(**roles), SLOTS=list)
    _module("llamafactory.data.mm_plugin", get_mm_plugin=lambda name, **_: name)
    return import_module("llamafactory.data.template")


def _module(name: str, **content: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(content)
    sys.modules[name] = made
    return made


def _nothing(*_: Any) -> None:
    pass


def template_of(settings: dict[str, Any], tokenizer: Any) -> Any:
    """Return LLaMA-Factory's template as these settings make it; the tokenizer gets the tokens that it needs."""
    wanted = {
        "template": settings["template"],
        "train_on_prompt": settings.get("train_on_prompt", False),
        "tool_format": settings.get("tool_format"),
        "default_system": settings.get("default_system"),
        "enable_thinking": settings.get("enable_thinking", True),
        "preserve_thinking": settings.get("preserve_thinking", False),
    }
    return templates().get_template_and_fix_tokenizer(tokenizer, SimpleNamespace(**wanted))


def collect(template: Any, row: dict[str, Any], collector: TextCollector) -> dict[str, Any]:
    """Return what `collected` does for a prepared row, or the error of LLaMA-Factory's template."""
    messages = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    try:
        return collected(template, collector, messages, row["system"], row["tools"])
    except Exception as error:
        return {"error": f"LLaMA-Factory fails on it: {error}"}


def rows(settings: dict[str, Any], wanted: set[int] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the prepared rows that are asked for, with their numbers."""
    folder = Path(settings["dataset_dir"])
    declared = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))[settings["dataset"]]
    yield from numbered_rows(folder / declared["file_name"], wanted)


def prepared(order: dict[str, Any]) -> tuple[RecordedTokenizer, Any]:
    """Return the tokenizer, from its record, which is made where there is none, and the template.

    Raises:
        Refused: LLaMA-Factory may count otherwise.
    """
    settings, path = order["settings"], Path(order["record"])
    record = kept(path)
    if record is None:
        tokenizer = loaded(settings)
        template_of(settings, tokenizer)  # changes the tokenizer
        record = recorded(tokenizer)
        keep(path, record)
    found = RecordedTokenizer(record)
    template = template_of(settings, found)
    if template.mm_plugin != PLAIN:
        raise Refused(f"the template takes media as '{template.mm_plugin}' does")
    return found, template


def main() -> None:
    """Count what is asked for."""
    order = json.load(sys.stdin)
    try:
        tokenizer, template = prepared(order)
    except Refused as reason:
        print(json.dumps({"refused": str(reason)}), file=sys.__stdout__)
        return
    began = time.perf_counter()
    written = 0
    wanted = None if order["rows"] is None else set(order["rows"])
    found = counts(
        rows(order["settings"], wanted),
        lambda row, collector: collect(template, row, collector),
        tokenizer,
        tokenizer.encode_all,
    )
    with Path(order["output"]).open("w", encoding="utf-8", errors="replace") as output:
        for line in found:
            output.write(json.dumps(line, separators=(",", ":")) + "\n")
            written += 1
    result = {
        "rows": written,
        "cutoff": order["cutoff"],
        "efficient_eos": bool(template.efficient_eos),
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps(result), file=sys.__stdout__)


if __name__ == "__main__":
    main()
