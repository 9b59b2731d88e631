"""agent-sft: recorded agent conversations to a fine-tuned, served and evaluated model."""

import importlib

__version__ = "0.1.0"

_OF_JOBS = ("CapabilityRef", "Client", "DatasetRef", "Job", "SFTJob")
_PUBLIC = {**dict.fromkeys(_OF_JOBS, "client"), "Experiment": "experiment"}
"""What `from agent_sft import NAME` gives, and the module that it is imported from then."""


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'agent_sft' has no attribute '{name}'")
    return getattr(importlib.import_module(f"agent_sft.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
