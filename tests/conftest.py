"""What all tests share: where things are, and running our commands as a user does."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest import mock

import hypothesis
import pytest

from tests.forks import fork_servers
from tests.serving import train

# Looking for garbage while tests are collected, where there is none, takes a sixth of the time of collecting them.
gc.disable()

# Nothing is fetched from a hub: everything the tests train is made on the spot.
os.environ["HF_HUB_OFFLINE"] = "1"

# Tests train side by side: threads that wait for each other on the same processors take many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same cases on every machine, however slow it is; benchmarks/fuzz_data.py goes looking for others.
hypothesis.settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("steady")

ROOT = Path(__file__).resolve().parents[1]

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]

MadeOnce = Callable[[str, Callable[[Path], object]], Path]


LONGEST = (
    "test_docs.py",
    "test_distributed.py",
    "test_sft.py",
    "test_sweep_kills.py",
    "test_sweep_vs_loop.py",
    "test_evaluator_inspect.py",
    "test_sweep_ray.py",
    "test_jobs_on_cluster.py",
    "test_interruptions.py",
    "test_evaluating.py",
    "test_sweep_scoring.py",
    "test_fit.py",
    "test_distill.py",
    "test_planning_phases.py",
    "test_benchmarks.py",
    "test_serving_kills.py",
    "test_experiment.py",
    "test_data_property.py",
    "test_slurm_cluster.py",
    "test_evaluator_tasks.py",
    "test_mini_telecom_inspect.py",
    "test_parity_runs.py",
    "test_types.py",
    "test_reporters.py",
    "test_jobs_on_slurm.py",
    "test_evaluator_tau2.py",
    "test_env.py",
    "test_turn_counts.py",
    "test_evals_intervals.py",
    "test_report_sweep_page.py",
    "test_cli_train.py",
    "test_sweep_doneness.py",
    "test_bootstrap.py",
    "test_data_sources.py",
    "test_client.py",
    "test_doctor.py",
    "test_data_overflow.py",
    "test_sweep_schedule.py",
    "test_serving.py",
    "test_encoding.py",
    "test_data_accepted.py",
    "test_deployments.py",
    "test_sweep_troubles.py",
    "test_report_sweep_writing.py",
    "test_jobs.py",
    "test_fork_server.py",
    "test_data_parallel.py",
    "test_memory.py",
)
"""The files that take longest, the longest first."""


def pytest_configure(config: pytest.Config) -> None:
    """Let what engines do be forked, as in a sweep. tests/forks.py has an environment in which it is not."""
    if not hasattr(config, "workerinput"):
        stack = contextlib.ExitStack()
        config.add_cleanup(stack.close)
        os.environ |= stack.enter_context(fork_servers())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that of several processes none works on alone at the end.

    Files stay whole: those whose tests train must not all train at once.
    """
    slow = {item.path.name for item in items if item.get_closest_marker("slow")}

    def place(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.name
        return LONGEST.index(name) if name in LONGEST else len(LONGEST), name not in slow

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """What is there now stays."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def train_python() -> Path:
    """The Python of the environment of LLaMA-Factory and DeepSpeed, made if it is missing."""
    from agent_sft.engines.environments import engine_python

    return engine_python("train")


@pytest.fixture(scope="session")
def serve_python() -> Path:
    """The Python of the environment of vLLM, made if it is missing."""
    from agent_sft.engines.environments import engine_python

    return engine_python("serve")


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """Run `agent-sft ARGS`: `run_cli("merge", "--input", path, cwd=..., env={...}, timeout=...)`.

    `env` adds to the variables of the tests. Output is text; the exit code is not checked.
    """

    def run(
        *args: str | os.PathLike[str],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = 600,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "agent_sft", *(os.fspath(arg) for arg in args)],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def call_cli() -> RunCli:
    """Do as `run_cli` does, within this process: half a second less where the process is not what is tested."""
    from agent_sft.cli.main import main

    def call(
        *args: str | os.PathLike[str],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        assert timeout is None, "run_cli has limits"
        words = [os.fspath(arg) for arg in args]
        before = signal.getsignal(signal.SIGTERM)
        with written_to_files() as files:
            with (
                contextlib.chdir(cwd or Path.cwd()),
                mock.patch.dict(os.environ, env or {}),
                pytest.raises(SystemExit) as ended,
            ):
                main(words)
            sys.stdout.flush()
            sys.stderr.flush()
            printed = [file.read_text(encoding="utf-8") for file in files]
        signal.signal(signal.SIGTERM, before)
        status = ended.value.code
        assert isinstance(status, int)
        return subprocess.CompletedProcess(words, status, *printed)

    return call


@contextlib.contextmanager
def written_to_files() -> Iterator[tuple[Path, Path]]:
    """Let all that is printed, by child processes too, go to two files within this block."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        paths = Path(folder) / "stdout", Path(folder) / "stderr"
        for name, number, path in zip(("stdout", "stderr"), (1, 2), paths, strict=True):
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            stream = stack.enter_context(path.open("w", encoding="utf-8"))
            os.dup2(stream.fileno(), number)
            stack.enter_context(mock.patch.object(sys, name, stream))
        yield paths


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Make a folder once for all processes that test side by side: `made_once("full", make)` gives its path.

    `make(folder)` makes it. Whoever gets it reads it only; what changes it works on a copy.
    """
    own = tmp_path_factory.getbasetemp()
    # Names are as awkward as they get.
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / 'a b\'c "d" $HOME é'
    shared.mkdir(exist_ok=True)

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.made"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                assert not folder.exists(), f"another test failed to make {name}"
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def full_run(made_once: MadeOnce, run_cli: RunCli) -> Path:
    """The finished run of a tiny model. It is not to be changed."""
    return made_once("full", lambda folder: train(run_cli, folder))


@pytest.fixture(scope="session")
def lora_run(made_once: MadeOnce, run_cli: RunCli) -> Path:
    """The finished run of an adapter of the same base, which lies in it. It is not to be changed."""
    return made_once("lora", lambda folder: train(run_cli, folder, "--finetuning-type", "lora"))
