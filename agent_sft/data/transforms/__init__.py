"""Transforms: rows to rows, found by their kind. Their contract and how to write one."""

from agent_sft.data.transforms.contract import Outcome, Row, RowTransform, leave_out, noted, reject
from agent_sft.data.transforms.registry import register_transform

__all__ = ["Outcome", "Row", "RowTransform", "leave_out", "noted", "register_transform", "reject"]
