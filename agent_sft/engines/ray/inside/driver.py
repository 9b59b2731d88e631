"""Places commands on a cluster's machines for the process that started this, and tells what becomes of them.

Lines of JSON on standard input:

{"do": "place", "id", "command", "tokens", "gpus", "cores", "nodes"}   run a command on each of these machines, all of
                                                them or none, null for whichever; each gets its token and its GPUs
                                                on standard input
{"do": "cancel", "id"}                          take back what has not started

and on standard output:

{"what": "joined", "host"}                      the address at which the cluster reaches this machine
{"what": "refused", "why", "fix"}               it cannot be joined
{"what": "nodes", "nodes"}                      the machines that live, whenever that changes
{"what": "over", "id", "why"}                   a command has ended on one of its machines; why, if Ray ended it

When standard input ends, whatever runs is waited for: its leash is cut by then. Ray tries nothing again.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from typing import Any

from joining import Refused, join
from nodes import living

POLL_SECONDS = 0.1
LOOK_SECONDS = 1.0
END_SECONDS = 30.0


def hold(command: list[str], token: str, on_gpus: bool) -> int:
    """Run a command on the machine that this is called on; it ends when this process does.

    Args:
        command: takes a line with its token and its GPUs on standard input, and ends when that is closed.
        token: by which it makes itself known.
        on_gpus: whether GPUs are what is shared out.
    """
    import ray

    devices = [str(device) for device in ray.get_gpu_ids()] if on_gpus else None
    # Ray's own variables are none of the command's business: it gets all of its variables from elsewhere.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/", start_new_session=True)
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps({"token": token, "devices": devices}).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass
    return process.wait()


class Driver:
    """Does what it is told on standard input."""

    def __init__(self) -> None:
        import ray

        self._ray = ray
        # A Ray worker never uses a GPU itself, so it can hold one command after the other.
        self._hold = ray.remote(max_retries=0, max_calls=0)(hold)
        self._running: dict[Any, str] = {}
        self._groups: dict[str, Any] = {}
        self._waiting: dict[Any, dict[str, Any]] = {}
        self._orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._nodes: list[dict[str, Any]] = []
        self._looked = 0.0

    def run(self) -> None:
        """Go on until standard input ends."""
        say(what="joined", host=self._ray.util.get_node_ip_address())
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            try:
                order = self._orders.get(timeout=0 if self._running or self._waiting else POLL_SECONDS)
            except queue.Empty:
                order = {}
            if order is None:
                break
            if order:
                try:
                    self._obey(order)
                except Exception as error:
                    say(what="over", id=order["id"], why=f"{type(error).__name__}: {error}")
                continue
            self._look()
            self._collect(POLL_SECONDS)
        deadline = time.monotonic() + END_SECONDS
        for name in {*self._running.values(), *(one["id"] for one in self._waiting.values())}:
            self._cancel(name)
        while self._running and time.monotonic() < deadline:
            self._collect(POLL_SECONDS)

    def _listen(self) -> None:
        for line in sys.stdin:
            self._orders.put(json.loads(line))
        self._orders.put(None)

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        nodes = living(self._ray)
        if nodes != self._nodes:
            self._nodes = nodes
            say(what="nodes", nodes=nodes)

    def _obey(self, order: dict[str, Any]) -> None:
        if order["do"] == "cancel":
            self._cancel(order["id"])
        elif len(order["nodes"]) == 1:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            (node,) = order["nodes"]
            place = "DEFAULT" if node is None else NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            self._start(order, [place])
        else:
            self._gather(order)

    def _gather(self, order: dict[str, Any]) -> None:
        """Ask for a place on each of several machines, all of them or none."""
        wanted = {"GPU": order["gpus"], "CPU": order["cores"]}
        bundle = {name: number for name, number in wanted.items() if number} or {"CPU": 0.001}
        there = [{} if node is None else {"ray.io/node-id": node} for node in order["nodes"]]
        group = self._ray.util.placement_group(
            [bundle] * len(there), strategy="STRICT_SPREAD", bundle_label_selector=there if all(there) else None
        )
        self._groups[order["id"]] = group
        self._waiting[group.ready()] = order

    def _start(self, order: dict[str, Any], places: list[Any]) -> None:
        for token, place in zip(order["tokens"], places, strict=True):
            options = self._hold.options(
                num_gpus=order["gpus"], num_cpus=order["cores"], scheduling_strategy=place, name=order["id"]
            )
            self._running[options.remote(order["command"], token, order["on_gpus"])] = order["id"]

    def _cancel(self, name: str) -> None:
        """Take back what has not started; what has started hangs on its leash."""
        for ready in [ready for ready, order in self._waiting.items() if order["id"] == name]:
            del self._waiting[ready]
            self._release(name)
        for running in [one for one, other in self._running.items() if other == name]:
            self._ray.cancel(running)

    def _collect(self, seconds: float) -> None:
        """Take note of what has ended, and of the machines that are ready."""
        known = [*self._running, *self._waiting]
        if not known:
            return
        ready, _ = self._ray.wait(known, num_returns=1, timeout=seconds, fetch_local=False)
        for one in ready:
            if (order := self._waiting.pop(one, None)) is not None:
                self._gathered(one, order)
                continue
            name = self._running.pop(one)
            say(what="over", id=name, why=self._why(one))
            if name not in self._running.values():
                self._release(name)

    def _gathered(self, ready: Any, order: dict[str, Any]) -> None:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        if (why := self._why(ready)) is not None:
            say(what="over", id=order["id"], why=why)
            self._release(order["id"])
            return
        group = self._groups[order["id"]]
        self._start(
            order,
            [
                PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=number)
                for number in range(len(order["nodes"]))
            ],
        )

    def _why(self, ended: Any) -> str | None:
        """Return why Ray ended a task; None where it ended by itself."""
        try:
            self._ray.get(ended, timeout=10)
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return None

    def _release(self, name: str) -> None:
        group = self._groups.pop(name, None)
        if group is not None:
            self._ray.util.remove_placement_group(group)


def say(**message: Any) -> None:
    """Say a line to the process that started this; end where nobody listens any more."""
    try:
        print(json.dumps(message), file=OUT, flush=True)
    except BrokenPipeError:
        os._exit(1)


# What Ray prints, from Python or from C, is kept apart from what this says.
OUT = os.fdopen(os.dup(1), "w", encoding="utf-8")


def main() -> int:
    """Join the cluster that is named, and do as told."""
    os.dup2(2, 1)
    try:
        join(sys.argv[1])
    except Refused as refused:
        say(what="refused", why=refused.what, fix=refused.fix)
        return 1
    Driver().run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
