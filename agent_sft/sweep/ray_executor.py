"""Jobs on the machines of a Ray cluster. Ray places them; what they are, and what becomes of them, stays with us.

A job is a command on a leash (see `agent_sft.runs.leash`): Ray only starts the far end of it, on the machine that the
scheduler chose and with GPUs that Ray assigns. When the cluster goes away, attempts are lost, and nothing else: when it
is back, or another one answers at the same address, jobs are started again and go on from what they left.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from agent_sft.engines.ray.cluster import Cluster, ClusterNode, Event, failed_to_join
from agent_sft.errors import WorkFailed
from agent_sft.runs.leash import Leashes
from agent_sft.runs.lock import PATIENCE
from agent_sft.sweep.cluster import far_python, named
from agent_sft.sweep.executor import Handle
from agent_sft.sweep.ray_handle import RayHandle
from agent_sft.sweep.slots import Capacity, Node, Share

LOG = "ray.log"
GONE = "the Ray cluster went away"
JOIN_SECONDS = 60.0
RETRY_SECONDS = 3.0
SUSPECT_SECONDS = 10.0
"""For this long nothing is placed on a machine on which a job has lost its place, unless the machine is another one."""
PUMP_SECONDS = 0.02
"""Many jobs ask one after the other: nothing new has come meanwhile."""
PATIENCE_SECONDS = 600.0
"""How long a cluster may be gone before what runs on it gives up."""
LOCK_SECONDS = 150
"""A machine that died may keep its locks on a shared file system this long: NFS lets go of them after 90 s or so."""
_FAR_END = "; from agent_sft.runs.leashed import main; sys.exit(main(sys.argv[1:]))"
_OF_THIS_MACHINE = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "HOSTNAME")


class RayExecutor:
    """Runs commands on the machines of a cluster."""

    def __init__(self, address: str, folder: Path, lock: int, say: Callable[[str], None]) -> None:
        """Join a cluster.

        Args:
            address: HOST:PORT, or `auto`.
            folder: for the log of what Ray says.
            lock: descriptor that stays open until all that was started is gone.
            say: is told what the user should know.

        Raises:
            UserError: the cluster cannot be joined.
            WorkFailed: it does not answer in time.
        """
        self._address, self._log, self._lock, self._say = address, folder / LOG, lock, say
        self._handles: dict[str, RayHandle] = {}
        self._nodes: dict[str, Node] = {}
        self._alive: tuple[str, ...] = ()
        self._lost_at: dict[str, float] = {}
        self._leashes: Leashes | None = None
        self._numbers = itertools.count(1)
        self._gone_since: float | None = None
        self._next_try = self._pumped = 0.0
        self._cluster: Cluster | None = self._joining()
        self._wait_for_nodes()

    @property
    def here(self) -> bool:
        """Return False: jobs are on several machines."""
        return False

    def __enter__(self) -> RayExecutor:
        """Return it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all that runs, and leave the cluster."""
        for handle in list(self._handles.values()):
            handle.kill()
        if self._leashes is not None:
            self._leashes.close()
        if self._cluster is not None:
            self._cluster.close()

    def capacity(self) -> Capacity:
        """Return what the machines that live now have.

        Raises:
            WorkFailed: the cluster has not answered for long.
        """
        self.pump()
        now = time.monotonic()
        usable = [node for node in self._alive if now - self._lost_at.get(node, -SUSPECT_SECONDS) >= SUSPECT_SECONDS]
        return Capacity.of([self._nodes[node] for node in usable])

    def submit(
        self, job: str, command: Sequence[str], share: Share, environment: Mapping[str, str], log: Path
    ) -> Handle:
        """Start a command; see `Executor.submit`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        assert self._leashes is not None
        name = f"{job}#{next(self._numbers)}"
        ours = {key: value for key, value in os.environ.items() if key not in _OF_THIS_MACHINE}
        whole = {PATIENCE: str(LOCK_SECONDS), **ours, **share.environment(), **environment}
        leashes = [self._leashes.expect() for _ in share.nodes]
        handle = RayHandle(self, job, share, leashes, command, whole, log)
        self._handles[name] = handle
        handle.name = name
        if self._cluster is None:
            handle.lose(GONE)
        else:
            host, port = self._leashes.address
            self._cluster.place(
                name,
                [*far_python(_FAR_END), host, str(port)],
                [leash.token for leash in leashes],
                [node.id or None for node in share.nodes],
                gpus=len(share.gpus) // len(share.nodes),
                cores=0 if share.on_gpus else share.cores,
                on_gpus=share.on_gpus,
            )
        return handle

    def suspect(self, node: Node) -> None:
        """Take note that a job has lost its place on a machine: it may well be gone, which Ray finds out later."""
        self._lost_at[node.id] = time.monotonic()

    def say(self, text: str) -> None:
        """Tell the user."""
        self._say(text)

    def forget(self, handle: RayHandle, *, cancel: bool) -> None:
        """Let a job go that is over, or is not to start any more; take its task back where that does not end."""
        if self._handles.pop(handle.name, None) is not None:
            if cancel and self._cluster is not None:
                self._cluster.cancel(handle.name)
            for leash in handle.leashes:
                if self._leashes is not None:
                    self._leashes.forget(leash)

    def pump(self) -> None:
        """Take note of all that was told by the cluster and by the far ends.

        Raises:
            WorkFailed: the cluster has not answered for long.
        """
        if time.monotonic() - self._pumped < PUMP_SECONDS:
            return
        self._pumped = time.monotonic()
        if self._leashes is not None:
            self._leashes.pump()
        if self._cluster is not None:
            alive = self._cluster.alive  # before its last words are heard
            for event in self._cluster.events():
                self._hear(event)
            if not alive:
                self._lose()
        elif time.monotonic() >= self._next_try:
            self._try_again()
        for handle in list(self._handles.values()):
            handle.look()

    def _hear(self, event: Event) -> None:
        if event.what == "joined":
            if self._leashes is not None:
                self._leashes.close()
            self._leashes = Leashes(event.host)
        elif event.what == "nodes":
            self._meet(event.nodes)
        elif event.what == "over" and event.id in self._handles:
            self._handles[event.id].task_ended(event.why)
        elif event.what == "refused" and self._gone_since is None:
            raise failed_to_join(event)

    def _meet(self, nodes: Sequence[ClusterNode]) -> None:
        """Take note of the machines that live."""
        for node in named(nodes):
            self._nodes.setdefault(node.id, node)  # it keeps the name it has
        living = tuple(node.id for node in nodes)
        for name, verb in ((set(self._alive) - set(living), "left"), (set(living) - set(self._alive), "joined")):
            if self._alive and name:
                self._say(f"the cluster: {', '.join(sorted(self._nodes[one].name for one in name))} {verb}")
        self._alive = living
        if self._gone_since is not None:
            self._say(f"the Ray cluster answers again: {len(living)} machines")
            self._gone_since = None

    def _joining(self) -> Cluster:
        return Cluster(self._address, self._log, hold=[self._lock])

    def _wait_for_nodes(self) -> None:
        deadline = time.monotonic() + JOIN_SECONDS
        while not self._alive:
            assert self._cluster is not None
            alive = self._cluster.alive
            for event in self._cluster.events():
                self._hear(event)
            if not self._alive and (not alive or time.monotonic() > deadline):
                self._cluster.close()
                raise WorkFailed("the Ray cluster cannot be joined", log=self._log)
            time.sleep(0.02)

    def _lose(self) -> None:
        """The cluster is gone, and with it every attempt."""
        assert self._cluster is not None
        self._cluster.close()
        self._cluster, self._alive = None, ()
        for handle in list(self._handles.values()):
            handle.lose(GONE)
        if self._gone_since is None:
            self._gone_since = time.monotonic()
            self._say(f"the Ray cluster went away: waiting for one at the same address (see {self._log})")
        elif time.monotonic() - self._gone_since > PATIENCE_SECONDS:
            raise WorkFailed(
                f"the Ray cluster has not answered for {PATIENCE_SECONDS / 60:.0f} minutes",
                log=self._log,
                fix="start it again; the same command goes on then",
            )
        self._next_try = time.monotonic() + RETRY_SECONDS

    def _try_again(self) -> None:
        self._cluster = self._joining()
