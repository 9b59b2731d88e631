"""Trains by LLaMA-Factory for some steps and prints what they took.

Standard input: {"settings": LLaMA-Factory's settings, "warmup": steps not measured}. Result: seconds, tokens
and conversations of the measured steps, losses of all steps, peak memory, lengths of all examples.
"""

import json
import resource
import sys
import time
from typing import Any

import torch
from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer
from llamafactory.train.tuner import run_exp
from transformers import TrainerCallback


class Meter(TrainerCallback):  # type: ignore[misc]
    """Takes the time of the steps after the warm-up; ends before the model would be saved."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.begun = 0.0
        self.step_seconds: list[float] = []
        self.losses: list[float] = []
        self.counting = warmup == 0
        self.counts: list[torch.Tensor] = []
        self.result: dict[str, Any] = {}

    def count(self, inputs: dict[str, Any], pad: int) -> None:
        """Note the tokens of one forward pass, without waiting for the GPU."""
        if self.counting:
            real = (inputs["input_ids"] != pad).sum()
            self.counts.append(torch.stack([real, (inputs["labels"] != -100).sum()]))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock with the first step that counts."""
        if state.global_step == self.warmup:
            synchronize()
            self.counting = True
            self.begun = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note when a step's work was done."""
        if self.counting:
            synchronize()
            self.step_seconds.append(time.perf_counter() - self.begun)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Keep the losses."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Give the result and leave."""
        data = kwargs["train_dataloader"].dataset
        counts = torch.stack(self.counts).sum(dim=0).tolist()
        result = {
            "seconds": self.step_seconds[-1],
            "step_seconds": self.step_seconds,
            "steps": len(self.step_seconds),
            "tokens": counts[0],
            "loss_tokens": counts[1],
            "losses": self.losses,
            "peak_bytes": peak_bytes(),
            "rows": [len(ids) for ids in data["input_ids"]],
            "parameters": sum(value.numel() for value in model.parameters()),
            "attention": model.config._attn_implementation,
            "torch": torch.__version__,
        }
        print(json.dumps(result), file=sys.__stdout__)
        raise SystemExit(0)


def synchronize() -> None:
    """Wait until the GPU has done all it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_bytes() -> int:
    """Return the most memory that tensors took on the GPU; without one, this process in the machine's."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Train and measure."""
    order = json.load(sys.stdin)
    meter = Meter(order["warmup"])
    original = CustomSeq2SeqTrainer.training_step

    def counted(self: Any, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        meter.count(inputs, self.processing_class.pad_token_id)
        return original(self, model, inputs, *args, **kwargs)

    CustomSeq2SeqTrainer.training_step = counted
    run_exp(order["settings"], callbacks=[meter])


if __name__ == "__main__":
    main()
