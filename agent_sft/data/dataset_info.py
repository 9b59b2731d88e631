"""The `dataset_info.json` of a folder: how LLaMA-Factory is told which datasets are in it, and their form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent_sft.data.turns import FUNCTION_CALL, GPT, HUMAN, OBSERVATION, SYSTEM
from agent_sft.errors import UserError

INFO_NAME = "dataset_info.json"
RESERVED_NAMES = ("rejects",)
LONGEST_NAME = 200
"""In bytes: file systems take 255 for a file's name, and endings are added."""


def dataset_entry(file_name: str) -> dict[str, Any]:
    """Return the entry of a data file in ShareGPT form.

    LLaMA-Factory forgets its defaults for every column and tag that is left out of a block: all are declared.
    """
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": HUMAN,
            "assistant_tag": GPT,
            "observation_tag": OBSERVATION,
            "function_tag": FUNCTION_CALL,
            "system_tag": SYSTEM,
        },
    }


def check_dataset_name(name: str) -> None:
    """Refuse a dataset name that cannot be a file's name or that LLaMA-Factory would take apart.

    Raises:
        UserError: saying what is wrong with it.
    """
    fault = None
    if not name.strip():
        fault = "is empty"
    elif "/" in name or "\\" in name:
        fault = "has a slash in it"
    elif ".." in name or name.startswith("."):
        fault = "has '..' in it" if ".." in name else "starts with a dot"
    elif "," in name:
        fault = "has a comma in it, at which LLaMA-Factory takes lists of names apart"
    elif name != name.strip() or not name.isprintable():
        fault = "has a character in it that does not show"
    elif name in RESERVED_NAMES:
        fault = f"would give the data the name of the file '{name}.jsonl', which holds something else"
    elif len(name.encode()) > LONGEST_NAME:
        fault = f"is longer than {LONGEST_NAME} bytes"
    if fault is not None:
        raise UserError(
            f"the dataset name '{name}' {fault}", where="--dataset-name", fix="use letters, digits, '_' and '-'"
        )


def read_info(path: Path) -> dict[str, Any]:
    """Return what a `dataset_info.json` declares; nothing if there is none.

    Raises:
        UserError: it is damaged. It is not ours to overwrite: others' datasets may be in it.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    fix = "mend it or move it away: other datasets may be declared in it"
    try:
        info = json.loads(content)
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}, column {error.colno}"
        raise UserError(f"not JSON: {error.msg}", where=where, fix=fix) from error
    except ValueError as error:
        raise UserError("is not UTF-8 text", where=str(path), fix=fix) from error
    if not isinstance(info, dict):
        raise UserError("must hold one object, with an entry for each dataset", where=str(path), fix=fix)
    return info


def info_content(info: dict[str, Any], name: str, file_name: str) -> bytes:
    """Return the file's new content: `name` declared, all others as they were.

    ASCII alone, because LLaMA-Factory opens it in the encoding of the user's locale.
    """
    return json.dumps({**info, name: dataset_entry(file_name)}, indent=2).encode() + b"\n"
