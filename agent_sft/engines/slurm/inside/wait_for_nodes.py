"""Waits until a Ray cluster has so many machines; runs in Ray's environment.

python wait_for_nodes.py HOST:PORT MACHINES
"""

import sys
import time
from typing import Any

SECONDS = 300.0
"""How long machines may take to come."""
POLL_SECONDS = 1.0


def main(address: str, wanted: int) -> int:
    """Wait; return 1 where they have not come in time."""
    import ray

    deadline = time.monotonic() + SECONDS
    found, problem = 0, "nobody answers"
    while time.monotonic() < deadline:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
            found = len([node for node in nodes(ray) if node["Alive"]])
            ray.shutdown()
        except (ConnectionError, RuntimeError, ValueError) as error:
            problem = str(error)
        if found >= wanted:
            return 0
        time.sleep(POLL_SECONDS)
    said = f": {problem}" if not found else ""
    print(f"error: {found} of {wanted} machines have joined {address} after {SECONDS:.0f} s{said}", file=sys.stderr)
    return 1


def nodes(ray: Any) -> list[dict[str, Any]]:
    """Return what Ray knows of machines."""
    return list(ray.nodes())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
