"""A tokenizer as LLaMA-Factory uses it, loaded without torch, and recorded so that not even transformers is needed."""

import contextlib
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

KNOWN = "0.9.5"
"""The LLaMA-Factory whose way to load a tokenizer `loaded` goes."""
NAMES = [f"{name}_token{part}" for name in ("bos", "eos", "pad") for part in ("", "_id")]
ODD_TEXTS = (
    "",
    " ",
    "\n",
    " two  words \n\n",
    "É\u0301 ﬁ ½ ０ 🦉🏽 \u200d\u00a0\u0000",
    "<tool_call>\n{}\n</tool_call> <think></think><|im_end|></s><eos>",
    "日本語 ελληνικά עברית",
)
"""By which a record is compared with the tokenizer that it was made of."""


class Refused(Exception):
    """LLaMA-Factory itself has to be asked."""


class RecordedTokenizer:
    """What templates ask a tokenizer for. LLaMA-Factory has changed it already: nothing is left to be added."""

    chat_template = ""

    def __init__(self, record: dict[str, Any]) -> None:
        self.backend = Tokenizer.from_str(record["tokenizer"])
        self.backend.encode_special_tokens = record["encode_special_tokens"]
        for name, value in record["tokens"].items():
            setattr(self, name, value)

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """Return the number of a token."""
        number: int | None = self.backend.token_to_id(token)
        return number

    def add_special_tokens(self, tokens: dict[str, Any], **_: Any) -> int:
        """Return how many tokens had to be added."""
        return 0

    def encode_all(self, texts: list[str]) -> list[Any]:
        """Return the tokens of texts."""
        encoded: list[Any] = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return encoded


def loaded(settings: dict[str, Any]) -> Any:
    """Load a tokenizer as LLaMA-Factory does, for settings that `tokenizer_record.py` lets through.

    Raises:
        Refused: this LLaMA-Factory may do it otherwise.
    """
    if version("llamafactory") != KNOWN:
        raise Refused(f"LLaMA-Factory is not {KNOWN}")
    # Tokenizers do without torch, and importing it takes longer than all that is done here.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        settings["model_name_or_path"],
        use_fast=settings.get("use_fast_tokenizer", True),
        split_special_tokens=settings.get("split_special_tokens", False),
        padding_side="right",
        trust_remote_code=False,
        cache_dir=None,
        revision="main",
    )


def recorded(tokenizer: Any) -> dict[str, Any]:
    """Return the record of a tokenizer.

    Raises:
        Refused: transformers does more for it than `tokenizers` can repeat.
    """
    expected = [list(tokenizer.encode(text, add_special_tokens=False)) for text in ODD_TEXTS]
    if not tokenizer.is_fast or getattr(tokenizer, "backend_tokenizer", None) is None:
        raise Refused("it is not one of the library tokenizers")
    record = {
        "versions": _versions(),
        "tokens": {name: getattr(tokenizer, name) for name in NAMES},
        "encode_special_tokens": tokenizer.backend_tokenizer.encode_special_tokens,
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
    }
    if [list(tokens.ids) for tokens in RecordedTokenizer(record).encode_all(list(ODD_TEXTS))] != expected:
        raise Refused("the library tokenizers gives other tokens")
    return record


def kept(path: Path) -> dict[str, Any] | None:
    """Return the record in a file; None where there is none or it is of other versions."""
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if record["versions"] == _versions() else None


def keep(path: Path, record: dict[str, Any]) -> None:
    """Write a record, in one step; where that cannot be, the next command makes it again."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as stream:
            json.dump(record, stream)
        Path(stream.name).replace(path)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("llamafactory", "transformers", "tokenizers")}
