"""Writes one call of a tool as each of LLaMA-Factory's templates has a model write it.

Standard input: {"templates": [name, ...], "name": tool, "arguments": {...}}. Result: {template: text}.
"""

import json
import sys

from llamafactory.data.template import TEMPLATES


def main() -> None:
    """Print one JSON object."""
    order = json.load(sys.stdin)
    call = json.dumps({"name": order["name"], "arguments": order["arguments"]})
    texts = {}
    for name in order["templates"]:
        slots = TEMPLATES[name].format_function.apply(content=call)
        texts[name] = "".join(slot for slot in slots if isinstance(slot, str))
    print(json.dumps(texts), file=sys.__stdout__)


if __name__ == "__main__":
    main()
