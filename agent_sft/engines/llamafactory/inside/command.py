"""Does as `llamafactory-cli` does, which imports what serving and merging do not use, and looks for garbage in it.

Usage: command.py api|export|train SETTINGS.yaml
"""

import gc
import sys

from leaving_out import leave_out


def main() -> None:
    """Run the command."""
    leave_out({"report_to": "none"})
    gc.disable()
    from llamafactory.cli import main as run

    gc.enable()
    sys.argv[0] = "llamafactory-cli"
    run()


if __name__ == "__main__":
    main()
