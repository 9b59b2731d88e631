"""What the tests of Ray share: a cluster whose machines come and go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from agent_sft.engines.environments import engine_python

PROGRAM = Path(__file__).parent / "inside" / "ray_cluster.py"


class SmallCluster:
    """A head and further machines, each with two GPUs that nothing can compute on."""

    def __init__(self, machines: int = 3) -> None:
        # Its path is short: sockets lie in it.
        self._folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
        with (Path(self._folder) / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [engine_python("ray"), PROGRAM, self._folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                text=True,
            )
        self.head = ""
        self.others: list[str] = []
        self.start()
        for _ in range(machines - 1):
            self.add()

    def __enter__(self) -> SmallCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start the head, again at the same address."""
        said = self._ask("start")
        self.address, self.head = str(said["address"]), str(said["id"])

    def add(self) -> str:
        """Add a machine; return its id."""
        self.others.append(str(self._ask("add")["id"]))
        return self.others[-1]

    def remove(self, node: str) -> None:
        """Kill all of a machine that is not the head."""
        self.others.remove(node)
        self._ask(f"remove {node}")

    def kill(self) -> None:
        """Kill the head."""
        self.others = []
        self._ask("kill")

    @property
    def resources(self) -> dict[str, str]:
        """The `resources` of a sweep by which it runs there."""
        return {"executor": "ray", "ray_address": self.address}

    def _ask(self, what: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, (Path(self._folder) / "log").read_text(errors="replace")[-3000:]
        said: dict[str, Any] = json.loads(line)
        return said
