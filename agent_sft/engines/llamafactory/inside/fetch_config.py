"""Fetch a model's config.json from the hub. Runs inside the train environment.

Usage: python fetch_config.py NAME
Prints the configuration as JSON.
"""

import json
import sys
from pathlib import Path

from huggingface_hub import hf_hub_download


def main() -> None:
    """Print the configuration of the model named on the command line."""
    path = hf_hub_download(sys.argv[1], "config.json", etag_timeout=5)
    print(json.dumps(json.loads(Path(path).read_text(encoding="utf-8"))), file=sys.__stdout__)


if __name__ == "__main__":
    main()
