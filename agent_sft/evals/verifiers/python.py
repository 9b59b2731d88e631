"""`python`: a function of the user's own decides."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field

from agent_sft.errors import UserError, nearest
from agent_sft.evals.verifiers import contract
from agent_sft.evals.verifiers.contract import Answer, Verdict, Verifier, VerifierFailed
from agent_sft.evals.verifiers.registry import register_verifier


@register_verifier("python")
class Python(Verifier):
    """Calls `function(answer, expected)` of a file beside the tasks.

    It returns a score from 0 to 1, a truth, or a `Verdict` that says what is wrong.
    """

    class Config(contract.Config):
        """Its parameters."""

        function: Annotated[str, Field(pattern=r"^[^:]+\.py:\w+$")]
        """`FILE.py:FUNCTION`, the file relative to the folder of the tasks."""
        expected: Any = None
        """What the function gets as its second argument."""

    _function: Callable[[Answer, Any], Any]

    def prepare(self, folder: Path) -> None:
        """Import the file and find the function."""
        file, _, name = self.config.function.rpartition(":")
        path = (folder / file).resolve()
        module = _imported(path)
        found = getattr(module, name, None)
        if not callable(found):
            functions = [key for key, value in vars(module).items() if callable(value)]
            raise UserError(f"{path} has no function '{name}'", fix=nearest(name, functions) or None)
        self._function = found

    def verify(self, answer: Answer) -> Verdict:
        """Return what the function says."""
        try:
            found = self._function(answer, self.config.expected)
        except Exception as error:
            raise VerifierFailed(f"{self.config.function} raised {type(error).__name__}: {error}") from error
        if isinstance(found, Verdict):
            return found
        # Numbers of numpy and such count too; text and None do not.
        if isinstance(found, str | bytes) or not hasattr(found, "__float__") or not 0 <= float(found) <= 1:
            raise VerifierFailed(f"{self.config.function} returned {found!r}, which is no score from 0 to 1")
        score = float(found)
        return Verdict(score, None if score == 1 else f"{self.config.function} gives it {score:g}")


def _imported(path: Path) -> ModuleType:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"there is no file {path}", fix="a 'python' verifier names it") from error
    name = f"agent_sft_verifier_{path.stem}_{sha256(str(path).encode() + content).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"cannot be imported: {type(error).__name__}: {error}", where=str(path)) from error
    return module
