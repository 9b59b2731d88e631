"""Evaluates by a LLaMA-Factory YAML, through LLaMA-Factory's own `run_exp`, and tells the loss of each example.

Usage: evaluate.py SETTINGS.yaml ATTEMPT_DIR

Writes losses.json into ATTEMPT_DIR: of each example, in order, its loss in nats per token and the tokens with loss.
"""

import ctypes
import gc
import json
import signal
import sys
from pathlib import Path
from typing import Any

# Looking for garbage among what is imported, where there is none, takes a sixth of the time of importing it.
gc.disable()
import yaml
from leaving_out import leave_out
from transformers import TrainerCallback

PR_SET_PDEATHSIG = 1
IGNORED = -100
"""The label of tokens that carry no loss."""


class Losses(TrainerCallback):  # type: ignore[misc]
    """Keeps the loss of every example that goes through the model, one at a time."""

    def __init__(self, attempt: Path) -> None:
        self.attempt = attempt
        self.losses: list[float] = []
        self.tokens: list[int] = []

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at what comes out of the model."""
        kwargs["model"].register_forward_hook(self._note, with_kwargs=True)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write what was seen."""
        path = self.attempt / "losses.json"
        path.write_text(json.dumps({"losses": self.losses, "tokens": self.tokens}), encoding="utf-8")

    def _note(self, _model: Any, _args: Any, given: dict[str, Any], output: Any) -> None:
        labels, loss = given.get("labels"), getattr(output, "loss", None)
        if labels is not None and loss is not None and len(labels) == 1:
            self.losses.append(float(loss))
            # The first token is foreseen by nobody.
            self.tokens.append(int((labels[:, 1:] != IGNORED).sum()))


def main() -> None:
    """Evaluate."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    settings = yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8"))
    leave_out(settings)
    from llamafactory.train.tuner import run_exp

    gc.enable()
    run_exp(settings, callbacks=[Losses(Path(sys.argv[2]))])


if __name__ == "__main__":
    main()
