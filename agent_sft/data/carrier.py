"""A canonical conversation to the ShareGPT rows that LLaMA-Factory trains on as the server will render it.

Two carriers: where a template's calls are Hermes text, the agent's turn holds that text to the byte and results are
observation turns; elsewhere calls are `function_call` turns, whose JSON LLaMA-Factory writes in the template's own
form. What no row can hold in one piece is split between two turns, or refused; nothing is invented.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from agent_sft.data.calls import Calls
from agent_sft.data.conversation import Conversation, Turn
from agent_sft.data.dialects import Dialect
from agent_sft.data.hermes import write_answer, write_calls, write_reasoning
from agent_sft.data.sharegpt import TOOLS, Example, normalise
from agent_sft.data.turns import ANSWERS, FUNCTION_CALL, GPT, HUMAN, OBSERVATION, Unusable

SPLIT = "split a conversation where a call has no result"
LEFT_OFF = "left off answers after a call without a result, up to the next turn of the user"
FOLDED = "folded a system turn in the middle into the user's turn after it"
WRAPPED = "joined a tool result with the user's turn after it"

Said = tuple[str, str]
"""A role and a text, by LLaMA-Factory's names."""


def carry(conversation: Conversation, dialect: Dialect) -> tuple[Example, ...]:
    """Return what is trained on of a conversation: one example, or several where it has to be split.

    Raises:
        Unusable: it cannot be trained on; the message says why, naming the turn.
    """
    _check_results(conversation.turns)
    parts = _parts(conversation.turns)
    tools = [{"type": "function", "function": dict(tool)} for tool in conversation.tools]
    examples: list[Example] = []
    for number, (start, end) in enumerate(parts):
        changes: Counter[str] = Counter()
        begin = start if number == 0 else _next_user(conversation.turns, start, end)
        if number:
            changes[LEFT_OFF] = begin - start
        if number and begin == end:
            examples[-1] = _with(examples[-1], changes, end - start)
            continue
        said = _write(conversation.turns[begin:end], dialect, changes)
        flags = iter([turn.supervise for turn in conversation.turns[begin:end] if turn.role == "assistant"])
        turns = [
            {"from": role, "value": text, **({} if flag is None else {"supervise": flag})}
            for role, text, flag in ((role, text, next(flags) if role in ANSWERS else None) for role, text in said)
        ]
        example = normalise({"conversations": turns, "system": conversation.system, "tools": tools}, dialect)
        changes[SPLIT] = int(number > 0)
        examples.append(_with(replace(example, turns_read=0), changes, end - start))
    return tuple(examples)


def _with(example: Example, changes: Counter[str], turns_read: int) -> Example:
    """Return an example with more done to it, and more turns read for it."""
    together = +(Counter(example.changes) + changes)
    del together[TOOLS]  # a JSON text is never given here
    return replace(example, changes=together, turns_read=example.turns_read + turns_read)


def _check_results(turns: Sequence[Turn]) -> None:
    """Refuse results that answer no call, and calls of which only some are answered."""
    calls = results = 0
    known = False
    for number, turn in enumerate(turns, start=1):
        if turn.role == "tool":
            results += 1
            if results > calls:
                which = "with no call before it" if not calls else "more than there are calls"
                raise Unusable(f"turn {number} (tool): a tool result {which}")
            continue
        # Without ids, one text can be the results of all calls.
        if results and results < calls and (known or results > 1):
            raise Unusable(f"turn {number - results - 1} (assistant): {calls} calls, but {results} results")
        calls, results = len(turn.calls), 0
        known = any(call.id is not None for call in turn.calls)


def _parts(turns: Sequence[Turn]) -> list[tuple[int, int]]:
    """Return where the conversation has to be cut: behind a call that no result follows."""
    cuts = [0]
    for index, turn in enumerate(turns[:-1], start=1):
        if turn.calls and turns[index].role != "tool":
            cuts.append(index)
    return [(start, end) for start, end in zip(cuts, [*cuts[1:], len(turns)], strict=True)]


def _next_user(turns: Sequence[Turn], start: int, end: int) -> int:
    return next((index for index in range(start, end) if turns[index].role in ("user", "system")), end)


def _write(turns: Sequence[Turn], dialect: Dialect, changes: Counter[str]) -> list[Said]:
    said: list[Said] = []
    folded: list[str] = []
    last_prompt = next((index for index in range(len(turns), 0, -1) if turns[index - 1].role == "assistant"), 0)
    for number, turn in enumerate(turns, start=1):
        if turn.role == "system" and number < last_prompt:
            folded.append(turn.text or "")
        elif turn.role == "system":
            said.append((HUMAN, turn.text or ""))  # nothing answers it: it is trimmed
        elif folded and turn.role != "user":
            raise Unusable(f"turn {number} ({turn.role}): after a system turn, which no user's turn can take up")
        elif turn.role == "user":
            text = "".join(f"<system>\n{words}\n</system>\n" for words in folded) + (turn.text or "")
            changes[FOLDED] += len(folded)
            folded = []
            _add_user(said, text, number, dialect, changes, answered=number < last_prompt)
        elif turn.role == "tool":
            said.append((OBSERVATION, turn.text or ""))
        else:
            said.append(_answer(turn, dialect))
    return said


def _add_user(
    said: list[Said], text: str, number: int, dialect: Dialect, changes: Counter[str], *, answered: bool
) -> None:
    """Add a user's turn; right after results, both become one turn as the template wraps them."""
    results = []
    while answered and said and said[-1][0] == OBSERVATION:
        results.append(said.pop()[1])
    if results and not dialect.joins_results:
        raise Unusable(
            f"turn {number} (user): right after a tool result, which the template '{dialect.template}' cannot show"
        )
    changes[WRAPPED] += len(results)
    wrapped = "".join(f"<tool_response>\n{result}\n</tool_response>\n" for result in reversed(results))
    said.append((HUMAN, wrapped + text))


def _answer(turn: Turn, dialect: Dialect) -> Said:
    if not turn.calls or dialect.hermes_text:
        return GPT, write_answer(turn)
    before = write_reasoning(turn) + (f"{turn.text}\n" if turn.text else "")
    return FUNCTION_CALL, Calls(before, tuple(write_calls(turn.calls)), wrapped=bool(turn.text)).render()
