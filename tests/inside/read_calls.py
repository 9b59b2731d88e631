"""Reads calls of tools from texts by vLLM's parsers.

Standard input: {"tokenizer": folder, "tools": [tool, ...], "texts": {parser: text}}. Result: {parser: [[name,
arguments], ...]}.
"""

import json
import re
import sys

from transformers import AutoTokenizer
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.tool_parsers import ToolParserManager


def main() -> None:
    """Print one JSON object."""
    order = json.load(sys.stdin)
    tokenizer = AutoTokenizer.from_pretrained(order["tokenizer"])
    marks = {mark for text in order["texts"].values() for mark in re.findall(r"<[^<>\s=\"]+>|\[[A-Z_]+\]", text)}
    tokenizer.add_tokens(sorted({*marks, "<|python_tag|>"}))
    request = ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "x"}], tools=order["tools"])
    found = {}
    for name, text in order["texts"].items():
        parser = ToolParserManager.get_tool_parser(name)(tokenizer, request.tools)
        calls = parser.extract_tool_calls(text, request).tool_calls
        found[name] = [[call.function.name, json.loads(call.function.arguments)] for call in calls]
    print(json.dumps(found), file=sys.__stdout__)


if __name__ == "__main__":
    main()
