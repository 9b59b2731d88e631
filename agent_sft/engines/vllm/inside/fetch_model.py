"""Fetches the small files of a model on the hub: configuration, tokenizer, chat template.

Usage: python fetch_model.py NAME
Prints the folder that they lie in, named by the commit, as JSON. Imports huggingface_hub alone, so that it runs in any
engine's environment.
"""

import json
import sys

from huggingface_hub import snapshot_download


def main() -> None:
    """Print the folder with the files of the model named on the command line."""
    names = ["config.json", "generation_config.json", "adapter_config.json", "tokenizer_config.json", "tokenizer.json"]
    folder = snapshot_download(sys.argv[1], allow_patterns=[*names, "chat_template.jinja"], etag_timeout=5)
    print(json.dumps(folder), file=sys.__stdout__)


if __name__ == "__main__":
    main()
