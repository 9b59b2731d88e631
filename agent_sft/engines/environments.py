"""The Pythons that engines live in: finding them, asking for versions, running small programs inside them.

A program of `engines/NAME/inside/` gets its JSON payload on standard input and gives its result with
`print(json.dumps(result), file=sys.__stdout__)`. Everything else that it or its engine prints, from Python
or from C, goes to standard error: `call_inside` sees to that, so no banner can spoil a result.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

import orjson

from agent_sft.errors import UserError, WorkFailed, nearest

TAIL_LINES = 20

# Run before a program: it dies when we die (1 is PR_SET_PDEATHSIG, 9 is SIGKILL), what its engine prints is kept
# apart from its result, and garbage is looked for less often: among what an engine imports there is none, and
# looking takes a sixth of the time of importing it.
_PREAMBLE = """
import ctypes, gc, os, runpy, sys
gc.set_threshold(100_000, 50, 50)
ctypes.CDLL(None).prctl(1, 9)
sys.__stdout__ = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)
del sys.argv[0]
sys.path[0] = os.path.dirname(sys.argv[0])
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    sys.__stdout__.flush()
"""

# Installations are also reached through PYTHONPATH, which `-I` ignores: only the current folder is left out.
_VERSIONS = """
import json, sys
sys.path = [place for place in sys.path if place]
from importlib.metadata import PackageNotFoundError, version
def version_of(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
print(json.dumps({name: version_of(name) for name in sys.argv[1:]}))
"""


def repo_root() -> Path:
    """Return the clone's folder, which holds `scripts/`, `requirements/` and the environments."""
    return Path(__file__).resolve().parents[2]


def known_environments() -> list[str]:
    """Return the names of the environments that a user can ask for: core first, then the engines'."""
    engines = {path.stem for path in (repo_root() / "requirements").glob("*.txt") if "-" not in path.stem}
    return ["core", *sorted(engines - {"core", "dev", "uv"})]


def environment_folder(name: str) -> Path:
    """Return the folder that an environment of ours lives in."""
    return repo_root() / ".venv" if name == "core" else repo_root() / ".venvs" / name


def python_variable(name: str) -> str:
    """Return the variable that points to an existing installation of an engine."""
    return f"AGENT_SFT_{name.upper()}_PYTHON"


def given_python(name: str) -> Path | None:
    """Return the Python that the user's variable points to; None where it is not set.

    Raises:
        UserError: it is set to something that cannot be run.
    """
    variable = python_variable(name)
    value = os.environ.get(variable, "")
    if not value or name == "core":
        return None
    found = shutil.which(value)
    if found is None:
        raise UserError(
            f"'{value}' is not a program that can be run",
            where=variable,
            fix="point it to the Python of an installation, or unset it and one is made",
        )
    # Not resolved: a virtual environment is known by the place of its link.
    return Path(found).absolute()


def engine_python(name: str) -> Path:
    """Return the Python of an environment; the environment is made first where it is missing or out of date.

    Making it shows its progress on standard error. It takes a minute or more the first time and some 20 ms when
    nothing is to be done, once in a process: it is looked at again when its stamp or its requirements were touched.

    Raises:
        UserError: unknown name; the user's variable points to nothing; no suitable Python to make it with.
        WorkFailed: the installation failed.
    """
    known = known_environments()
    if name not in known:
        hint = nearest(name, known) or f"there are: {', '.join(known)}"
        raise UserError(f"there is no environment '{name}'", fix=hint)
    given = given_python(name)
    if given is not None:
        return given
    if _found.get(name) == _touched(name):
        return environment_folder(name) / "bin" / "python"
    status, output = _run_setup(name)
    if status == 0:
        _found[name] = _touched(name)
        return Path(output.rstrip("\n"))
    if status == 2:
        raise UserError(f"the {name} environment cannot be made here: the reason is above")
    raise WorkFailed(f"the {name} environment could not be made: the reason is above")


_found: dict[str, list[object]] = {}
"""The environments that this process has found whole, each with what there was then."""


def _touched(name: str) -> list[object]:
    """Return what changes when an environment may have become another one."""
    root = repo_root()
    places = [environment_folder(name) / ".agent-sft-stamp", *sorted((root / "requirements").glob(f"{name}*.txt"))]
    times = [place.stat().st_mtime_ns if place.is_file() else None for place in places]
    return [os.environ.get("AGENT_SFT_BASE_PYTHON"), root, *times]


def is_made(name: str) -> bool:
    """Tell whether an environment is there, whole and up to date."""
    if _found.get(name) != _touched(name):
        if _run_setup("--check", name)[0] != 0:
            return False
        _found[name] = _touched(name)
    return True


def engine_versions(python: Path, distributions: Sequence[str]) -> dict[str, str | None]:
    """Return the installed version of each distribution, None where it is missing, without importing any.

    Asked once in a process, and again when something was installed since. Where all that its Python finds lies in one
    folder, they are read there: starting a Python to ask takes longer.

    Raises:
        WorkFailed: this Python does not run.
    """
    places = (python, *python.parent.parent.glob("lib/python3*/site-packages"))
    installed = tuple(place.stat().st_mtime_ns for place in places if place.exists())
    return dict(_engine_versions(python, tuple(distributions), installed))


@cache
def _engine_versions(
    python: Path, distributions: tuple[str, ...], _installed: tuple[int, ...]
) -> Mapping[str, str | None]:
    if (folder := _only_place(python)) is not None:
        return _versions_in(folder, distributions)
    try:
        done = subprocess.run([python, "-c", _VERSIONS, *distributions], capture_output=True, check=False)
    except OSError as error:
        raise WorkFailed(f"{python} does not run: {error.strerror}") from error
    if done.returncode != 0:
        raise WorkFailed(f"{python} does not run:\n{_indented(done.stderr)}")
    versions: dict[str, str | None] = orjson.loads(done.stdout)
    return versions


def _only_place(python: Path) -> Path | None:
    """Return the folder in which a virtual environment's Python finds all that is installed; None where others are."""
    home = python.parent.parent
    places = [*home.glob("lib/python3*/site-packages")]
    try:
        told = (home / "pyvenv.cfg").read_text(encoding="utf-8").replace(" ", "").lower().splitlines()
        lines = [line for file in places[0].glob("*.pth") for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError, IndexError):
        return None
    alone = "include-system-site-packages=false" in told and len(places) == 1 and not os.environ.get("PYTHONPATH")
    # A `.pth` file's line names a folder, which may hold more, or is code.
    plain = all(not line.strip() or line.startswith(("#", "import ", "import\t")) for line in lines)
    return places[0] if alone and plain and shutil.which(python) else None


def _versions_in(folder: Path, distributions: Sequence[str]) -> dict[str, str | None]:
    """Return the version of each distribution that is installed in this folder, None where it is not."""
    known = {_plain_name(name): name for name in distributions}
    found: dict[str, str | None] = dict.fromkeys(distributions)
    for entry in os.scandir(folder):
        name = known.get(_plain_name(entry.name.partition("-")[0]))
        if name is None or not entry.name.endswith((".dist-info", ".egg-info")):
            continue
        for file in ("METADATA", "PKG-INFO", "."):  # the last where it is a file itself
            with contextlib.suppress(OSError), Path(entry.path, file).open(encoding="utf-8") as lines:
                heads = (line.partition(":") for line in lines)
                found[name] = next((rest.strip() for head, _, rest in heads if head == "Version"), None)
    return found


def _plain_name(name: str) -> str:
    """Return a distribution's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def call_inside(
    python: Path,
    program: Path,
    *args: str | os.PathLike[str],
    payload: Any = None,
    timeout: float | None = None,
    started: Callable[[Sequence[str]], list[str]] = list,
) -> Any:
    """Run a program inside an engine's environment and return the value that it gave.

    The program and all it starts form a process group of their own, which ends when the time is up or when
    we are interrupted.

    Args:
        python: the environment's Python.
        program: a file of `engines/NAME/inside/`.
        args: its command line.
        payload: a JSON-able value for its standard input; nothing there when None.
        timeout: seconds.
        started: returns the command by which a command is started.

    Raises:
        WorkFailed: it failed, took too long or gave no result; with the end of what it printed.
    """
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as result,
        tempfile.TemporaryFile() as log,
    ):
        if payload is not None:
            given.write(orjson.dumps(payload, option=orjson.OPT_NON_STR_KEYS))
            given.seek(0)
        command = [str(python), "-c", _PREAMBLE, str(program.absolute()), *(os.fspath(arg) for arg in args)]
        # Files, not pipes: neither side ever waits for the other to read.
        status = _run_in_group(started(command), given, result, log, timeout)
        if status is None:
            ending = f"took longer than {timeout:g} s"
        elif status != 0:
            ending = f"ended with signal {-status}" if status < 0 else f"failed (exit {status})"
        else:
            try:
                return orjson.loads(_content(result))
            except orjson.JSONDecodeError:
                ending = "gave no result"
        raise WorkFailed(f"{program.name} {ending} in {python}:\n{_indented(_content(log))}")


def stream_inside(python: Path, program: Path, *args: str | os.PathLike[str]) -> Iterator[bytes]:
    """Run a program inside an engine's environment and yield the lines of its result while it runs.

    The program and all it starts end when it is done, when we are interrupted, or when no more lines are wanted.

    Raises:
        WorkFailed: it failed; with the end of what it printed.
    """
    with tempfile.TemporaryFile() as log:
        command = [str(python), "-c", _PREAMBLE, str(program.absolute()), *(os.fspath(arg) for arg in args)]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        except OSError as error:
            raise WorkFailed(f"{command[0]} does not run: {error.strerror}") from error
        assert process.stdout is not None
        try:
            yield from process.stdout
            status = process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
            process.wait()
        if status != 0:
            raise WorkFailed(f"{program.name} failed (exit {status}) in {python}:\n{_indented(_content(log))}")


def _run_setup(*words: str) -> tuple[int, str]:
    """Run `scripts/env.sh`; return its exit status and standard output; it speaks on standard error."""
    script = repo_root() / "scripts" / "env.sh"
    if not script.is_file():
        raise UserError("environments are made by a clone of the repository, which this is not", where=str(script))
    # It says what it does on our standard error, and takes what it started down with it.
    done = subprocess.run(
        ["bash", script, *words], stdout=subprocess.PIPE, text=True, check=False, preexec_fn=_end_with_us
    )
    return done.returncode, done.stdout


def _end_with_us() -> None:
    """Between fork and exec: ask for SIGTERM when our process dies (1 is PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _run_in_group(
    command: Sequence[str], given: IO[bytes], result: IO[bytes], log: IO[bytes], timeout: float | None
) -> int | None:
    """Run a command in a process group of its own; return its exit status, None if its time was up."""
    try:
        process = subprocess.Popen(command, stdin=given, stdout=result, stderr=log, start_new_session=True)
    except OSError as error:
        raise WorkFailed(f"{command[0]} does not run: {error.strerror}") from error
    try:
        return process.wait(timeout)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            return None
        raise


def _content(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read()


def _indented(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").replace("\r", "\n").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-TAIL_LINES:]) or "  | (it printed nothing)"
