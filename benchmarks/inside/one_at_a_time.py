"""Runs an Inspect task on a served model, one trial after the other: what a plain loop over a benchmark does.

Usage: one_at_a_time.py TASK_FILE URL NAME LOG_FOLDER TRIALS TASKS

The key is in LOCAL_API_KEY; TASKS 0: all. Result: {"score": mean over the trials}.
"""

import json
import os
import sys
from typing import Any

from inspect_ai import eval as inspect_eval
from inspect_ai.model import GenerateConfig, get_model, modelapi
from inspect_ai.model._openai import openai_chat_tools
from inspect_ai.model._providers.openai_compatible import OpenAICompatibleAPI


class Served(OpenAICompatibleAPI):  # type: ignore[misc]
    """Inspect's own provider, without the `strict` that it adds to tools: the model was trained without."""

    def tools_to_openai(self, tools: list[Any]) -> list[Any]:
        """Return the tools as they are."""
        return list(openai_chat_tools(tools))


@modelapi(name="served")  # type: ignore[untyped-decorator]
def served() -> type[Served]:
    """Let Inspect find it by its name."""
    return Served


def main() -> None:
    """Run the trials and print the score."""
    task, url, name, logs, trials, tasks = sys.argv[1:]
    model = get_model(f"served/local/{name}", base_url=url, config=GenerateConfig(max_connections=1))
    (log,) = inspect_eval(
        task,
        model=model,
        epochs=int(trials),
        limit=int(tasks) or None,
        temperature=1.0,
        max_samples=1,
        log_dir=logs,
        display="none",
    )
    if log.status != "success" or log.results is None:
        raise SystemExit(f"Inspect ended with '{log.status}': {log.error.message if log.error else 'no results'}")
    scores = [score.as_float() for sample in log.samples or [] for score in (sample.scores or {}).values()]
    print(json.dumps({"score": sum(scores) / len(scores), "trials": len(scores)}), file=sys.__stdout__)


if __name__ == "__main__":
    os.environ["INSPECT_DISPLAY"] = "none"
    main()
