"""Rows prepared while a pipeline writes them, so that the preparation need not read them again.

What is made lies in files without a name until the preparation takes it over: a run that is killed in between leaves
nothing behind, and prepares from the file of rows when it goes on.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agent_sft.data.dialects import dialect_of
from agent_sft.data.examples import Reading, Writing
from agent_sft.data.formats import FORMATS, openai
from agent_sft.data.report import Tally
from agent_sft.data.rewards import Rewards
from agent_sft.files import COPIED, unnamed_file


@dataclass(frozen=True)
class _Files:
    lines: IO[bytes]
    rejects: IO[bytes]
    trail: IO[bytes]


class Ahead:
    """What the preparation will make of the rows of one file of OpenAI rows."""

    def __init__(self, name: str, template: str) -> None:
        """Say what will be asked of the preparation.

        Args:
            name: what the dataset is called.
            template: the chat template that it is trained with.
        """
        self._asked = (name, template)
        self._stack = contextlib.ExitStack()
        self._source: str | None = None
        self._files: _Files | None = None
        self._writing: Writing | None = None

    def begin(self, output: Path) -> Writing:
        """Return what is to be given the rows of `output` as they are written."""
        name, template = self._asked
        self.close()
        with contextlib.ExitStack() as stack:
            self._files = files = _Files(*(stack.enter_context(unnamed_file(output.parent)) for _ in range(3)))
            self._stack = stack.pop_all()
        reading = Reading(dialect_of(template), Rewards(), {str(output): FORMATS[openai.NAME]})
        return Writing(reading, name=name, lines=files.lines, rejects=files.rejects, trail=files.trail)

    def finish(self, output: Path, writing: Writing) -> None:
        """Say that `output` is in its place, and was made of the rows that were given."""
        self._source, self._writing = str(output), writing

    def lines_of(self, source: str, name: str, template: str) -> IO[bytes] | None:
        """Return the file of what the preparation makes of a source, which has no name; None where it is not known."""
        if self._files is None or self._writing is None or (source, (name, template)) != (self._source, self._asked):
            return None
        return self._files.lines

    def hand_over(self, *, rejects: IO[bytes], trail: IO[bytes] | None) -> Tally:
        """Write the rest of what the preparation makes of the source that was asked for."""
        assert self._files is not None and self._writing is not None
        for made, target in ((self._files.rejects, rejects), (self._files.trail, trail)):
            if target is not None:
                made.seek(0)
                shutil.copyfileobj(made, target, COPIED)
        return self._writing.tally

    def close(self) -> None:
        """Give up what was made."""
        self._stack.close()
        self._files = self._source = self._writing = None
