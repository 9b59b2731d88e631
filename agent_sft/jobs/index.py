"""Where jobs are found: in an index of this user, wherever their directories are, and in `saves/` of this folder.

The index is `jobs/` in the user's state folder: a link for each job, called by its id, to the run's directory.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from agent_sft.files import unwritable
from agent_sft.jobs.record import FOLDER, SPEC, Spec
from agent_sft.runs.places import state_folder

SAVES = Path("saves")


def index_folder() -> Path:
    """Return the folder with a link to each job."""
    return state_folder() / "jobs"


def all_jobs() -> dict[str, Path]:
    """Return the directories of all jobs that are found, by their ids."""
    found: dict[str, Path] = {}
    for place in _places():
        spec = Spec.read(place)
        if spec is not None:
            found.setdefault(spec.id, place)
    return found


def reserve(run: Path) -> str:
    """Return the id of the job in a directory, new or the one that it has, and enter it into the index.

    An id is the last two parts of the directory's path; with a number where another directory has it already.

    Raises:
        UserError: the index cannot be written.
    """
    run = run.resolve()
    wanted = job_name(run)
    folder, number = index_folder(), 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            name = wanted if number == 1 else f"{wanted}-{number}"
            link = folder / name
            with contextlib.suppress(FileExistsError):
                link.symlink_to(run)
                return name
            if _leads_to(link, run):
                return name
            if not (link / FOLDER / SPEC).is_file() and not link.is_dir():
                link.unlink(missing_ok=True)  # the directory is gone, and its job with it
            else:
                number += 1
    except OSError as error:
        raise unwritable(folder, error) from error


def release(run: Path) -> None:
    """Take the job in a directory out of the index again."""
    known = Spec.read(run)
    if known is not None and _leads_to(index_folder() / known.id, run.resolve()):
        (index_folder() / known.id).unlink()


def _places() -> Iterator[Path]:
    folder = index_folder()
    if folder.is_dir():
        for link in sorted(folder.iterdir()):
            with contextlib.suppress(OSError):
                yield link.readlink()
    yield from (path.parent.parent.resolve() for path in sorted(SAVES.glob(f"*/*/{FOLDER}/{SPEC}")))


def _leads_to(link: Path, run: Path) -> bool:
    try:
        return link.readlink() == run
    except OSError:
        return False


def job_name(run: Path) -> str:
    """Return what the job in a directory is called, or would be where no other has that name."""
    known = Spec.read(run)
    if known is not None:
        return known.id
    return re.sub(r"[^\w.]+", "-", f"{run.parent.name}-{run.name}").strip("-.") or "job"
