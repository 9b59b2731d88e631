"""Rows are held out for the evaluation, whole groups at a time, so that no task is in both sets."""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, Field

from agent_sft.data.transforms.chat import json_text
from agent_sft.data.transforms.contract import Row, RowTransform
from agent_sft.data.transforms.fields import MISSING, look_up
from agent_sft.data.transforms.registry import register_transform
from agent_sft.data.turns import Unusable

SPLIT = "split"
"""The key under which a row says which set it belongs to."""


class Config(BaseModel, extra="forbid"):
    """How the rows are parted."""

    by: str
    """The place that names a row's group, such as `metadata.task_id`: its rows stay together."""
    eval: float = Field(0.1, gt=0, lt=1)
    """The share of the groups that is held out, on the average."""
    seed: int = 0


@register_transform("split")
class Split(RowTransform):
    """Marks each row as `train` or `eval` by a digest of its group: the same in every file and on every run."""

    name = "split"
    row_by_row = True
    Config = Config

    def __init__(self, **params: object) -> None:
        self.config = Config.model_validate(params)

    def change(self, row: Row) -> Row:
        """Return the row with its set."""
        group = look_up(row, self.config.by)
        if group is MISSING or group is None:
            raise Unusable(f"has no {self.config.by}, so that its group is not known")
        return {**row, SPLIT: side(group, self.config.eval, self.config.seed)}


def side(group: object, share: float, seed: int = 0) -> Literal["train", "eval"]:
    """Return the set of a group: `eval` for a share of all groups, chosen by a digest of the seed and the group."""
    return "eval" if drawn(group, seed) < share else "train"


def drawn(group: object, seed: int) -> float:
    """Return a number from 0 to 1 that is a group's own, by a digest of the seed and the group."""
    text = json_text([seed, group]).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") / 2**64
