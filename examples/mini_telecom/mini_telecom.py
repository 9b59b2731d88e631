"""The small telecom benchmark: support calls with a policy, tools over a database, and customers who insist.

    inspect eval examples/mini_telecom/mini_telecom.py --model openai-api/local/NAME --temperature 1 -T split=held_out

README.md beside this file says what is judged, and how.
"""

from typing import Any, Literal

from customers import Case, Customer, benchmark
from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageTool, ChatMessageUser, GenerateConfig
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolDef, ToolError, ToolParams
from inspect_ai.util import LimitExceededError, StoreModel, store_as
from pydantic import Field
from rules import FUNCTIONS, POLICY, TOOLS, Call, Database, Request, ToolRefused, judge

MESSAGES = 16
"""Of a conversation, the system's among them; the expert's have 11 at most."""
TOKENS = 20_000
SECONDS = 300
ANSWER_TOKENS = 96
"""Longest answer; the expert's have at most 30."""

LIMITS = {"message": "max_messages", "token": "token_limit", "time": "time_limit", "working": "time_limit"}
"""Why a conversation was cut off, in the words of our results."""


class Line(StoreModel):  # type: ignore[misc]
    """What is going on in a conversation."""

    database: Database = Field(default_factory=dict)
    calls: list[Call] = Field(default_factory=list)
    """Those that were carried out."""
    said: list[str] = Field(default_factory=list)
    """The agent's answers to the customer."""
    ended: str = "error"
    """Why the conversation ended; what it is until it does."""


@task  # type: ignore[untyped-decorator]
def mini_telecom(
    split: Literal["train", "held_out", "all"] = "held_out",
    epochs: int = 1,
    message_limit: int = MESSAGES,
    token_limit: int = TOKENS,
    time_limit: int = SECONDS,
) -> Task:
    """Return the benchmark.

    Args:
        split: `held_out`: requests that are never in the training data; `train`, or `all` of them.
        epochs: trials of each task.
        message_limit: messages of a conversation, the system's among them.
        token_limit: tokens of all its requests to the model, prompts included.
        time_limit: seconds.
    """
    cases = list(benchmark(None if split == "all" else split))
    return Task(
        dataset=MemoryDataset([sample(case) for case in cases], name=f"mini_telecom_{split}"),
        solver=support(),
        scorer=verdict(),
        epochs=Epochs(epochs, [f"pass_k_{k}" for k in range(1, epochs + 1)]),
        config=GenerateConfig(max_tokens=ANSWER_TOKENS),
        message_limit=message_limit,
        token_limit=token_limit,
        time_limit=time_limit,
    )


def sample(case: Case) -> Sample:
    """Return a case as Inspect's sample."""
    request = case.request
    return Sample(
        id=case.name,
        input=Customer(case, trial=1).opening(),
        target=f"{request.family}: {request.gb} GB",
        metadata={"family": request.family, "customer": request.customer, "gb": request.gb, "split": case.split},
    )


def case_of(state: TaskState) -> Case:
    """Return the case of a sample."""
    facts = state.metadata
    return Case(Request(facts["family"], facts["customer"], facts["gb"]), facts["split"])


@solver  # type: ignore[untyped-decorator]
def support() -> Solver:
    """Let the agent serve the scripted customer."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        case = case_of(state)
        customer = Customer(case, trial=state.epoch)
        line = store_as(Line)
        line.database = case.database()
        state.messages = [ChatMessageSystem(content=POLICY), ChatMessageUser(content=customer.opening())]
        state.tools = tools()
        while True:
            try:
                state = await generate(state, tool_calls="loop")
            except LimitExceededError as error:
                line.ended = LIMITS.get(error.type, error.type)
                raise
            if state.completed:
                line.ended = "max_messages"
                return state
            said = state.output.completion
            line.said = [*line.said, said]
            reply = customer.reply(said)
            if reply is None:
                line.ended = "user_stop"
                return state
            state.messages.append(ChatMessageUser(content=reply))

    return solve


def tools() -> list[Any]:
    """Return the tools, which work on the database of the sample that calls them."""
    return [
        ToolDef(
            carried_out(tool["name"]),
            name=tool["name"],
            description=tool["description"],
            parameters=ToolParams.model_validate(tool["parameters"]),
        ).as_tool()
        for tool in TOOLS
    ]


def carried_out(name: str) -> Any:
    """Return a function that carries out calls of a tool and notes them."""

    async def execute(**arguments: Any) -> str:
        line = store_as(Line)
        database = {customer: dict(record) for customer, record in line.database.items()}
        try:
            result = FUNCTIONS[name](database, **arguments)
        except ToolRefused as error:
            raise ToolError(str(error)) from error
        line.database = database
        line.calls = [*line.calls, (name, arguments)]
        return result

    return execute


@scorer(metrics=[mean(), stderr()])  # type: ignore[untyped-decorator]
def verdict() -> Scorer:
    """Judge by the database at the end, the calls and the answers. README.md lists the score's metadata."""

    async def score(state: TaskState, target: Target) -> Score:
        case = case_of(state)
        line = store_as(Line)
        made = judge(case.request, case.database(), line.database, line.calls, line.said)
        results = [message for message in state.messages if isinstance(message, ChatMessageTool)]
        answers = [message for message in state.messages if isinstance(message, ChatMessageAssistant)]
        return Score(
            value=made.score,
            answer=line.said[-1] if line.said else "",
            explanation="; ".join(made.failures) or "as it should be",
            metadata={
                "family": case.request.family,
                "violations": list(made.violations),
                "failures": list(made.failures),
                "ended": line.ended,
                "turns": len(answers),
                "tool_calls": sum(len(message.tool_calls or []) for message in answers),
                "tool_errors": sum(message.error is not None for message in results),
            },
        )

    return score
