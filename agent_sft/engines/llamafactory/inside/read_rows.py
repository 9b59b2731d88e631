"""Reads rows with `datasets` and pyarrow, which LLaMA-Factory brings. Runs inside the train environment.

    read_rows.py parquet FILE            the rows of a parquet file
    read_rows.py hub NAME[:SPLIT]        the rows of a dataset on the hub, or of a folder that `datasets` loads

Writes one JSON text a line to standard output; the last line is {"end": number of rows} or {"error": text}, each row
{"row": ...}. Rows are read batch by batch and never all held.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BATCH = 256


def plain(value: Any) -> Any:
    """Return what JSON has no form for as text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def parquet_rows(path: str) -> Iterator[Any]:
    """Yield the rows of a parquet file."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(batch_size=BATCH):
            yield from batch.to_pylist()


def hub_rows(name: str) -> Iterator[Any]:
    """Yield the rows of a dataset, without downloading all of it first."""
    from datasets import load_dataset

    # A path can hold a colon; what follows the last one is a split only if it looks like one.
    place, colon, split = name.rpartition(":")
    if not colon or not split.replace("_", "").isalnum():
        place, split = name, "train"
    yield from load_dataset(place, split=split, streaming=True)


def main() -> None:
    """Read what is asked for."""
    kind, name = sys.argv[1:3]
    out = sys.__stdout__
    assert out is not None
    count = 0
    try:
        if kind == "parquet" and not Path(name).is_file():
            raise FileNotFoundError(name)
        for row in parquet_rows(name) if kind == "parquet" else hub_rows(name):
            out.write(json.dumps({"row": row}, ensure_ascii=False, default=plain) + "\n")
            count += 1
    except BrokenPipeError:
        return
    except Exception as error:
        out.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return
    out.write(json.dumps({"end": count}) + "\n")


if __name__ == "__main__":
    main()
