"""Find out whether the libraries a training uses can be loaded. Runs inside the train environment.

Usage: python probe.py MODULE...
Prints {"gpus": number that torch sees, "errors": {module: why it cannot be imported}}.
"""

import importlib
import json
import sys


def main() -> None:
    """Import the modules named on the command line and print what went wrong."""
    errors = {}
    for name in sys.argv[1:]:
        try:
            importlib.import_module(name)
        except Exception as error:  # a library built against another torch fails in ways of its own
            errors[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    gpus = None
    if "torch" not in errors:
        import torch

        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    print(json.dumps({"gpus": gpus, "errors": errors}), file=sys.__stdout__)


if __name__ == "__main__":
    main()
