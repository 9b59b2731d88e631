"""A small Slurm of one machine: its controller and two nodes on loopback, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import pytest

from agent_sft.engines.slurm import queue

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue")
SECONDS = 300.0
"""Far more than anything takes, a training on a machine that is busy included."""
CONF = """
ClusterName=small
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
KillWait=5
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=2000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=small Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Return why Slurm cannot be started here; None where it can be tried."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return f"Slurm is not installed here: there is no {', '.join(lacking)}" if lacking else None


NEEDS_SLURM = pytest.mark.skipif(
    missing() is not None, reason=f"{missing()}; the scripts are compared with recorded ones"
)


class SmallSlurm:
    """Starts it within a block; `env` is what its programs need to find it."""

    def __init__(self) -> None:
        # Its path is short: a socket lies in it.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))
        self.conf = self.folder / "slurm.conf"
        self.env = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        self._running: list[subprocess.Popen[bytes]] = []
        self._started = False

    def __enter__(self) -> SmallSlurm:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started:
            self._end_jobs()
        for process in reversed(self._running):
            process.terminate()
        for process in reversed(self._running):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *command: str) -> str:
        """Run one of Slurm's programs; return what it says."""
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=True).stdout.strip()

    def state(self, job: str) -> str:
        """Return the state of a job, such as `RUNNING`."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return next(word for word in words if word.startswith("JobState=")).partition("=")[2]

    def starts_now(self, job: str) -> bool:
        """Let a job that went back into the queue start at once, not in two minutes; return whether it has started.

        That can be too early, while the job's last turn is being cleared away.
        """
        update = ["scontrol", "update", f"JobId={job}", "StartTime=now"]
        subprocess.run(update, env=self.env, capture_output=True, check=False)
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return "Restarts=1" in words and self.state(job) in ("RUNNING", "COMPLETED")

    def take_back(self, node: str) -> None:
        """Let a node that was said to be down have jobs again."""

        def tried() -> bool:
            update = ["scontrol", "update", f"NodeName={node}", "State=RESUME"]
            subprocess.run(update, env=self.env, capture_output=True, check=False)
            return self._idle()

        self.wait_for(tried)

    def wait_for(self, what: Callable[[], bool], log: Path | None = None) -> None:
        """Wait until something holds.

        Raises:
            TimeoutError: with the end of the job's log, or of Slurm's own.
        """
        deadline = time.monotonic() + SECONDS
        while not what():
            if time.monotonic() > deadline:
                logs = [log] if log is not None else sorted(self.folder.glob("*.log"))
                raise TimeoutError("\n".join(one.read_text()[-2000:] for one in logs if one.is_file()))
            time.sleep(0.05)

    def _start(self) -> None:
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.conf.write_text(
            CONF.format(host=socket.gethostname().partition(".")[0], user=user, folder=self.folder, ports=_free(3))
        )
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o600)
        places = {"socket": "munge.sock", "key-file": "munge.key", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        options = [f"--{name}={self.folder / place}" for name, place in {**places, "log-file": "munge.log"}.items()]
        self._daemon("munged", "--foreground", "--force", *options)
        self.wait_for((self.folder / "munge.sock").exists)
        self._daemon("slurmctld", "-D", "-f", str(self.conf))
        for node in ("n1", "n2"):
            self._daemon("slurmd", "-D", "-N", node, "-f", str(self.conf))
        self.wait_for(self._idle)
        self._started = True

    def _end_jobs(self) -> None:
        """End the jobs that a test that failed has left: they would outlive the daemons."""
        deadline = time.monotonic() + 20
        with contextlib.suppress(subprocess.SubprocessError):
            while self.run("squeue", "--noheader") and time.monotonic() < deadline:
                self.run("scancel", f"--user={pwd.getpwuid(os.geteuid()).pw_name}")
                time.sleep(0.2)

    def _idle(self) -> bool:
        said = subprocess.run(
            ["sinfo", "--noheader", "--format=%t %D"], env=self.env, capture_output=True, text=True, check=False
        )
        return said.stdout.split() == ["idle", "2"]

    def _daemon(self, *command: str) -> None:
        with (self.folder / f"{command[0]}-{len(self._running)}.out").open("wb") as out:
            self._running.append(subprocess.Popen(command, env=self.env, stdout=out, stderr=out))


@pytest.fixture(scope="module", name="slurm")
def started_slurm() -> Iterator[SmallSlurm]:
    """The cluster, for all tests of a module."""
    with contextlib.ExitStack() as stack:
        try:
            cluster = stack.enter_context(SmallSlurm())
        except (OSError, TimeoutError) as error:
            pytest.skip(f"Slurm cannot be started here; the scripts are compared with recorded ones: {error}")
        yield cluster


def reach(slurm: SmallSlurm, monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """Let this process submit there, with an index of jobs of its own; how they stand is asked five times a second."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.env[name])
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setattr(queue, "FRESH_SECONDS", 0.2)


def _free(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
