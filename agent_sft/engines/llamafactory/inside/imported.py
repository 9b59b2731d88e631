"""What trainings and encodings share when they are forked: LLaMA-Factory, and what it imports later."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from leaving_out import leave_out

ENGINE = (
    "llamafactory.train.tuner",
    "pyarrow.compute",
    "torch.distributed",
    "transformers.models.qwen2.modeling_qwen2",
)
"""All that a training imports, where it is of one of the models of Qwen2."""
KINDS = ("AutoModelForImageTextToText", "AutoModelForSeq2SeqLM", "AutoModelForTextToWaveform")


def import_engine() -> None:
    """Import what is shared."""
    import_for({"report_to": "none"})


def import_for(settings: dict[str, Any]) -> None:
    """Import what trainings with these settings share."""
    leave_out(settings)
    for name in ENGINE:
        importlib.import_module(name)
    for kind in KINDS:  # LLaMA-Factory looks through them for the class of a model, which imports all that are known
        getattr(sys.modules["transformers"], kind)._model_mapping.keys()


def begin(environment: Mapping[str, str]) -> None:
    """Use as many threads as this program may, its own cache of data, and random numbers of its own."""
    import numpy
    import torch

    if environment.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    if environment.get("HF_DATASETS_CACHE"):
        importlib.reload(sys.modules["datasets.config"])
    numpy.random.seed()
