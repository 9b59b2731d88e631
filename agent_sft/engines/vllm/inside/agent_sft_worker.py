"""What vLLM's workers do beside their own: `--worker-extension-cls agent_sft_worker.Worker`."""

from __future__ import annotations

from typing import Any


class Worker:
    """Methods that vLLM adds to each of its workers."""

    model_runner: Any

    def agent_sft_repack(self) -> int:
        """Pack the output layer anew after weights were exchanged; return how many layers that were.

        On processors vLLM computes with a packed copy of each weight. Exchanging weights packs every layer anew that
        the checkpoint has weights for, and an output layer that is tied to the embeddings has none of its own.
        """
        packed = 0
        for layer in self.model_runner.get_model().modules():
            if type(layer).__name__ == "ParallelLMHead" and hasattr(layer, "cpu_linear"):
                layer.quant_method.process_weights_after_loading(layer)
                packed += 1
        return packed
