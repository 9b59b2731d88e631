"""Makes the example of a model that names the tool for a request: requests, each with its tool, and held-out tasks.

Run from the root of the repository:

    .venv/bin/python examples/tool_slugs/make_data.py [FOLDER]

A request is one of several ways to say a wish, about something of a service. No request of the tasks stands in the
training data, though each of its words does: what is scored is whether the model has learned what the words mean.
"""

import json
import random
import sys
from pathlib import Path

SERVICES = {
    "MAIL": ("in my inbox", "by mail"),
    "CHAT": ("in the team chat", "on the channel"),
    "CALENDAR": ("on my calendar", "in my diary"),
    "DRIVE": ("on the drive", "in the shared folder"),
}
ACTIONS = {
    "CREATE": ("create", "add", "make", "set up"),
    "DELETE": ("delete", "remove", "get rid of", "throw out"),
    "FIND": ("find", "look up", "search for", "show me"),
}
OBJECTS = {"ITEM": ("the new entry", "that entry"), "LABEL": ("the red label", "that label")}
FRAMES = ("{what}", "please {what}", "can you {what}", "I want to {what}", "{what} right now")
TASKS = 48


def requests() -> list[tuple[str, str]]:
    """Return every request with the slug of its tool."""
    return [
        (frame.format(what=f"{verb} {thing} {place}"), f"{service}_{action}_{kind}")
        for service, places in SERVICES.items()
        for place in places
        for action, verbs in ACTIONS.items()
        for verb in verbs
        for kind, things in OBJECTS.items()
        for thing in things
        for frame in FRAMES
    ]


def tasks(held_out: list[tuple[str, str]]) -> list[dict[str, object]]:
    """Return requests as tasks, with what says whether an answer is right."""
    return [
        {
            "task_id": f"val-{number}",
            "system": "You name the one tool that a request needs.",
            "instruction": f"Request: {query}\nAnswer with the tool's slug inside <answer></answer>.",
            "verifier": {"kind": "in_process", "fn_name": "contains", "expected": f"<answer>{slug}</answer>"},
            "family": slug.split("_")[0],
        }
        for number, (query, slug) in enumerate(held_out)
    ]


def main(folder: Path) -> None:
    """Write the training data and the tasks."""
    rows = requests()
    random.Random(7).shuffle(rows)
    held_out, trained = rows[:TASKS], rows[TASKS : TASKS + 480]
    lines = [json.dumps({"query": query, "tool_slug": slug}) for query, slug in trained]
    (folder / "val").mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    lines = [json.dumps(task) for task in tasks(held_out)]
    (folder / "val" / "tasks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("data"))
