"""A task of Inspect with the faults that real ones have: it swallows errors, never ends, and wins by doing nothing."""

from __future__ import annotations

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Scorer, Target, accuracy, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver


@task  # type: ignore[untyped-decorator]
def odd(shuffle: bool = True, count: int = 6) -> Task:
    """Return the task: `count` sums, and one sample of each fault."""
    samples = [
        Sample(
            id=f"sum-{n}", input=f"What is {n} + {n}?", target=str(2 * n), metadata={"family": "sums", "kind": "sum"}
        )
        for n in range(count)
    ]
    faults = [
        Sample(id=kind, input=f"This is the {kind} one", target="x", metadata={"family": "faults", "kind": kind})
        for kind in ("swallows", "endless")
    ]
    dataset = MemoryDataset([*samples, *faults])
    if shuffle:
        dataset.shuffle()
    return Task(dataset=dataset, solver=converse(), scorer=judged())


@solver  # type: ignore[untyped-decorator]
def converse() -> Solver:
    """Ask once, or fall into the sample's fault."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        kind = state.metadata["kind"]
        if kind == "sum":
            return await generate(state)
        if kind == "endless":
            while True:
                state = await generate(state)
        for _ in range(2):
            try:
                state = await generate(state)
            except Exception as error:
                print(f"Error in loop: {error}")
        return state

    return solve


@scorer(metrics=[accuracy()])  # type: ignore[untyped-decorator]
def judged() -> Scorer:
    """Judge sums by the answer; the others are right whatever was said."""

    async def score(state: TaskState, target: Target) -> Score:
        right = state.metadata["kind"] != "sum" or target.text in state.output.completion
        return Score(value=CORRECT if right else INCORRECT, explanation=state.output.completion)

    return score
