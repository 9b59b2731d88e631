"""Turns at the end that no assistant answers go: nothing can be learned from them."""

from __future__ import annotations

from agent_sft.data.transforms.chat import messages_of, with_messages
from agent_sft.data.transforms.contract import Row, RowTransform
from agent_sft.data.transforms.registry import register_transform
from agent_sft.data.turns import Unusable


@register_transform("trim_trailing")
class TrimTrailing(RowTransform):
    """Cuts a conversation after the last turn of the assistant."""

    name = "trim_trailing"
    row_by_row = True

    def change(self, row: Row) -> Row:
        """Return the row up to the assistant's last turn."""
        return trim_trailing(row)


def trim_trailing(row: Row) -> Row:
    """Return the row up to the assistant's last turn.

    Raises:
        Unusable: the assistant says nothing in it.
    """
    messages = messages_of(row)
    end = len(messages)
    while end and messages[end - 1]["role"] != "assistant":
        end -= 1
    if not end:
        raise Unusable("the assistant says nothing in it: nothing to train on")
    return with_messages(row, messages[:end])
