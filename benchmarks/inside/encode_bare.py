"""Tokenises texts by `encode_batch` alone. Runs inside the train environment.

Reads {"tokenizer": file, "texts": file with a JSON array} from standard input; writes {"seconds", "tokens"}, the
seconds those of the call alone.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tokenizers import Tokenizer


def main() -> None:
    """Tokenise and tell how long it took."""
    order = json.load(sys.stdin)
    tokenizer = Tokenizer.from_file(order["tokenizer"])
    texts = json.loads(Path(order["texts"]).read_text(encoding="utf-8"))
    began = time.perf_counter()
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "tokens": sum(map(len, encoded))}), file=sys.__stdout__)


if __name__ == "__main__":
    main()
