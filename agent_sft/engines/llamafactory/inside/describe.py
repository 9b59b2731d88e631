"""Prints what this LLaMA-Factory knows: its arguments, its chat templates, its table of models."""

import dataclasses
import json
import re
import sys

from llamafactory.data.template import TEMPLATES
from llamafactory.extras.constants import DEFAULT_TEMPLATE, SUPPORTED_MODELS
from llamafactory.hparams import RayArguments
from llamafactory.hparams.parser import _TRAIN_ARGS

MARKER = re.compile(r"<[|｜/]?[A-Za-z_][^<>\s]*>|\[/?[A-Z_]+\]")


def kind_of(annotation: object) -> str:
    """Return the simple type that an argument takes, or `any`."""
    names = set(re.findall(r"bool|int|float|str|list|dict|Literal|None", str(annotation)))
    names -= {"None"}
    return names.pop() if len(names) == 1 and not names & {"Literal"} else "any"


def markers(template: object) -> list[str]:
    """Return the control tokens that a template writes around every user and assistant turn."""
    found = set()
    for name in ("format_user", "format_assistant"):
        for slot in getattr(template, name).slots:
            if isinstance(slot, str):
                found.update(MARKER.findall(slot.replace("{{content}}", "")))
            elif isinstance(slot, dict):
                found.update(value for value in slot.values() if isinstance(value, str))
    return sorted(found)


def main() -> None:
    """Print one JSON object."""
    arguments = {
        field.name: kind_of(field.type)
        for group in (*_TRAIN_ARGS, RayArguments)
        for field in dataclasses.fields(group)
        if field.init
    }
    templates = {
        name: {
            "markers": markers(template),
            "tool_format": str(template.format_tools.tool_format),
            "thinking": type(template).__name__ == "ReasoningTemplate",
        }
        for name, template in TEMPLATES.items()
    }
    models = {
        path: {"name": name, "template": DEFAULT_TEMPLATE.get(name)}
        for name, paths in SUPPORTED_MODELS.items()
        for path in paths.values()
    }
    print(json.dumps({"arguments": arguments, "templates": templates, "models": models}), file=sys.__stdout__)


if __name__ == "__main__":
    main()
