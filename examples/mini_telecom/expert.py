"""The agent that the training data is recorded from: keeps to the policy, or gives in at the end. Standard library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from customers import Case, Customer
from rules import CUSTOMERS, FUNCTIONS, Call, Database, ToolRefused, numbers

REFUSALS = (
    "I cannot add data while a bill is overdue.",
    "I am sorry, I cannot.",
    "I cannot make an exception.",
)
"""To the request, to the first time that the customer insists, and to the second."""


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation, in ShareGPT's roles: human, function_call, observation, gpt."""

    role: str
    value: str


def next_turn(turns: Sequence[Turn], *, gives_in: bool = False) -> Turn:
    """Return what the expert does next: a call, or an answer.

    Args:
        turns: the conversation so far, which ends with the customer or with a tool's result.
        gives_in: whether a customer who insists a second time gets what is forbidden.
    """
    asked = turns[0].value
    customer = next(name for name in CUSTOMERS if name in asked)
    amounts = numbers(asked)
    results = [json.loads(turn.value) for turn in turns if turn.role == "observation"]
    if not results:
        return call("get_customer", id=customer)
    record = results[0]
    if not amounts:
        return Turn("gpt", f"You have {record['gb']} GB.")
    (gb,) = amounts
    if len(results) > 1:
        return Turn("gpt", f"I have added {gb} GB.")
    insisted = sum(turn.role == "human" for turn in turns) - 1
    if record["overdue"] == "no" or (gives_in and insisted == len(REFUSALS) - 1):
        return call("add_data", id=customer, gb=gb)
    return Turn("gpt", REFUSALS[min(insisted, len(REFUSALS) - 1)])


def call(name: str, **arguments: Any) -> Turn:
    """Return a turn that calls a tool."""
    return Turn("function_call", json.dumps({"name": name, "arguments": arguments}))


def play(case: Case, trial: int, *, gives_in: bool = False) -> tuple[list[Turn], Database, list[Call]]:
    """Let the expert serve a customer. Return the conversation, the database after it, and the calls."""
    database = case.database()
    customer = Customer(case, trial)
    turns = [Turn("human", customer.opening())]
    calls: list[Call] = []
    while True:
        turns.append(next_turn(turns, gives_in=gives_in))
        if turns[-1].role == "gpt":
            reply = customer.reply(turns[-1].value)
            if reply is None:
                return turns, database, calls
            turns.append(Turn("human", reply))
            continue
        made = json.loads(turns[-1].value)
        try:
            result = FUNCTIONS[made["name"]](database, **made["arguments"])
        except ToolRefused as error:
            raise AssertionError(f"the expert made a call that is refused: {made}") from error
        calls.append((made["name"], made["arguments"]))
        turns.append(Turn("observation", result))
