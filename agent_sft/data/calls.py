"""What a function_call turn holds: words or reasoning, then calls as JSON; read, joined and written again.

LLaMA-Factory parses such a turn when it tokenises, and a form that it does not know ends the training. Here every
form whose meaning is plain is read, and written in one that is parsed there. The JSON of a call stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent_sft.data.dialects import Dialect
from agent_sft.data.turns import Turn, Unusable

BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
REASONING = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)

_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Calls:
    """The parts of a function_call turn."""

    before: str
    """What stands before the calls, ending as it should be written: prose, or the reasoning in its tags."""
    texts: tuple[str, ...]
    """The calls, each a JSON text of an object or of a list of objects."""
    wrapped: bool
    """Whether the calls stand inside <tool_call>, as they must after prose."""
    unpacked: bool = False
    """Whether arguments given as a text were replaced by the object that the text holds."""

    def after(self, prose: str) -> Calls:
        """Return the same calls with the agent's words before them."""
        if not prose.strip():
            return self
        return replace(self, before=_spaced(f"{prose}\n{self.before}"), wrapped=True)

    def render(self) -> str:
        """Return the turn's content."""
        calls = self.texts[0] if len(self.texts) == 1 else f"[{', '.join(_inner(text) for text in self.texts)}]"
        return f"{self.before}<tool_call>\n{calls}\n</tool_call>" if self.wrapped else self.before + calls


def parse_calls(turn: Turn) -> Calls:
    """Read a function_call turn.

    Raises:
        Unusable: it is not calls in a known form, or words would have to change their place.
    """
    if "<tool_call>" in turn.text and (blocks := list(BLOCK.finditer(turn.text))):
        return _parse_blocks(turn, blocks)
    reasoning = REASONING.match(turn.text)
    before = _think(reasoning[1]) if reasoning else ""
    start = reasoning.end() if reasoning else 0
    texts, unpacked = _parse_sequence(turn, turn.text[start:])
    return Calls(before, texts, wrapped=False, unpacked=unpacked)


def join_calls(first: Calls, second: Calls, turn: Turn) -> Calls:
    """Return the calls of two consecutive turns as those of one; `turn` is the second.

    Raises:
        Unusable: the second one has words of its own, which would end up before the first call.
    """
    if second.before.strip():
        raise Unusable(f"{turn.label}: words or reasoning between two calls in a row, with no result between them")
    return Calls(first.before, first.texts + second.texts, first.wrapped, first.unpacked or second.unpacked)


def check_calls(content: str, dialect: Dialect) -> str | None:
    """Return why LLaMA-Factory could not tokenise a function_call turn as meant, or None.

    Follows `FunctionFormatter.apply` of LLaMA-Factory 0.9.5 for the words of the template.
    """
    block = BLOCK.search(content) if dialect.prose_before_call else None
    if block is not None:
        if "<tool_call>" in content.replace(block[0], "", 1):
            return "text inside the call looks like another <tool_call>"
        body = block[1]
    else:
        think = r"<think>.*?</think>" if dialect.tight_think else r"<think>\n.*?\n</think>\n\n"
        found = re.search(think, content, re.DOTALL) if dialect.think_before_call else None
        if found is not None and found.start() > 0:
            return "<think> inside the call would be moved before it"
        body = content.replace(found[0], "") if found else content
    try:
        calls = json.loads(body)
    except (ValueError, RecursionError):
        allowed = "nothing but JSON" if not dialect.prose_before_call else "this form of it"
        return f"the template '{dialect.template}' takes {allowed} in a function_call turn"
    if isinstance(calls, list) and len(calls) > 1 and not dialect.parallel_calls:
        return f"the template '{dialect.template}' has no form for several calls at once"
    return None


def _parse_blocks(turn: Turn, blocks: Sequence[re.Match[str]]) -> Calls:
    texts: list[str] = []
    unpacked = False
    end = blocks[0].end()
    for block in blocks:
        if block is not blocks[0] and turn.text[end : block.start()].strip():
            raise Unusable(f"{turn.label}: words between two calls, which would be moved before the first one")
        found, changed = _parse_sequence(turn, block[1])
        texts += found
        unpacked = unpacked or changed
        end = block.end()
    if turn.text[end:].strip():
        raise Unusable(f"{turn.label}: words after the call, which would be moved before it")
    before = _spaced(turn.text[: blocks[0].start()])
    return Calls(before, tuple(texts), wrapped=True, unpacked=unpacked)


def _spaced(words: str) -> str:
    """Return words before a call with the line breaks around leading reasoning that templates know."""
    reasoning = REASONING.match(words)
    return words if reasoning is None else _think(reasoning[1]) + words[reasoning.end() :]


def _think(reasoning: str) -> str:
    stripped = reasoning.strip("\n")
    return f"<think>\n{stripped}\n</think>\n\n"


def _parse_sequence(turn: Turn, text: str) -> tuple[tuple[str, ...], bool]:
    """Return the JSON values that follow one another in `text`, checked, and whether one was changed."""
    texts: list[str] = []
    changed = False
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        try:
            value, end = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise Unusable(f"{turn.label}: not a call as JSON, near {_excerpt(text[position:])}") from error
        given = value if isinstance(value, list) else [value]
        calls = [_checked(turn, call) for call in given]
        if not calls:
            raise Unusable(f"{turn.label}: an empty list of calls")
        if calls == given:
            texts.append(text[position:end])
        else:
            texts.append(json.dumps(calls if isinstance(value, list) else calls[0], ensure_ascii=False))
            changed = True
        position = end
    if not texts:
        raise Unusable(f"{turn.label}: no call in it")
    return tuple(texts), changed


def _checked(turn: Turn, call: Any) -> dict[str, Any]:
    """Return a call whose arguments are an object: the one that the text holds where they were given as a text."""
    if not isinstance(call, dict):
        raise Unusable(f"{turn.label}: a call must be an object with a name and arguments, not {_excerpt(str(call))}")
    name = call.get("name")
    if not isinstance(name, str) or not name:
        raise Unusable(f"{turn.label}: a call without a name: {_excerpt(json.dumps(call))}")
    if "arguments" not in call:
        raise Unusable(f"{turn.label}: the call of '{name}' has no arguments")
    arguments = call["arguments"]
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError, RecursionError):  # refused below, as it was given
            arguments = json.loads(arguments) if arguments.strip() else {}
    if not isinstance(arguments, dict):
        raise Unusable(f"{turn.label}: the arguments of '{name}' are no object: {_excerpt(json.dumps(arguments))}")
    if not is_encodable(arguments):
        raise Unusable(f"{turn.label}: the arguments of '{name}' hold half a character (a lone \\ud800 to \\udfff)")
    return {**call, "arguments": arguments}


def is_encodable(value: Any) -> bool:
    """Tell whether a parsed JSON value can be written as UTF-8: an escaped half of a pair cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _inner(text: str) -> str:
    """Return a call, or the calls of a list without its brackets."""
    return text.strip()[1:-1].strip() if text.lstrip().startswith("[") else text


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
