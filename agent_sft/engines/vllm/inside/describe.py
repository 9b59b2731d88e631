"""Prints what this vLLM knows: the arguments of its server and its parsers of tool calls.

Result: {"arguments": {name with underscores: "flag" | "value" | "list"}, "tool_parsers": [name, ...]}. A "flag"
takes no value and is negated by `--no-NAME`; a "list" takes several values.
"""

import argparse
import json
import sys

from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser

SEVERAL = ("+", "*")


def kind_of(action: argparse.Action) -> str:
    """Return how the argument is written on a command line."""
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return "flag"
    return "list" if action.nargs in SEVERAL else "value"


def main() -> None:
    """Print one JSON object."""
    parser = make_arg_parser(FlexibleArgumentParser())
    arguments = {
        action.dest: kind_of(action)
        for action in parser._actions
        if action.dest != "help" and any(option.startswith("--") for option in action.option_strings)
    }
    found = {"arguments": arguments, "tool_parsers": sorted(ToolParserManager.list_registered())}
    print(json.dumps(found), file=sys.__stdout__)


if __name__ == "__main__":
    main()
