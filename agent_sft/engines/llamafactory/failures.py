"""Known ways a training fails, and the remedy for each."""

from __future__ import annotations

from pathlib import Path

from agent_sft.engines.failures import KILLED, known_remedy

_NO_MEMORY = r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED"

_KNOWN: tuple[tuple[str, str], ...] = (
    (
        _NO_MEMORY,
        "the GPU's memory does not suffice: try --batch-size 1, --deepspeed ds_configs/ds_zero3.json,"
        " --finetuning-type lora, or a smaller --cutoff-len (`agent-sft doctor` estimates each)",
    ),
    (
        r"No space left on device|OSError: \[Errno 28\]|iostream error",
        "the disk is full: free some space and run the same command again, it goes on from the last whole checkpoint",
    ),
    (
        r"Address already in use|EADDRINUSE",
        "the port is taken: give another --master-port",
    ),
    (
        r"LocalEntryNotFoundError|couldn't connect to|OfflineModeIsEnabled|Repository Not Found|is not a local folder",
        "the model cannot be loaded from there: check the name, the network and HF_TOKEN, or give a local folder",
    ),
    (
        r"Unable to find ninja|Ninja is required|error: command 'g\+\+' failed|No such file or directory: 'g\+\+'",
        "DeepSpeed compiles its CPU optimizer: install g++ and the Python headers, or choose a config without offload",
    ),
)


def ran_out_of_memory(log: Path) -> bool:
    """Tell whether a training failed because a GPU's memory did not suffice."""
    return known_remedy(log, ((_NO_MEMORY, "memory"),)) is not None


def remedy(log: Path, exit_code: int) -> str | None:
    """Return what to do about a failed training, if its log or exit code tell the cause.

    Args:
        log: the trainer's output.
        exit_code: 128 + signal number when a signal ended it.
    """
    known = known_remedy(log, _KNOWN)
    if known is None and (exit_code == KILLED or known_remedy(log, ((r"exitcode\s*:\s*-9", "killed"),))):
        return "the system killed the trainer, most often because memory ran out: see `dmesg`, use less of it"
    return known
