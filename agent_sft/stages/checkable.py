"""Kinds of answers that a program can check: numbers, JSON, labels, tool calls; found in data, and corrupted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from agent_sft.evals.verifiers.contract import Answer, Call
from agent_sft.evals.verifiers.texts import counted_part, numbers, parse_json

MARKS = {
    "####": r"####\s*(.+)",
    "\\boxed{}": r"\\boxed\{([^{}]*)\}",
    "<answer>": r"<answer>\s*([^<]*?)\s*</answer>",
    "the answer is": r"[Tt]he (?:final )?answer is:?\s*([^\n]*)",
}
"""What an answer's last line is marked by, and how it is found."""

MAX_LABELS = 50
"""Labels without a mark are few, short and come again and again."""
MAX_LABEL_WORDS = 6
MAX_UNIT = 12
"""Characters that may stand around a number that is the whole answer: a unit, a full stop."""
TOLERANCE = Decimal("1e-6")
"""Of numbers, unless some of them are as small as that."""

Corrupted = Iterator[tuple[str, Answer]]


@dataclass(frozen=True)
class Kind:
    """A way to check answers."""

    title: str
    """What is checked, as people are told."""
    reference: Callable[[Answer], Any]
    """Returns what is expected, from a right answer; None where it cannot be checked so."""
    corrupt: Callable[[Answer, Any], Corrupted]
    """Yields wrong answers made of a right one, each with what was done."""
    verifier: str
    """The built-in verifier that checks it."""
    params: dict[str, Any]
    """The verifier's parameters, beside what is expected."""
    family: Callable[[Any], str | None] = lambda expected: None
    """Returns the group of tasks, from what is expected."""
    of_calls: bool = False
    """Whether it looks at the last turn that calls a tool instead of the last turn."""


def kinds(answers: Sequence[Answer]) -> list[Kind]:
    """Return the kinds that the answers at the end of conversations can be of, the most particular first."""
    found = [_calls("tool calls at the end"), _json()]
    found += [_number(f"numbers marked by {mark}", answers, pattern) for mark, pattern in MARKS.items()]
    found += [_label(f"labels marked by {mark}", answers, pattern) for mark, pattern in MARKS.items()]
    found += [_number("numbers", answers, None), _label("labels", answers, None)]
    found.append(_calls("tool calls", of_calls=True))
    return found


def _calls(title: str, *, of_calls: bool = False) -> Kind:
    def reference(answer: Answer) -> Any:
        readable = all(isinstance(call.arguments, dict) for call in answer.calls)
        return msgspec.to_builtins(list(answer.calls)) if answer.calls and readable else None

    def corrupt(answer: Answer, expected: Any) -> Corrupted:
        first, *others = answer.calls

        def instead(*calls: Call) -> Answer:
            return Answer(text=answer.text, calls=calls)

        yield "another tool", instead(Call(f"{first.name}_2", first.arguments), *others)
        if first.arguments:
            key = next(iter(first.arguments))
            changed = {**first.arguments, key: _other(first.arguments[key])}
            yield "a changed argument", instead(Call(first.name, changed), *others)
            less = {name: value for name, value in first.arguments.items() if name != key}
            yield "a missing argument", instead(Call(first.name, less), *others)
        yield "one call more", instead(first, first, *others)
        yield "one call less", instead(*others)

    return Kind(title, reference, corrupt, "tool_call", {}, lambda expected: str(expected[0]["name"]), of_calls)


def _json() -> Kind:
    def reference(answer: Answer) -> Any:
        try:
            value = parse_json(answer.text)
        except ValueError:
            return None
        return value if isinstance(value, dict | list) and value and not answer.calls else None

    def corrupt(answer: Answer, expected: Any) -> Corrupted:
        def instead(value: Any) -> Answer:
            return Answer(text=msgspec.json.encode(value).decode())

        yield "another value", instead(_other(expected))
        if isinstance(expected, dict):
            yield "a missing key", instead(dict(list(expected.items())[1:]))
            yield "one key more", instead({**expected, "".join(expected) + "_2": 1})
        else:
            yield "one element less", instead(expected[1:])
        yield "cut off", Answer(text=answer.text[: len(answer.text) // 2])
        yield "no answer", Answer(text="")

    return Kind("JSON", reference, corrupt, "json_equal", {})


def _number(title: str, answers: Sequence[Answer], pattern: str | None) -> Kind:
    def reference(answer: Answer) -> Any:
        part = counted_part(answer.text, pattern)
        found = numbers(part) if part is not None and not answer.calls else []
        if part is None or len(found) != 1:
            return None
        if pattern is None and len(part.strip()) > len(str(found[0])) + MAX_UNIT:
            return None
        return _plain(found[0])

    def corrupt(answer: Answer, expected: Any) -> Corrupted:
        value = Decimal(str(expected))
        yield "one more", _with(answer, pattern, f"{value + 1:f}")
        yield "ten times as much", _with(answer, pattern, f"{value * 10 if value else 10:f}")
        yield "another sign", _with(answer, pattern, f"{-value if value else -1:f}")
        yield "words instead", _with(answer, pattern, "I do not know")
        yield "no answer", Answer(text="")

    found = [abs(Decimal(str(value))) for value in map(reference, answers) if value not in (None, 0)]
    tolerance = min([TOLERANCE, *(value / 1000 for value in found)])
    params = {**({} if pattern is None else {"pattern": pattern}), "tolerance": float(tolerance)}
    return Kind(title, reference, corrupt, "numeric", params)


def _label(title: str, answers: Sequence[Answer], pattern: str | None) -> Kind:
    said = [part.strip() for answer in answers if (part := counted_part(answer.text, pattern)) and not answer.calls]
    counted = Counter(label for label in said if label and len(label.split()) <= MAX_LABEL_WORDS)
    few = 2 <= len(counted) <= MAX_LABELS and len(counted) * 2 <= counted.total()
    # A mark says that what follows is the answer; without one, only what comes again is a label.
    known = sorted(counted) if few or pattern is not None else []

    def reference(answer: Answer) -> Any:
        part = counted_part(answer.text, pattern)
        return part.strip() if part is not None and part.strip() in counted and known and not answer.calls else None

    def corrupt(answer: Answer, expected: Any) -> Corrupted:
        place = known.index(expected)
        if len(known) > 1:
            yield "another label", _with(answer, pattern, known[place - 1])
        yield "more words", _with(answer, pattern, f"not {expected}")
        yield "no answer", Answer(text="")

    params = {} if pattern is None else {"pattern": pattern}
    return Kind(title, reference, corrupt, "exact", params, lambda expected: str(expected) if few else None)


def _with(answer: Answer, pattern: str | None, text: str) -> Answer:
    """Return an answer in which the part that counts is another."""
    if pattern is None:
        return Answer(text=text)
    *_, last = re.finditer(pattern, answer.text)
    return Answer(text=answer.text[: last.start(1)] + text + answer.text[last.end(1) :])


def _plain(number: Decimal) -> int | float | str:
    """Return a number as JSON holds it; as text where it would lose digits."""
    if number == number.to_integral_value() and abs(number) < 2**53:
        return int(number)
    return float(number) if Decimal(repr(float(number))) == number else str(number)


def _other(value: Any) -> Any:
    """Return a value of the same kind that is another one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + max(1, abs(value))  # also where adding 1 is lost in the digits
    if isinstance(value, dict) and value:
        key = next(iter(value))
        return {**value, key: _other(value[key])}
    if isinstance(value, list) and value:
        return [_other(value[0]), *value[1:]]
    return f"{value}_2" if isinstance(value, str) else "other"
