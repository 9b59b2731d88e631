"""The environment that vLLM's server is started in."""

from __future__ import annotations

import os

from agent_sft.engines.forks.sharing import Shared
from agent_sft.engines.vllm.facts import INSIDE

FEW_PROCESSORS = 8
"""Up to as many, servers and trainings beside each other share the processors: none ties its threads to some."""
WITHOUT_WORKER = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""The executor that computes within the engine's process."""
KEY = "VLLM_API_KEY"
SHARED = Shared("serve", INSIDE / "imported.py", (KEY, "HF_DATASETS_CACHE"))
"""Without a GPU: importing vLLM looks at it."""
CAPABILITY = "AGENT_SFT_CAPABILITY"
"""The file of what is put before every conversation, if anything is."""
GUARD = "agent_sft_guard.Guard"
WORKER = "agent_sft_worker.Worker"
REPACK = "agent_sft_repack"
"""A method of that worker: what exchanging weights leaves undone."""


def shares_processors() -> bool:
    """Tell whether a server on processors leaves its threads where the system puts them."""
    bound = os.environ.get("VLLM_CPU_OMP_THREADS_BIND")
    return bound == "nobind" if bound is not None else len(os.sched_getaffinity(0)) <= FEW_PROCESSORS


def serving_environment(key: str, *, local: bool, on_gpu: bool) -> dict[str, str]:
    """Return the environment variables of a server: ours, with what vLLM needs.

    Args:
        key: the API key, which stands nowhere else.
        local: whether the model lies in a folder.
        on_gpu: whether it is served on GPUs.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    places = [str(INSIDE), *filter(None, [environment.get("PYTHONPATH")])]
    environment |= {
        KEY: key,
        "PYTHONPATH": os.pathsep.join(places),  # the guard and the worker are found here
        "PYTHONUNBUFFERED": "1",
        "VLLM_NO_USAGE_STATS": "1",
        # Its processes talk to each other over this machine's own address.
        "VLLM_HOST_IP": "127.0.0.1",
        # Adapters and weights can be exchanged while it runs: only with the key, which the guard sees to.
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_SERVER_DEV_MODE": "1",
    }
    if local:
        environment.setdefault("HF_HUB_OFFLINE", "1")
    if not on_gpu and shares_processors():
        # vLLM would tie its threads to the same few processors as any other server here.
        environment["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        # Threads wait for each other by spinning: one too many, and each step waits for whoever has its processor.
        environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) - 1)))
    return environment


_NOT_PASSED_ON = frozenset(
    {
        # It would keep what vLLM and torch compile from being kept.
        "PYTHONDONTWRITEBYTECODE",
        *("VIRTUAL_ENV", "PYTHONHOME", CAPABILITY),
        # A topology that is not this server's.
        *("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    }
)
