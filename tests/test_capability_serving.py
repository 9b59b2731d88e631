"""A capability in front of a server's conversations: its tokens are those of a request that carries it itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_sft.config.evaluation import EvaluationConfig
from agent_sft.engines.endpoint import Endpoint
from agent_sft.errors import UserError
from agent_sft.runs.processes import catch_signals
from agent_sft.stages.evaluating import evaluate_on, pending
from agent_sft.stages.reporting import Quiet
from agent_sft.stages.serving import ServeRequest, serve
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
FOLDER = ROOT / "examples" / "capabilities" / "telecom-agent"
USER = {"role": "user", "content": "What is left on line L1?"}


def test_a_server_answers_as_if_every_request_carried_it(lora_run: Path, serve_python: Path, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    task = {"task_id": "hello", "instruction": "Hello", "verifier": {"fn_name": "regex", "pattern": "(?s).*"}}
    (tasks / "tasks.jsonl").write_text(json.dumps(task))
    request = ServeRequest(model=str(lora_run), capability=str(FOLDER))
    with catch_signals() as stop, serve(request, place=tmp_path / "server", stop=stop) as server:
        endpoint, base = Endpoint(server.model.url, server.model.api_key), server.control.base_name

        def asked(path: str, model: str, system: str | None = None, **body: Any) -> Any:
            messages = [*([{"role": "system", "content": system}] if system else []), USER]
            return endpoint.call("POST", path, {"model": model, "messages": messages, **body}, timeout=300)

        own = {
            "system": (FOLDER / "system_prompt.md").read_text().strip(),
            "tools": json.loads((FOLDER / "tools.json").read_text()),
        }
        # The base below the adapter is left alone: what it is asked is what it is given.
        wanted = asked("/tokenize", base, **own)["tokens"]
        assert len(wanted) > len(asked("/tokenize", base)["tokens"])
        assert asked("/tokenize", server.model.name)["tokens"] == wanted
        assert asked("/tokenize", server.model.name, system="Another one.")["tokens"] == wanted
        answer = asked("/v1/chat/completions", server.model.name, max_tokens=2)
        assert answer["usage"]["prompt_tokens"] == len(wanted)

        def config(**serve_options: str) -> EvaluationConfig:
            out = tmp_path / "out"
            return EvaluationConfig(
                model=str(lora_run), evaluator="tasks", task=str(tasks), out=out, max_tokens=4, serve=serve_options
            )

        with pytest.raises(UserError, match="another capability is served than the one that is asked for"):
            evaluate_on(server, server.model, config(), reporter=Quiet(), stop=stop)
        found = evaluate_on(server, server.model, config(capability=str(FOLDER)), reporter=Quiet(), stop=stop)
        assert len(found.trials) == 1
        assert pending(config(capability=str(FOLDER))) == []
        with pytest.raises(UserError, match=r"holds another evaluation: .*capability"):
            pending(config())
