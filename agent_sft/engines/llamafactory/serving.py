"""What to do with a trained model: serve it by LLaMA-Factory's own server, call it, evaluate it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PORT = 8000
EXAMPLE = "Hello, my mobile data does not work."


def api_command(python: Path | None, trained: Path, arguments: Mapping[str, Any], base: Path | None, name: str) -> str:
    """Return the shell command that serves a trained model on 127.0.0.1.

    Args:
        python: the train environment's.
        trained: folder of the trained model, or of the adapter.
        arguments: the settings it was trained with.
        base: folder of the base model when it was made on the spot.
        name: the model's name for its callers.
    """
    environment = {"API_HOST": "127.0.0.1", "API_PORT": str(PORT), "API_MODEL_NAME": name}
    variables = [f"{key}={shlex.quote(value)}" for key, value in environment.items()]
    return " ".join([*variables, _command(python, "api", _model_options(trained, arguments, base))])


def evaluation_command(
    python: Path | None, trained: Path, arguments: Mapping[str, Any], base: Path | None, data_dir: Path, dataset: str
) -> str:
    """Return the shell command that computes a trained model's loss on a dataset, once more or another one.

    Args:
        python: the train environment's.
        trained: folder of the trained model, or of the adapter.
        arguments: the settings it was trained with.
        base: folder of the base model when it was made on the spot.
        data_dir: folder with the `dataset_info.json`.
        dataset: name of the dataset.
    """
    options = {
        "stage": "sft",
        "do_eval": "true",
        **_model_options(trained, arguments, base),
        "cutoff_len": str(arguments["cutoff_len"]),
        "dataset_dir": str(data_dir),
        "eval_dataset": dataset,
        "per_device_eval_batch_size": "1",
        "output_dir": str(trained / "evaluation"),
        "report_to": "none",
    }
    return _command(python, "train", options)


def _model_options(trained: Path, arguments: Mapping[str, Any], base: Path | None) -> dict[str, str]:
    if arguments.get("finetuning_type") != "lora":
        return {"model_name_or_path": str(trained), "template": str(arguments["template"])}
    return {
        "model_name_or_path": str(base or arguments["model_name_or_path"]),
        "adapter_name_or_path": str(trained),
        "finetuning_type": "lora",
        "template": str(arguments["template"]),
    }


def _command(python: Path | None, verb: str, options: Mapping[str, str]) -> str:
    program = str(python.parent / "llamafactory-cli") if python else "llamafactory-cli"
    words = [f"--{key} {shlex.quote(value)}" for key, value in options.items()]
    return " ".join([shlex.quote(program), verb, *words])


def python_snippet(name: str) -> list[str]:
    """Return Python that talks to the served model."""
    return [
        "from openai import OpenAI",
        f'client = OpenAI(base_url="http://127.0.0.1:{PORT}/v1", api_key="none")',
        f'messages = [{{"role": "user", "content": "{EXAMPLE}"}}]',
        f"reply = client.chat.completions.create(model={json.dumps(name)}, messages=messages)",
        "print(reply.choices[0].message.content)",
    ]


def curl_snippet(name: str) -> list[str]:
    """Return a curl command that talks to the served model."""
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": EXAMPLE}]}, ensure_ascii=False)
    return [
        f"curl -s http://127.0.0.1:{PORT}/v1/chat/completions"
        f" -H 'Content-Type: application/json' -d {shlex.quote(body)}",
    ]
