"""One ShareGPT row to one that LLaMA-Factory accepts and tokenises as it was meant, or a reason why not.

Nothing is invented: turns are joined, moved to the system column or left off, and each of that is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from agent_sft.data.calls import Calls, join_calls, parse_calls
from agent_sft.data.checks import CALL_MARK, check_columns, check_order, check_texts, notes_on
from agent_sft.data.dialects import RESULT_JOINT, Dialect
from agent_sft.data.merging import JOINT
from agent_sft.data.reading import describe
from agent_sft.data.tools import tools_text
from agent_sft.data.turns import FUNCTION_CALL, GPT, HUMAN, OBSERVATION, PROMPTS, SYSTEM, Turn, Unusable, parse_turns

MERGED = "merged consecutive turns"
TRIMMED = "trimmed trailing turns that nothing answers"
JOINED_CALLS = "joined consecutive calls into a list"
JOINED_RESULTS = "joined consecutive tool results into one turn"
WORDS_WITH_CALL = "joined the agent's words with the call that follows"
CALL_FORM = "wrote a call in the form that LLaMA-Factory parses"
ARGUMENTS = "unpacked arguments that were given as a text"
TOLD_RESULT = "took what a human turn says after a call for the call's result, as the server will render it"
GREETING = "left off an opening turn of the agent"
SYSTEM_TURN = "moved a leading system turn into the system column"
TOOLS = "wrote the tools column as a JSON text"

CALL_END = "</tool_call>"
RESULT_MARK = "<tool_response>"


@dataclass(frozen=True)
class Example:
    """A conversation as it is trained on."""

    turns: tuple[Turn, ...]
    system: str
    tools: str
    changes: Mapping[str, int]
    """What was done to it, and to how many turns."""
    notes: tuple[str, ...]
    turns_read: int

    def as_row(self) -> dict[str, Any]:
        """Return the row of the training file: every column there, every value but a turn's `supervise` a text."""
        return {
            "conversations": [_written(turn) for turn in self.turns],
            "system": self.system,
            "tools": self.tools,
        }


def normalise(row: Any, dialect: Dialect) -> Example:
    """Return the example that a row holds.

    Raises:
        Unusable: it cannot be trained on; the message says why, naming the turn.
    """
    turns = parse_turns(row)
    check_columns(row)
    changes: Counter[str] = Counter()
    turns_read = len(turns)
    system, turns = _take_system(row.get("system"), turns, changes)
    turns = _join(turns, dialect, changes)
    turns = _leave_off_greeting(turns, changes)
    turns = _trim(turns, changes)
    turns = _take_told_results(turns, dialect, changes)
    check_order(turns)
    check_texts(turns, dialect)
    tools = tools_text(row.get("tools"), dialect)
    changes[TOOLS] = int(bool(tools) and tools != row.get("tools"))
    return Example(tuple(turns), system, tools, +changes, tuple(notes_on(turns)), turns_read)


def _take_system(column: Any, turns: list[Turn], changes: Counter[str]) -> tuple[str, list[Turn]]:
    """Return the system text, from the column and from leading system turns, and the turns after those."""
    if column is not None and not isinstance(column, str):
        raise Unusable(f"'system' is {describe(column)}, not a text")
    count = next((index for index, turn in enumerate(turns) if turn.role != SYSTEM), len(turns))
    leading = JOINT.join(turn.text for turn in turns[:count])
    changes[SYSTEM_TURN] = count
    if not column or not leading or column == leading:
        return column or leading, turns[count:]
    return f"{column}\n\n{leading}", turns[count:]


def _join(turns: list[Turn], dialect: Dialect, changes: Counter[str]) -> list[Turn]:
    """Return the turns with those joined that LLaMA-Factory wants to be one."""
    joined: list[Turn] = []
    calls: Calls | None = None  # what the last joined turn holds, if it is a function_call
    for turn in turns:
        last = joined[-1] if joined else None
        read = parse_calls(turn) if turn.role == FUNCTION_CALL else None
        if last is not None and last.role == turn.role and read is None:
            joined[-1] = _join_texts(last, turn, dialect, changes)
        elif last is not None and calls is not None and read is not None:
            calls = join_calls(calls, read, turn)
            joined[-1] = replace(last, text=calls.render(), supervise=_agreed(last, turn))
            changes[JOINED_CALLS] += 1
        elif last is not None and last.role == GPT and read is not None and not dialect.prose_before_call:
            raise Unusable(f"{turn.label}: the template '{dialect.template}' has no form for words before a call")
        elif last is not None and last.role == GPT and read is not None:
            calls = read.after(last.text)
            joined[-1] = replace(last, role=FUNCTION_CALL, text=calls.render(), supervise=_agreed(last, turn))
            changes[WORDS_WITH_CALL] += 1
        elif read is not None:
            calls = read
            joined.append(replace(turn, text=read.render()))
            changes[CALL_FORM] += read.render() != turn.text and not read.unpacked
        else:
            joined.append(turn)
        if read is None:
            calls = None
        elif read.unpacked:
            changes[ARGUMENTS] += 1
    return joined


def _join_texts(first: Turn, second: Turn, dialect: Dialect, changes: Counter[str]) -> Turn:
    if first.role != OBSERVATION:
        changes[MERGED] += 1
        return replace(first, text=first.text + JOINT + second.text, supervise=_agreed(first, second))
    if not dialect.joins_results:
        raise Unusable(
            f"{second.label}: a second tool result in a row, which the template '{dialect.template}' cannot tell apart"
        )
    changes[JOINED_RESULTS] += 1
    return replace(first, text=first.text + RESULT_JOINT + second.text)


def _agreed(first: Turn, second: Turn) -> bool | None:
    """Return whether the turn that two become carries loss: all of it does or none of it."""
    if first.supervise != second.supervise:
        raise Unusable(f"{second.label}: only one of it and {first.label}, which become one turn, is to carry loss")
    return first.supervise


def _written(turn: Turn) -> dict[str, Any]:
    flag = {} if turn.supervise is None else {"supervise": turn.supervise}
    return {"from": turn.role, "value": turn.text, **flag}


def _leave_off_greeting(turns: list[Turn], changes: Counter[str]) -> list[Turn]:
    """Leave off the agent's words at the start: LLaMA-Factory wants a conversation to begin with a prompt."""
    if turns and turns[0].role == GPT and CALL_MARK not in turns[0].text:
        changes[GREETING] += 1
        return turns[1:]
    return turns


def _take_told_results(turns: list[Turn], dialect: Dialect, changes: Counter[str]) -> list[Turn]:
    """Make results that human turns tell tool results, which the template puts into <tool_response> as servers do.

    Rows that have observation turns use them for results: there a human turn after a call is the user's.
    """
    if not dialect.joins_results or any(turn.role == OBSERVATION for turn in turns):
        return turns
    taken = turns[:1]
    for before, turn in pairwise(turns):
        is_told = turn.role == HUMAN and before.role == GPT and before.text.rstrip().endswith(CALL_END)
        is_told = is_told and not turn.text.lstrip().startswith(RESULT_MARK)
        changes[TOLD_RESULT] += is_told
        taken.append(replace(turn, role=OBSERVATION) if is_told else turn)
    return taken


def _trim(turns: list[Turn], changes: Counter[str]) -> list[Turn]:
    """Leave off prompts at the end, which nothing answers and which carry no loss."""
    end = len(turns)
    while end and turns[end - 1].role in PROMPTS:
        end -= 1
    changes[TRIMMED] = len(turns) - end
    return turns[:end]
