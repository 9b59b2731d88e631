"""One stage of a run: done already, or made now and stamped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.files import digest_file, digest_value, unwritable
from agent_sft.runs.directory import RunDirectory, Stamp, now


@dataclass(frozen=True)
class Stage:
    """A stage and all that its outcome depends on."""

    name: str
    inputs: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Digest of the inputs."""
        return digest_value(dict(self.inputs))

    def finished(self, run: RunDirectory) -> Stamp | None:
        """Return the stamp if this stage was done with these inputs and what it made is still whole."""
        stamp = run.stamp(self.name)
        if stamp is None or stamp.fingerprint != self.fingerprint:
            return None
        files = stamp.outputs.get("files", {})
        return stamp if all(_same(run.path / name, known) for name, known in files.items()) else None

    def why(self, run: RunDirectory) -> str:
        """Tell why this stage has to run."""
        stamp = run.stamp(self.name)
        if stamp is None:
            return "not done yet"
        return stamp.difference(dict(self.inputs)) or "what it made is missing or was changed"

    def done(self, run: RunDirectory, elsewhere: Iterable[RunDirectory]) -> Stamp | None:
        """Return the stamp if this stage was done with these inputs: here, or elsewhere, whose outcome is taken over.

        Files are linked where the file system allows, else copied. Nothing that stages make is ever changed in place.
        """
        if (stamp := self.finished(run)) is not None:
            return stamp
        for other in elsewhere:
            if (stamp := self.finished(other)) is not None:
                run.drop_stamp(self.name)
                for name in stamp.outputs.get("files", {}):
                    _link(other.path / name, run.path / name)
                run.write_stamp(stamp)
                run.record("stage taken over", stage=self.name, of=str(other.path))
                return stamp
        return None

    def perform(self, run: RunDirectory, make: Callable[[], tuple[list[Path], dict[str, Any]]]) -> Stamp:
        """Run `make`, which returns the files it made and facts about them, and stamp the stage."""
        started = now()
        run.drop_stamp(self.name)
        run.record("stage started", stage=self.name)
        files, facts = make()
        outputs = {"files": {str(path.relative_to(run.path)): describe_file(path) for path in files}, **facts}
        stamp = Stamp(self.name, self.fingerprint, dict(self.inputs), outputs, started, now())
        run.write_stamp(stamp)
        run.record("stage finished", stage=self.name)
        return stamp


def example_digests(made: Stamp) -> dict[str, str]:
    """Return the digests of the data files that a stage made, without those of what it tells of them."""
    wanted = {f"{name}.jsonl" for name in made.outputs["rows"]}
    return {name: entry["digest"] for name, entry in made.outputs["files"].items() if Path(name).name in wanted}


def describe_file(path: Path) -> dict[str, Any]:
    """Return what a stamp records of a file."""
    return {"size": path.stat().st_size, "digest": digest_file(path)}


def _same(path: Path, known: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == known["size"] and digest_file(path) == known["digest"]


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; one that is there already goes."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)
    except OSError as error:
        raise unwritable(target, error) from error
