"""Makes a random Qwen2 with a tokenizer of its own from prepared conversations.

Standard input: {"data": JSONL file, "folder": existing folder, "seed": int, "like": the fields of
agent_sft.config.tiny.TinyModel}. Result: {"parameters": int, "tokens": int}, the size of the model and
of the tokenizer's vocabulary.

Of the engine's packages only numpy and tokenizers are imported: torch and transformers alone would take
longer than all that is done here.
"""

import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

CONTEXT = 32768
TEXT_LIMIT = 16_000_000  # characters; more make the tokenizer slower to train, not better

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

# How Qwen2's tokenizer cuts text into words. transformers builds exactly this for the class Qwen2Tokenizer.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

DEFAULT_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
TOOLS_BEGIN = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
TOOLS_END = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)
CHAT_TEMPLATE = """\
{%- set turns = messages -%}
{%- set system = '' -%}
{%- if messages[0].role == 'system' -%}
  {%- set system = messages[0].content or '' -%}
  {%- set turns = messages[1:] -%}
{%- endif -%}
{{- '<|im_start|>system\\n' + (system or DEFAULT_SYSTEM) -}}
{%- if tools -%}
  {{- TOOLS_BEGIN -}}
  {%- for tool in tools -%}
    {{- '\\n' + (tool if tool.type == 'function' else {'type': 'function', 'function': tool}) | tojson -}}
  {%- endfor -%}
  {{- TOOLS_END -}}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- for turn in turns -%}
  {%- if turn.role == 'tool' -%}
    {{- '<|im_start|>user' if loop.first or loop.previtem.role != 'tool' -}}
    {{- '\\n<tool_response>\\n' + (turn.content or '') + '\\n</tool_response>' -}}
    {{- '<|im_end|>\\n' if loop.last or loop.nextitem.role != 'tool' -}}
  {%- else -%}
    {{- '<|im_start|>' + turn.role + '\\n' + (turn.content or '') -}}
    {%- for call in turn.tool_calls or [] -%}
      {%- set call = call.function or call -%}
      {{- '\\n' if turn.content or not loop.first -}}
      {{- '<tool_call>\\n{"name": ' + call.name | tojson + ', "arguments": ' -}}
      {{- call.arguments if call.arguments is string else call.arguments | tojson -}}
      {{- '}\\n</tool_call>' -}}
    {%- endfor -%}
    {{- '<|im_end|>\\n' -}}
  {%- endif -%}
{%- endfor -%}
{{- '<|im_start|>assistant\\n' if add_generation_prompt -}}
"""


def main() -> None:
    """Make the model and print what was made."""
    order = json.load(sys.stdin)
    shape = order["like"]
    folder = Path(order["folder"])
    data = Path(order["data"])
    whole = [*shape["one_token"], *(shared_parts(data) if shape["shared_as_one"] else [])]
    tokenizer = train_tokenizer(data, shape["tokens"], whole)
    tokenizer.save(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    # A multiple of 64 suits matrix units, and lets the embedding be cut evenly among GPUs.
    shape["vocabulary"] = max(shape["vocabulary"], -(-size // 64) * 64)
    ids = {"eos": tokenizer.token_to_id(TURN_END), "pad": tokenizer.token_to_id(END_OF_TEXT)}
    write(folder / "tokenizer_config.json", tokenizer_config(tokenizer))
    write(folder / "config.json", model_config(shape, ids))
    write(folder / "generation_config.json", {"eos_token_id": [ids["eos"], ids["pad"]], "pad_token_id": ids["pad"]})
    with (folder / "model.safetensors").open("wb") as stream:
        parameters = write_weights(stream, tensors(shape), shape["weight_scale"], order["seed"])
    print(json.dumps({"parameters": parameters, "tokens": size}), file=sys.__stdout__)


def texts(data: Path) -> Iterator[str]:
    """Return the texts a tokenizer learns from; what many rows share, a policy or tools, only once."""
    yield from (DEFAULT_SYSTEM, TOOLS_BEGIN, TOOLS_END, "system\n", "user\n", "assistant\n")
    seen: set[str] = set()
    taken = 0
    with data.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            for text in (row.get("system"), *tools_of(row), *(turn["value"] for turn in row["conversations"])):
                if not text or text in seen:
                    continue
                seen.add(text)
                taken += len(text)
                if taken > TEXT_LIMIT:
                    return
                yield text


def shared_parts(data: Path) -> list[str]:
    """Return what the prompts of all rows begin with: the policy, the words around the tools, each tool as rendered."""
    shared: dict[str, None] | None = None
    with data.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            tools = tools_of(row)
            parts = [row.get("system") or DEFAULT_SYSTEM, *tools]
            parts += [TOOLS_BEGIN, TOOLS_END] if tools else []
            shared = {part: None for part in (parts if shared is None else shared) if part in parts}
    return list(shared or ())


def tools_of(row: dict[str, Any]) -> list[str]:
    """Return the tools of a row, each as the template renders it."""
    tools = json.loads(row.get("tools") or "[]")
    bare = (tool if tool.get("type") == "function" else {"type": "function", "function": tool} for tool in tools)
    return [json.dumps(tool, ensure_ascii=False) for tool in bare]


def train_tokenizer(data: Path, tokens: int, whole: list[str]) -> Tokenizer:
    """Train a byte-level BPE tokenizer of at most `tokens` tokens, Qwen2's in everything but the vocabulary.

    Each of `whole` is one token of it, wherever it stands; what is learned are the words between them.
    """
    between = re.compile("|".join(map(re.escape, sorted(whole, key=len, reverse=True))) or "(?!)")
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = NFC()
    cut = Split(Regex(WORDS), behavior="isolated")
    tokenizer.pre_tokenizer = Sequence([cut, ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = ByteLevelDecoder()
    special = (END_OF_TEXT, TURN_START, TURN_END)
    trainer = BpeTrainer(
        vocab_size=tokens - len(special) - len(MARKERS) - len(whole),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces = (piece for text in texts(data) for piece in between.split(text))
    tokenizer.train_from_iterator(pieces, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    # One token each, but visible in decoded text: a server finds the calls by them.
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in (*MARKERS, *whole)])
    return tokenizer


def tokenizer_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return tokenizer_config.json. Qwen2Tokenizer is a class that every version of transformers has."""
    constants = {"DEFAULT_SYSTEM": DEFAULT_SYSTEM, "TOOLS_BEGIN": TOOLS_BEGIN, "TOOLS_END": TOOLS_END}
    head = "".join("{%- set " + f"{name} = {json.dumps(text)} -%}}\n" for name, text in constants.items())
    added = {
        str(token_id): {
            "content": token.content,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token.special,
        }
        for token_id, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": [TURN_START, TURN_END],
        "bos_token": None,
        "chat_template": head + CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": TURN_END,
        "model_max_length": CONTEXT,
        "pad_token": END_OF_TEXT,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def model_config(shape: dict[str, Any], ids: dict[str, int]) -> dict[str, Any]:
    """Return config.json."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": ids["eos"],
        "hidden_act": "silu",
        "hidden_size": shape["hidden"],
        "initializer_range": shape["weight_scale"],
        "intermediate_size": shape["intermediate"],
        "max_position_embeddings": CONTEXT,
        "max_window_layers": shape["layers"],
        "model_type": "qwen2",
        "num_attention_heads": shape["heads"],
        "num_hidden_layers": shape["layers"],
        "num_key_value_heads": shape["key_value_heads"],
        "pad_token_id": ids["pad"],
        "rms_norm_eps": 1e-06,
        "rope_theta": shape["rope_theta"],
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": shape["vocabulary"],
    }


def tensors(shape: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight of a Qwen2 whose output embedding is its input embedding."""
    hidden, wide = shape["hidden"], shape["intermediate"]
    narrow = hidden // shape["heads"] * shape["key_value_heads"]
    layer: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (hidden,)}
    for name, size in (("q", hidden), ("k", narrow), ("v", narrow)):
        layer |= {f"self_attn.{name}_proj.weight": (size, hidden), f"self_attn.{name}_proj.bias": (size,)}
    layer |= {
        "self_attn.o_proj.weight": (hidden, hidden),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (wide, hidden),
        "mlp.up_proj.weight": (wide, hidden),
        "mlp.down_proj.weight": (hidden, wide),
    }
    names: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape["vocabulary"], hidden)}
    for number in range(shape["layers"]):
        names |= {f"model.layers.{number}.{name}": size for name, size in layer.items()}
    return {**names, "model.norm.weight": (hidden,)}


def write_weights(stream: BinaryIO, shapes: dict[str, tuple[int, ...]], scale: float, seed: int) -> int:
    """Write random float32 weights as a safetensors file: header length, header, values. Return their number.

    Matrices are drawn from N(0, scale²), as transformers does for Qwen2; biases are 0 and norms 1.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, size in shapes.items():
        begin, end = end, end + 4 * int(np.prod(size))
        header[name] = {"dtype": "F32", "shape": list(size), "data_offsets": [begin, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)  # the values begin at a multiple of 8
    stream.write(struct.pack("<Q", len(encoded)) + encoded)
    random = np.random.default_rng(seed)
    for name, size in shapes.items():
        if len(size) == 2:
            values = random.standard_normal(size, dtype=np.float32) * np.float32(scale)
        else:
            values = np.full(size, 0.0 if name.endswith("bias") else 1.0, dtype=np.float32)
        stream.write(values.astype("<f4", copy=False).data)
    return end // 4


def write(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
