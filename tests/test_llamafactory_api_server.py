"""A trained model served by LLaMA-Factory's own server, where vLLM is not wanted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_sft.engines.endpoint import Endpoint, Refused
from agent_sft.errors import UserError
from agent_sft.runs.processes import catch_signals
from agent_sft.stages.serving import Server, ServeRequest, serve
from agent_sft.stages.serving_plan import plan_serving
from tests.serving import TOOL, answer

pytestmark = pytest.mark.slow


class Words:
    """Notes what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, _progress: object) -> None: ...

    def progress_ended(self) -> None: ...


@pytest.fixture(scope="module")
def words() -> Words:
    return Words()


@pytest.fixture(scope="module")
def server(
    lora_run: Path, train_python: Path, words: Words, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """An adapter, on the base that its run made."""
    request = ServeRequest(model=str(lora_run), backend="llamafactory")
    with (
        catch_signals() as stop,
        serve(request, place=tmp_path_factory.mktemp('a b\'c "d" $HOME é'), stop=stop, reporter=words) as server,
    ):
        yield server


def test_it_answers(server: Server) -> None:
    model = server.model
    endpoint = Endpoint(model.url, model.api_key)
    assert endpoint.models() == [model.name]
    assert (model.backend, model.template) == ("llamafactory", "qwen")
    reply = answer(endpoint, model.name)
    assert (reply["model"], reply["choices"][0]["message"]["role"]) == (model.name, "assistant")
    assert server.alive()


def test_tools_reach_the_prompt(server: Server) -> None:
    endpoint = Endpoint(server.model.url, server.model.api_key)
    without = answer(endpoint, server.model.name)["usage"]["prompt_tokens"]
    assert answer(endpoint, server.model.name, tools=[TOOL])["usage"]["prompt_tokens"] > without + 50


def test_without_its_key_it_refuses(server: Server) -> None:
    with pytest.raises(Refused) as refused:
        answer(Endpoint(server.model.url, "another"), server.model.name)
    assert refused.value.status == 401


def test_what_it_costs_is_said(server: Server, words: Words) -> None:
    assert "one request at a time" in words.said[0]
    assert str(server.log) in words.said[1]


def test_it_serves_one_adapter_alone(server: Server) -> None:
    assert server.model.path is not None
    model = str(server.model.path)
    with pytest.raises(UserError, match="serves one adapter alone"):
        plan_serving(ServeRequest(model=model, backend="llamafactory", lora={"a": Path(model)}))


def test_a_key_it_does_not_have_is_refused_with_the_nearest(server: Server) -> None:
    request = ServeRequest(model=str(server.model.path), backend="llamafactory", set={"infer_dtyp": "float16"})
    with pytest.raises(UserError, match="did you mean 'infer_dtype'"):
        plan_serving(request)


def test_where_vllm_cannot_be_installed_it_takes_over_and_says_so(
    server: Server, monkeypatch: pytest.MonkeyPatch, train_python: Path
) -> None:
    """An environment that cannot be made here: no Python to make it with."""
    monkeypatch.setenv("AGENT_SFT_BASE_PYTHON", "/nowhere/python")
    monkeypatch.setenv("AGENT_SFT_TRAIN_PYTHON", str(train_python))
    monkeypatch.delenv("AGENT_SFT_SERVE_PYTHON", raising=False)
    plan = plan_serving(ServeRequest(model=str(server.model.path)))
    assert plan.backend == "llamafactory"
    assert "vLLM cannot be installed here" in plan.notes[0]
    assert "one request at a time" in plan.notes[1]
    with pytest.raises(UserError):
        plan_serving(ServeRequest(model=str(server.model.path), backend="vllm"))
