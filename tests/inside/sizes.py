"""What DeepSpeed, transformers and torch themselves say of memory, in one process. Runs in the train environment.

Standard input: {"estimates": {"cases": [[stage, optimizer offloaded, parameters offloaded, processes, nodes], ...],
"total": parameters, "largest": those of the largest layer}, "models": [configuration, ...]}. Result:

    estimates  [bytes on a GPU, bytes in memory] for each case, by DeepSpeed's own estimators
    models     [configuration written out, parameters] for each model, by transformers
    kept       bytes that a layer keeps for the backward pass, with float32 and with bfloat16 weights, by torch
"""

import json
import sys
from typing import Any

import torch
from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as three
from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as two
from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config


def estimates(cases: list[list[Any]], total: int, largest: int) -> list[list[int]]:
    """Ask DeepSpeed's estimators."""
    answers = []
    for stage, optimizer, parameters, processes, nodes in cases:
        if stage == 2:
            host, gpu = two(total, processes, nodes, cpu_offload=optimizer)
        else:
            host, gpu, _ = three(total, largest, processes, nodes, optimizer, parameters)
        answers.append([gpu, host])
    return answers


def counted(case: dict[str, Any]) -> list[Any]:
    """Make a model without weights and count its parameters."""
    config = AutoConfig.for_model(**case)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return [config.to_dict(), sum(parameter.numel() for parameter in model.parameters())]


def kept(weights: torch.dtype) -> int:
    """Run a layer forward and count what it keeps beside its weights."""
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=1,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    model = AutoModelForCausalLM.from_config(config).to(weights)
    states = torch.randn(1, 512, 256, dtype=weights, requires_grad=True)
    rotation = model.model.rotary_emb(states, torch.arange(512)[None])
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False),
    ):
        model.model.layers[0](states, position_embeddings=rotation)
    layer = sum(parameter.numel() for parameter in model.model.layers[0].parameters())
    # float32 weights are kept once more in bfloat16, which does not grow with the examples
    return sum(seen.values()) - (2 * layer if weights == torch.float32 else 0)


asked = json.load(sys.stdin)
found = {
    "estimates": estimates(**asked["estimates"]),
    "models": [counted(case) for case in asked["models"]],
    "kept": [kept(torch.float32), kept(torch.bfloat16)],
}
print(json.dumps(found), file=sys.__stdout__)
