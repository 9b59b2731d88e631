"""Reading a DeepSpeed configuration, and refusing one that cannot train before anything starts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_sft.engines.cache import cached
from agent_sft.engines.deepspeed.agreement import disagreements
from agent_sft.engines.deepspeed.keys import COMMENT_MARKS, TOP_LEVEL_KEYS
from agent_sft.engines.environments import call_inside, engine_versions
from agent_sft.engines.llamafactory.launch import SHARED_DEEPSPEED
from agent_sft.errors import UserError, nearest
from agent_sft.files import digest_file

VALIDATE = Path(__file__).parent / "inside" / "validate.py"
MAX_STAGE = 3


@dataclass(frozen=True)
class DeepSpeedConfig:
    """What the rest of the pipeline needs to know of a DeepSpeed configuration."""

    path: Path
    raw: dict[str, Any]
    """The file's content."""
    stage: int
    """ZeRO stage: 1 splits the optimizer's states over the GPUs, 2 the gradients too, 3 the parameters too."""
    offload_optimizer: str | None
    """Where the optimizer's states live instead of on the GPU: `cpu`, `nvme`, or None."""
    offload_param: str | None
    """Where the parameters live instead of on the GPU: `cpu`, `nvme`, or None."""

    @property
    def gathers_weights_on_save(self) -> bool:
        """Whether a saved model holds its weights: below stage 3 always, at stage 3 when asked to gather them."""
        zero = self.raw["zero_optimization"]
        names = ("gather_16bit_weights_on_model_save", "gather_fp16_weights_on_model_save")
        return self.stage < MAX_STAGE or any(zero.get(f"stage3_{name}") is True for name in names)


def read_config(
    path: Path, arguments: dict[str, Any] | None = None, *, world_size: int | None = None
) -> DeepSpeedConfig:
    """Read a DeepSpeed configuration and check what can be checked without DeepSpeed.

    Args:
        path: the configuration.
        arguments: LLaMA-Factory's settings, which it must agree with.
        world_size: processes in all, where known.

    Raises:
        UserError: no such file, not JSON (with line and column), not an object, no ZeRO stage, a key twice,
            a key that DeepSpeed does not read (with the nearest known name), or a value that contradicts
            the settings.
    """
    config = _read(path)
    if arguments is not None and (found := disagreements(config, arguments, world_size=world_size)):
        raise UserError(found[0], where=str(path))
    return config


def _read(path: Path) -> DeepSpeedConfig:
    raw = _read_object(path)
    for key in raw:
        if key not in TOP_LEVEL_KEYS and not key.startswith(COMMENT_MARKS):
            raise UserError(
                f"DeepSpeed reads no key '{key}': it would have no effect",
                where=str(path),
                fix=nearest(key, TOP_LEVEL_KEYS) or "remove it",
            )
    zero = raw.get("zero_optimization")
    if not isinstance(zero, dict):
        raise UserError(
            "has no 'zero_optimization' section", where=str(path), fix="see ds_configs/ds_zero2.json for an example"
        )
    stage = zero.get("stage")
    if isinstance(stage, bool) or not isinstance(stage, int) or not 0 <= stage <= MAX_STAGE:
        raise UserError(
            f"the ZeRO stage must be 0, 1, 2 or 3, not {json.dumps(stage)}",
            where=f"{path}, zero_optimization.stage",
            fix='write for example "stage": 2',
        )
    return DeepSpeedConfig(
        path=path,
        raw=raw,
        stage=stage,
        offload_optimizer=_offload_device(path, zero, "offload_optimizer"),
        offload_param=_offload_device(path, zero, "offload_param"),
    )


def validate(path: Path, python: Path, version: str | None = None) -> DeepSpeedConfig:
    """Read a configuration and hold it against the schema of the DeepSpeed that will train.

    The answer is kept by the file's content and DeepSpeed's version: the second time costs nothing.

    Args:
        path: the configuration.
        python: the train environment's.
        version: DeepSpeed's version there, asked for when not given.

    Raises:
        UserError: naming the key's path and, for an unknown key, the nearest known one.
    """
    config = read_config(path)
    version = version or engine_versions(python, ("deepspeed",))["deepspeed"]
    if version is None:
        raise UserError(
            "DeepSpeed is not installed in the train environment",
            where=str(python),
            fix="install it there, or leave out --deepspeed",
        )
    problems = cached(
        "deepspeed-schema",
        {"file": digest_file(path), "deepspeed": version, "program": digest_file(VALIDATE)},
        lambda: call_inside(python, VALIDATE, str(path.resolve()), timeout=300, started=SHARED_DEEPSPEED.forked),
    )["problems"]
    if problems:
        first = problems[0]
        key = ".".join(first["path"])
        where = f"{path}, {key}" if key else str(path)
        hint = nearest(first["path"][-1], first["known"]) if first["known"] and first["path"] else ""
        raise UserError(f"DeepSpeed {version} refuses it: {first['message']}", where=where, fix=hint or None)
    return config


def _read_object(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError("no such file", where=str(path), fix="ds_configs/ has ready-made ones") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=str(path)) from error
    try:
        raw = json.loads(text, object_pairs_hook=lambda pairs: _unique(path, pairs))
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}, column {error.colno}"
        raise UserError(f"not JSON: {error.msg}", where=where) from error
    if not isinstance(raw, dict):
        raise UserError("a DeepSpeed configuration is a JSON object", where=str(path))
    return raw


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a key that stands in it twice, as DeepSpeed itself does."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"the key '{twice}' stands in the same object twice", where=str(path), fix="keep one of them")
    return made


def _offload_device(path: Path, zero: dict[str, Any], name: str) -> str | None:
    legacy = {"offload_optimizer": "cpu_offload", "offload_param": "cpu_offload_param"}[name]
    section = zero.get(name)
    if section is None:
        return "cpu" if zero.get(legacy) is True else None
    if not isinstance(section, dict):
        raise UserError(
            f'must be an object such as {{"device": "cpu"}}, not {json.dumps(section)}',
            where=f"{path}, zero_optimization.{name}",
        )
    device = section.get("device", "none")
    return None if device in ("none", "auto") else str(device)
