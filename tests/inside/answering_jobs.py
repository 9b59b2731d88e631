"""Runs in the train environment: what the model that trains answers with, without a model.

Standard input: {"inside": the folder of `answering.py`, "logits": [...], "temperature": ..., "samples": ...}.
Result: how often each token was sampled, twice with the same seeds; and calls read from texts.
"""

import json
import sys


def main() -> None:
    """Answer one question."""
    question = json.load(sys.stdin)
    sys.path.insert(0, question["inside"])
    import torch
    from answering import Sampled, _calls, _message

    seeds = range(question["samples"])
    scores = torch.tensor([question["logits"]] * len(seeds))
    runs = [Sampled(question["temperature"], seeds)(scores, scores).argmax(-1).tolist() for _ in range(2)]
    counts = [[run.count(token) for token in range(len(question["logits"]))] for run in runs]
    function = {"name": "f", "arguments": '{"a": 1}'}
    message = _message({"role": "assistant", "content": None, "tool_calls": [{"function": function}]})
    found = {
        "counts": counts,
        "same": runs[0] == runs[1],
        "calls": [[call["function"] for call in _calls(text)] for text in question["texts"]],
        "message": message,
    }
    print(json.dumps(found), file=sys.__stdout__)


if __name__ == "__main__":
    main()
