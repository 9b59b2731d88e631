"""From any Python of a fresh clone into the package's own environment. Standard library only, Python 3.8 up."""

import os
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent

# -P: a file called like a module of ours, in the folder one happens to be in, is not imported.
_BECOME = """
set -euo pipefail
source "$1/scripts/env.sh"
ensure_env core
exec "$ENV_PYTHON" -P -m agent_sft "${@:2}"
"""


def reexec_in_core(command: str) -> NoReturn:
    """Become `agent-sft COMMAND` with this process's arguments, in an environment that is made if need be.

    Relative paths, signals and the exit code are the command's own. When the environment cannot be made, the
    process ends as `scripts/env.sh` does, which says why.
    """
    os.execvp("bash", ["bash", "-c", _BECOME, "bash", str(ROOT), command, *sys.argv[1:]])  # noqa: S606
