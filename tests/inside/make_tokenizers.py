"""Makes folders with a tokenizer like those of large families of models. Runs inside the train environment.

Reads {"folder": where they go, "texts": to learn from} as JSON from standard input. Of the families with letters as
units (llama2, gemma) bytes stand in for letters that are not known; the others have bytes as units.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer

LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?"  # words and numbers; then everything else
    r"[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = [f"<0x{number:02X}>" for number in range(256)]
FAMILIES: dict[str, dict[str, Any]] = {
    "llama3": {
        "class": "PreTrainedTokenizerFast",
        "special": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        "bos": "<|begin_of_text|>",
        "eos": "<|eot_id|>",
        "words": LLAMA3_WORDS,
    },
    "glm4": {
        "class": "PreTrainedTokenizerFast",
        "special": ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"],
        "bos": None,
        "eos": "<|endoftext|>",
        "words": LLAMA3_WORDS,
    },
    "mistral": {
        "class": "LlamaTokenizerFast",
        "special": ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"],
        "bos": "<s>",
        "eos": "</s>",
        "unk": "<unk>",
    },
    "gemma": {
        "class": "GemmaTokenizerFast",
        "special": ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
        "bos": "<bos>",
        "eos": "<eos>",
        "unk": "<unk>",
    },
}


def byte_level(family: dict[str, Any], texts: Sequence[str]) -> Tokenizer:
    """Return a tokenizer whose smallest units are bytes."""
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(family["words"]), behavior="isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def letter_level(family: dict[str, Any], texts: Sequence[str]) -> Tokenizer:
    """Return a tokenizer whose smallest units are letters, and bytes of those that it does not know."""
    learned = Tokenizer(models.BPE())
    learned.normalizer = normalizers.Replace(" ", "▁")
    learned.pre_tokenizer = pre_tokenizers.Split(Regex(r"▁?[^▁]+|▁+"), behavior="isolated")
    learned.train_from_iterator(texts, BpeTrainer(vocab_size=500, show_progress=False))
    model = json.loads(learned.to_str())["model"]
    names = [*family["special"], *BYTES, *(name for name in model["vocab"])]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def main() -> None:
    """Make all families."""
    order = json.load(sys.stdin)
    for name, family in FAMILIES.items():
        tokenizer = (byte_level if "words" in family else letter_level)(family, order["texts"])
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in family["special"]])
        folder = Path(order["folder"]) / name
        folder.mkdir(parents=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        names = {f"{part}_token": family.get(part) for part in ("bos", "eos", "unk")}
        settings = {"tokenizer_class": family["class"], "model_max_length": 32768, **names}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}), encoding="utf-8")
    print("null", file=sys.__stdout__)


if __name__ == "__main__":
    main()
