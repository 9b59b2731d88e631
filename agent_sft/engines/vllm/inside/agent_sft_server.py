"""Starts vLLM's server: `python agent_sft_server.py FLAGS`, the flags of `vllm serve`.

vLLM's server starts an engine, and that its workers, where it has any of their own. On processors vLLM has each of
these processes import torch and vLLM anew, because the processors that a worker's threads are tied to must be known
before OpenMP is loaded. Where they are tied to none (`VLLM_CPU_OMP_THREADS_BIND=nobind`) that reason is gone, and the
processes are forked, as vLLM does where it is used as a library: the server is there in half the time.
"""

import gc
import os
import signal

# Looking for garbage among what is imported, where there is none, takes a sixth of the time of importing it.
gc.disable()


def fork_processes() -> None:
    """Let vLLM fork what it starts, whatever its platform says."""
    from vllm import envs

    envs.environment_variables["VLLM_WORKER_MULTIPROC_METHOD"] = lambda: "fork"
    # A signal to a forked process is not to wake the event loop of the one that it was forked from.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


def main() -> None:
    """Serve."""
    from vllm.entrypoints.launchers.api_server.entry import main as serve
    from vllm.platforms import current_platform

    if current_platform.is_cpu() and os.environ.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind":
        fork_processes()
    gc.freeze()
    gc.enable()
    serve()


if __name__ == "__main__":
    main()
