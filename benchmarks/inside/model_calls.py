"""Tells when the model was at work in Inspect's logs.

Usage: model_calls.py FOLDER

Result: [[begin, end], …] of every request in the logs below the folder, in seconds since 1970.
"""

import json
import sys
from pathlib import Path

from inspect_ai.log import read_eval_log


def main() -> None:
    """Read the logs and print the intervals."""
    intervals = [
        [event.timestamp.timestamp(), event.completed.timestamp()]
        for path in sorted(Path(sys.argv[1]).rglob("*.eval"))
        for sample in read_eval_log(str(path)).samples or []
        for event in sample.events
        if event.event == "model" and event.completed is not None
    ]
    print(json.dumps(intervals), file=sys.__stdout__)


if __name__ == "__main__":
    main()
