"""Prints what this LLaMA-Factory knows: its arguments, its chat templates, its table of models."""

import dataclasses
import json
import re
import sys

from llamafactory.data.template import TEMPLATES
from llamafactory.extras.constants import DEFAULT_TEMPLATE, SUPPORTED_MODELS
from llamafactory.hparams import RayArguments
from llamafactory.hparams.parser import _TRAIN_ARGS
from transformers import HfArgumentParser

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
    # What the parser of a command line would hold them to; one of YAML files takes any name, and fails later on.
    choices = {
        action.dest: [str(getattr(choice, "value", choice)) for choice in action.choices]
        for action in HfArgumentParser(_TRAIN_ARGS)._actions
        if action.choices is not None
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
    known = {"arguments": arguments, "choices": choices, "templates": templates, "models": models}
    print(json.dumps(known), file=sys.__stdout__)


if __name__ == "__main__":
    main()
