"""Rows that only the train environment can read: parquet files and datasets on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from agent_sft.engines.environments import stream_inside
from agent_sft.errors import UserError

PROGRAM = Path(__file__).parent / "inside" / "read_rows.py"


def outside_rows(python: Path, kind: str, name: str) -> Iterator[Any]:
    """Yield the rows of a parquet file (`parquet`) or a dataset on the hub (`hub`), as they are read.

    Raises:
        UserError: it cannot be read; the message is that of the library.
        WorkFailed: the program ended without saying why.
    """
    finished = False
    for line in stream_inside(python, PROGRAM, kind, name):
        message = orjson.loads(line)
        if "row" in message:
            yield message["row"]
        elif "error" in message:
            fix = (
                None if kind == "parquet" else "name a dataset, dataset:split, or a folder; private ones need HF_TOKEN"
            )
            raise UserError(f"cannot be read: {message['error']}", where=name, fix=fix)
        else:
            finished = True
    if not finished:
        raise UserError("was not read to its end", where=name)
