"""What servers share when they are forked: vLLM, and what its server and its engine import later."""

import importlib
from collections.abc import Mapping
from contextlib import suppress

ENGINE = ("vllm.entrypoints.launchers.api_server.entry", "vllm.platforms")
LATER = (
    "vllm.v1.executor",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.sample.ops.penalties",
    "vllm.model_executor.layers.quantization.online.base",
    "vllm.model_executor.models.qwen2",
    "model_hosting_container_standards.sagemaker",
    "vllm.entrypoints.anthropic.api_router",
    "vllm.entrypoints.openai.chat_completion.api_router",
    "vllm.entrypoints.openai.responses.api_router",
    "vllm.entrypoints.rl.online.api_router",
    "vllm.entrypoints.scale_out.render.api_router",
)
"""Most of what a server of one of the models of Qwen2 imports when it knows what to serve."""


def import_engine() -> None:
    """Import what is shared."""
    for name in ENGINE:
        importlib.import_module(name)
    for name in LATER:
        with suppress(ImportError):  # another vLLM, which has it elsewhere
            importlib.import_module(name)
    with suppress(ImportError):
        # The place of a process's title is found by its environment, which is another one later.
        importlib.import_module("setproctitle").getproctitle()


def begin(environment: Mapping[str, str]) -> None:
    """Use as many threads as this program may."""
    import torch

    if environment.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
