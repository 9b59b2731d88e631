"""Known ways vLLM fails, and the remedy for each."""

from __future__ import annotations

KNOWN: tuple[tuple[str, str], ...] = (
    (
        r"[Aa]ddress already in use|EADDRINUSE",
        "the port is taken by another program: leave --port out and a free one is used",
    ),
    (
        r"is greater than the derived max_model_len|max_model_len .* is greater than",
        "the model is not made for so many tokens: give a lower --set max_model_len=N, or none",
    ),
    (
        r"To serve at least one request with the model's max seq len|larger than the available KV cache memory|"
        r"larger than the maximum number of tokens that can be stored in KV cache",
        "memory does not suffice for one conversation of full length: --set max_model_len=8192 takes less; on a GPU"
        " also --set gpu_memory_utilization=0.95, on more of them --gpus 0,1",
    ),
    (
        r"CUDA out of memory|OutOfMemoryError|No available memory for the cache blocks|"
        r"Free memory on device .* is less than|allocation is less than requested memory for kv|"
        r"can't allocate memory",
        "memory does not suffice: free the GPU (see nvidia-smi), share the model among more GPUs (--gpus 0,1), make"
        " room for fewer tokens (--set max_model_len=8192) or take less of it (--set gpu_memory_utilization=0.8;"
        " without a GPU --set kv_cache_memory_bytes=1000000000)",
    ),
    (
        r"default chat template is no longer allowed|does not define one|no chat template|chat template.*not found",
        "the tokenizer has no chat template: --set chat_template=FILE gives it one",
    ),
    (
        r"[Mm]odel architectures? .*(not supported|failed to be inspected)|does not recognize this architecture|"
        r"are not supported for now",
        "this vLLM cannot serve the model's architecture: try --backend llamafactory",
    ),
    (
        r"must be divisible by tensor parallel size",
        "so many GPUs cannot share the model evenly: choose their number by --gpus",
    ),
    (
        r"is greater than max_lora_rank",
        "the adapter's rank is higher than the server was started for: --set max_lora_rank=N",
    ),
    (
        r"[Tt]okenizer.*(does not exist|Can't load)|Can't load tokenizer|couldn't instantiate the backend tokenizer",
        "the folder lacks the tokenizer: copy the tokenizer's files of the base model into it",
    ),
    (
        r"LocalEntryNotFoundError|couldn't connect to|OfflineModeIsEnabled|Repository Not Found",
        "the model cannot be loaded from there: check the name, the network and HF_TOKEN, or give a local folder",
    ),
    (r"No space left on device|\[Errno 28\]", "the disk is full: free some space"),
)
