"""Options that cannot be meant are refused, naming the flag."""

from __future__ import annotations

from typing import Any

import pytest

from agent_sft.config.sft import SFTConfig
from agent_sft.errors import UserError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs: "),
        ({"lr": -1}, "--lr: "),
        ({"batch_size": 0}, "--batch-size: "),
        ({"nnodes": 2}, "--nnodes 2 needs --master-port"),
        ({"node_rank": 1}, "--node-rank 1 does not exist with --nnodes 1"),
        ({"eval_dataset": "a", "val_size": 0.1}, "give one of them"),
        ({"val_size": 1.5}, "neither a share below 1 nor a whole number"),
        ({"master_port": 70000}, "--master-port: "),
        ({"report_to": ("excel",)}, "--report-to: "),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        SFTConfig.from_options({"input": "data.json", **options})
    assert message in str(refused.value)


def test_several_machines_with_a_port() -> None:
    assert SFTConfig.from_options({"input": "x", "nnodes": 2, "node_rank": 1, "master_port": 2950}).node_rank == 1


def test_every_field_is_documented() -> None:
    import ast
    import inspect

    body = ast.parse(inspect.getsource(SFTConfig)).body[0]
    assert isinstance(body, ast.ClassDef)
    fields = [statement for statement in body.body if isinstance(statement, ast.AnnAssign)]
    documented = [
        first
        for first, second in zip(body.body, body.body[1:], strict=False)
        if isinstance(first, ast.AnnAssign) and isinstance(second, ast.Expr) and isinstance(second.value, ast.Constant)
    ]
    assert {ast.unparse(field.target) for field in fields} == {ast.unparse(field.target) for field in documented}
