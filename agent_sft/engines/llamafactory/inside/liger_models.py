"""Prints the model types for which this LLaMA-Factory applies Liger's kernels, read from its own source.

It reads what `apply_liger_kernel` compares `model_type` with, and imports nothing: that takes milliseconds.
"""

import ast
import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path


def compared_types(source: str) -> Iterator[str]:
    """Return the strings that a variable named model_type is compared with."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "model_type":
            for constant in ast.walk(node.comparators[0]):
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                    yield constant.value


def main() -> None:
    """Print a sorted list."""
    spec = find_spec("llamafactory")
    assert spec is not None and spec.origin is not None, "LLaMA-Factory is not installed"
    source = Path(spec.origin).parent / "model" / "model_utils" / "liger_kernel.py"
    print(json.dumps(sorted(set(compared_types(source.read_text(encoding="utf-8"))))), file=sys.__stdout__)


if __name__ == "__main__":
    main()
