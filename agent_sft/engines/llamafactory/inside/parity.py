"""Compares the tokens that a training gets with those that a server renders for the same conversations.

Standard input: {"settings": LLaMA-Factory's, "rows": [[row number, prepared row], ...], "chat_template": a Jinja
text in place of the tokenizer's, or null}. Result: what `check` returns. The training's tokens come from
LLaMA-Factory's own template; the server's from the tokenizer's chat template, as LLaMA-Factory saves it with the
trained model, which is given what an OpenAI request would carry.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from llamafactory.data.template import get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments, ModelArguments
from llamafactory.model import load_tokenizer

WINDOW = 1500  # characters of text around a difference
NEAR = 12  # tokens before and after a difference that are listed
REPORTED = 50  # differences given with their surroundings

ROLES = {"human": "user", "gpt": "assistant", "function_call": "function", "observation": "observation"}
BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
REASONING = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
RESULT = re.compile(r"\s*<tool_response>\n?(.*?)\n?</tool_response>\s*", re.DOTALL)
RESULT_JOINT = "\n</tool_response>\n<tool_response>\n"
TOOL_BLOCK = re.compile(r"\n*# Tools\n.*?<tools>\n(.*?)\n</tools>.*\Z", re.DOTALL)
COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
FUNCTION_KEYS = ("name", "description", "parameters")


class Request:
    """A conversation as an OpenAI request carries it: calls structured, each result a message of its own."""

    def __init__(self, row: Mapping[str, Any], chat_template: str) -> None:
        self._hermes = "<tool_call>" in chat_template  # the server finds calls in text of this form
        self._reasoning = "reasoning_content" in chat_template  # and takes reasoning apart
        self._calls = 0
        self._open: list[str] = []  # calls that no result has answered
        self.messages: list[dict[str, Any]] = []
        self.ends: list[int] = []
        """For each turn of the row, how many messages there are after it."""
        system, self.tools = tools_of(row)
        if system:
            self.messages.append({"role": "system", "content": system})
        # Rows without results of their own let the user say them.
        self._told = all(turn["from"] != "observation" for turn in row["conversations"])
        for turn in row["conversations"]:
            self._add(turn["from"], turn["value"])
            self.ends.append(len(self.messages))

    def _add(self, role: str, text: str) -> None:
        if role in ("gpt", "function_call"):
            self.messages.append(self._assistant(text, bare=role == "function_call"))
        elif role == "observation" or (self._open and self._told):
            results = RESULT.findall(text) if RESULT.match(text) else text.split(RESULT_JOINT)
            for result in results:
                call = self._open.pop(0) if self._open else f"call{self._calls:05d}"
                self.messages.append({"role": "tool", "tool_call_id": call, "content": result})
            self._open = []
        else:
            self._open = []
            self.messages.append({"role": "user", "content": text})

    def _assistant(self, text: str, bare: bool) -> dict[str, Any]:
        reasoning = REASONING.match(text)
        start = reasoning.end() if reasoning else 0
        block = BLOCK.search(text, start)
        first = block.start() if block else (start if bare else len(text))
        calls = self._parse(text[first:]) if bare or (block and self._hermes) else None
        apart = reasoning is not None and self._reasoning
        content = text[start if apart else 0 : first if calls else len(text)]
        # The line break before a call belongs to the call.
        message: dict[str, Any] = {"role": "assistant", "content": content.removesuffix("\n") if calls else content}
        if reasoning is not None and apart:
            message["reasoning_content"] = reasoning[1].strip("\n")
        if calls:
            message["tool_calls"] = calls
            self._open = [call["id"] for call in calls]
        return message

    def _parse(self, text: str) -> list[dict[str, Any]]:
        """Return the calls that a text consists of; none where it holds anything else."""
        bodies = BLOCK.findall(text)
        if bodies and BLOCK.sub("", text).strip():
            return []
        calls = []
        for body in bodies or [text]:
            try:
                value = json.loads(body)
            except ValueError:
                return []
            for call in value if isinstance(value, list) else [value]:
                if not isinstance(call, dict) or not isinstance(call.get("arguments"), dict) or "name" not in call:
                    return []
                self._calls += 1
                function = {"name": call["name"], "arguments": call["arguments"]}
                calls.append({"id": f"call{self._calls:05d}", "type": "function", "function": function})
        return calls


def tools_of(row: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]] | None]:
    """Return the system text without a rendered list of tools, and the tools: those declared, else that list's."""
    system = row.get("system") or ""
    tools = json.loads(row.get("tools") or "[]")
    block = TOOL_BLOCK.search(system)
    if block:
        try:
            rendered = [json.loads(line) for line in block[1].splitlines() if line.strip()]
        except ValueError:
            rendered = []
        if rendered and all(isinstance(tool, dict) for tool in rendered):
            system, tools = system[: block.start()], tools or rendered
    return system, [_as_sent(tool) for tool in tools] or None


def _as_sent(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool with its keys in the order in which a server's schema of requests holds them."""
    function = tool["function"] if tool.get("type") == "function" and "function" in tool else tool
    known = {key: function[key] for key in FUNCTION_KEYS if key in function}
    return {"type": "function", "function": {**known, **function}}


class Server:
    """Renders messages and turns them into tokens as a server does."""

    def __init__(self, tokenizer: Any, settings: Mapping[str, Any], chat_template: str | None) -> None:
        self._tokenizer = tokenizer
        self._template = chat_template
        thinking = settings.get("enable_thinking", True)
        self._switches = {} if thinking is None else {"enable_thinking": thinking}
        # Text after a special token is cut into tokens regardless of what stands before it.
        special = [] if settings.get("split_special_tokens") else tokenizer.added_tokens_decoder.values()
        marks = [token.content for token in special if token.special and not token.lstrip]
        self._mark = re.compile("|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True)) or r"(?!)")
        self._known: tuple[str, list[int]] = ("", [])

    def tokens(self, request: Request, messages: int, prompt: bool) -> list[int]:
        """Return the tokens of the first messages, as a prompt or with the last one answered."""
        text: str = self._tokenizer.apply_chat_template(
            request.messages[:messages],
            tools=request.tools,
            chat_template=self._template,
            add_generation_prompt=prompt,
            tokenize=False,
            **self._switches,
        )
        known, ids = self._known if text.startswith(self._known[0]) else ("", [])
        last = max((match.start() for match in self._mark.finditer(text, len(known))), default=len(known))
        ids = ids + self.encode(text[len(known) : last])
        self._known = (text[:last], ids)
        return ids + self.encode(text[last:])

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, which holds its special tokens already."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def check(
    settings: Mapping[str, Any], rows: Sequence[tuple[int, Mapping[str, Any]]], chat_template: str | None = None
) -> dict[str, Any]:
    """Compare every assistant turn of the rows.

    Args:
        settings: LLaMA-Factory's; what does not concern tokens is left alone.
        rows: prepared rows with their numbers.
        chat_template: in place of the tokenizer's.

    Returns:
        `rows` and `turns` that were compared, `different` rows, `toolless` rows that call tools which they do not
        declare, and `differences`: of each such row the first one.
    """
    model_args, data_args = (_filled(kind, settings) for kind in (ModelArguments, DataArguments))
    tokenizer = load_tokenizer(model_args)["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    return compare(tokenizer, template, settings, rows, chat_template)


def compare(
    tokenizer: Any,
    template: Any,
    settings: Mapping[str, Any],
    rows: Sequence[tuple[int, Mapping[str, Any]]],
    chat_template: str | None = None,
) -> dict[str, Any]:
    """Compare with a tokenizer and a LLaMA-Factory template that are loaded already (see `check`)."""
    text = chat_template or tokenizer.chat_template
    server = Server(tokenizer, settings, chat_template)
    differences: list[dict[str, Any]] = []
    turns = toolless = different = 0
    for number, row in rows:
        request = Request(row, text if isinstance(text, str) else "")
        calls = any("tool_calls" in message for message in request.messages)
        toolless += calls and request.tools is None
        found, compared = _first_difference(tokenizer, template, server, settings, row, request)
        turns += compared
        if found is not None:
            different += 1
            if len(differences) < REPORTED:
                differences.append({"row": number, **found})
    return {
        "rows": len(rows),
        "turns": turns,
        "different": different,
        "toolless": toolless,
        "default_system": template.default_system,
        "renders_tools": isinstance(text, str) and "tools" in COMMENT.sub("", text),
        "differences": differences,
    }


def _filled(kind: Any, settings: Mapping[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(kind) if field.init}
    return kind(**{key: value for key, value in settings.items() if key in known})


def _first_difference(
    tokenizer: Any, template: Any, server: Server, settings: Mapping[str, Any], row: Mapping[str, Any], request: Request
) -> tuple[dict[str, Any] | None, int]:
    """Return where a row's tokens differ first, None if nowhere, and how many turns were compared."""
    messages = [{"role": ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
    last_only = bool(settings.get("mask_history"))
    discard = last_only and not getattr(template, "preserve_thinking", False)
    pairs = template.encode_multiturn(tokenizer, messages, row.get("system"), row.get("tools"), discard)
    starts: list[int] = []
    trained: list[int] = []
    for turn, (source, target) in enumerate(pairs):
        starts += [len(trained), len(trained) + len(source)]
        for part, ids, index in (("prompt", source, 2 * turn), ("answer", target, 2 * turn + 1)):
            trained = trained + ids
            if part == "answer" and template.efficient_eos and turn == len(pairs) - 1:
                trained.append(tokenizer.eos_token_id)
            if last_only and turn < len(pairs) - 1:
                continue
            try:
                served = server.tokens(request, request.ends[index], prompt=part == "prompt")
            except Exception as error:  # a chat template refuses in words of its own
                return {"turn": 2 * turn + 2, "part": part, "error": f"{type(error).__name__}: {error}"}, turn + 1
            if trained != served:
                found = _described(tokenizer, trained, served)
                at = max(turn for turn, start in enumerate(starts) if start <= found["position"])
                role = row["conversations"][at]["from"]
                message = request.messages[request.ends[at] - 1]
                facts = {
                    "inside": role,
                    "inside_turn": at + 1,
                    "result": message["role"] == "tool",
                    "system": bool(row.get("system")),
                    "tools": bool(request.tools),
                }
                return {"turn": 2 * turn + 2, "part": part, **found, **facts}, turn + 1
    return None, len(pairs)


def _described(tokenizer: Any, trained: list[int], served: list[int]) -> dict[str, Any]:
    """Return where two sequences of tokens part, and what stands around that place on both sides."""
    common = min(len(trained), len(served))
    position = next((index for index in range(common) if trained[index] != served[index]), common)
    sides = {}
    for name, ids in (("trained", trained), ("served", served)):
        sides[name] = {
            "text": tokenizer.decode(ids[position:])[:WINDOW],
            "tokens": [tokenizer.decode([token]) for token in ids[position : position + NEAR]],
            "length": len(ids),
            "tool_lists": tokenizer.decode(ids).count("<tools>\n"),
        }
    before = {
        "text": tokenizer.decode(trained[:position])[-WINDOW:],
        "tokens": [tokenizer.decode([token]) for token in trained[max(0, position - NEAR) : position]],
    }
    whole = tokenizer.decode(trained) == tokenizer.decode(served)
    return {"position": position, "before": before, "same_text": whole, **sides}


def main() -> None:
    """Answer one question."""
    question = json.load(sys.stdin)
    print(json.dumps(check(**question)), file=sys.__stdout__)


if __name__ == "__main__":
    main()
