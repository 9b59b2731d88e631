"""Where what belongs to a user, and not to one run, is kept."""

from __future__ import annotations

import os
from pathlib import Path


def state_folder() -> Path:
    """Return the folder with what is known of servers, jobs and their slots: `$XDG_STATE_HOME/agent-sft`."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "agent-sft"
