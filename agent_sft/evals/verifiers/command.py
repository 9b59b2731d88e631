"""`command`: a program of the user's own decides."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Any

import msgspec
from pydantic import Field

from agent_sft.errors import UserError
from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import ACCEPTED, Answer, Verdict, Verifier, VerifierFailed, excerpt, rejected
from agent_sft.evals.verifiers.registry import register_verifier

GRACE = 5.0
"""Seconds after the time limit until we no longer wait for what the command left behind."""


@register_verifier("command")
class Command(Verifier):
    """Runs a command in the folder of the tasks, with `{"answer": ..., "expected": ...}` as JSON on standard input.

    It accepts with exit code 0 and rejects with 1; what it prints last is the reason. Any other code is a failure of
    the verifier. An answer that it takes too long for is rejected.
    """

    class Config(contract.Config):
        """Its parameters."""

        command: Annotated[list[str], Field(min_length=1)]
        """The program and its arguments; no shell reads them."""
        expected: Any = None
        """What the command gets beside the answer."""
        time_limit: Annotated[float, Field(gt=0, le=3600)] = 30.0
        """Seconds."""

    _folder: Path

    def prepare(self, folder: Path) -> None:
        """Find the program."""
        self._folder = folder.resolve()
        program = self.config.command[0]
        found = shutil.which(str(self._folder / program) if "/" in program else program)
        if found is None:
            raise UserError(f"there is no program '{program}'", fix="name one on the PATH, or a file as ./NAME")

    def verify(self, answer: Answer) -> Verdict:
        """Return what the command says."""
        config = self.config
        # A process of its own keeps the time: what runs ends also when we are killed. KILL to the group: all of it.
        words = ["timeout", "--signal=KILL", f"{config.time_limit}", *config.command]
        try:
            done = subprocess.run(
                words,
                input=msgspec.json.encode({"answer": answer, "expected": config.expected}),
                cwd=self._folder,
                capture_output=True,
                timeout=config.time_limit + GRACE,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return rejected(f"{config.command[0]} took longer than {config.time_limit:g} s")
        if done.returncode in (-9, 137):
            return rejected(f"{config.command[0]} took longer than {config.time_limit:g} s")
        if done.returncode == 0:
            return ACCEPTED
        said = (done.stdout if done.returncode == 1 else done.stderr or done.stdout).decode(errors="replace")
        last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
        if done.returncode == 1:
            return rejected(last.strip()[:200] or f"{config.command[0]} rejects it")
        raise VerifierFailed(f"{config.command[0]} ended with code {done.returncode}: {excerpt(last)}")
