"""Capabilities: kept by name and version, and put before every conversation, wherever it is."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_sft.data.capabilities import push_capability, read_capability, resolve_capability
from agent_sft.data.preparing import prepare_dataset
from agent_sft.engines.vllm.facts import INSIDE
from agent_sft.errors import UserError
from tests.conftest import RunCli

TOOL = {"name": "look_up", "description": "Look.", "parameters": {"type": "object", "properties": {}}}
PROMPT = "You look things up.\nAlways."
ROWS: list[dict[str, Any]] = [
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "system": "Old."},
    {
        "conversations": [
            {"from": "system", "value": "S"},
            {"from": "human", "value": "A"},
            {"from": "gpt", "value": "B"},
        ]
    },
]
CHATS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    {
        "messages": [{"role": role, "content": "x"} for role in ("system", "user", "assistant")],
        "tools": [{"type": "function", "function": {**TOOL, "name": "other"}}],
    },
]


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SFT_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A capability as one writes it."""
    folder = tmp_path / "agent"
    folder.mkdir()
    (folder / "capability.yaml").write_text("name: support-agent\nversion: 1.0.0\n")
    (folder / "system_prompt.md").write_text(f"{PROMPT}\n")
    # Servers render a tool's keys in an order of their own, whatever order they are written in.
    (folder / "tools.json").write_text(json.dumps([dict(reversed(TOOL.items()))]))
    return folder


def test_a_version_is_pushed_once_and_found_again(folder: Path, tmp_path: Path, call_cli: RunCli) -> None:
    pushed = call_cli("capability", "push", folder)
    assert pushed.stdout.startswith("stored: support-agent@1.0.0 (1 tool, sha256:")
    assert call_cli("capability", "push", folder).stdout.startswith("there already: ")
    found = resolve_capability("support-agent@1.0.0")
    assert found == resolve_capability("support-agent@latest") == read_capability(folder)
    assert found.system_prompt == PROMPT
    assert json.dumps(found.tools) == json.dumps([{"type": "function", "function": TOOL}])
    assert found.digest in pushed.stdout, "what is stored is known by the same digest"
    assert "support-agent@1.0.0     1 tools" in call_cli("capability", "list").stdout
    shown = call_cli("capability", "show", "support-agent").stdout
    assert "tools      look_up\n" in shown
    assert shown.endswith(f"\n\n{PROMPT}\n")
    assert call_cli("data", "list").stdout == "", "they do not stand among the datasets"
    (folder / "system_prompt.md").write_text("Another.")
    changed = call_cli("capability", "push", folder)
    assert (changed.returncode, "exists with other content" in changed.stderr) == (2, True)
    assert resolve_capability(str(folder)).digest != found.digest


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("support-agent@2.0.0", "'support-agent' has the versions 1.0.0"),
        ("suport-agent@1.0.0", "there is no capability 'suport-agent'.*\n.*did you mean 'support-agent'?"),
        ("nothing", "'nothing' is no capability"),
        (".", "capability.yaml"),
    ],
)
def test_one_that_there_is_not(folder: Path, given: str, said: str) -> None:
    push_capability(folder)
    with pytest.raises(UserError, match=said):
        resolve_capability(given)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("capability.yaml", "name: a\nversion: 1.0\n", "'version' is missing, or is no text"),
        ("capability.yaml", "name: a\nversio: 1.0.0\n", "did you mean 'version'?"),
        ("capability.yaml", "- a\n", "capability"),
        ("capability.yaml", "name: ../a\nversion: 1.0.0\n", "cannot be the name"),
        ("capability.yaml", "name: a\nversion: one\n", "'one' is no version"),
        ("system_prompt.md", " \n", "is empty"),
        ("tools.json", "{}", "must hold a list of tools"),
        ("tools.json", "[{}]", "tool 1 has no name"),
    ],
)
def test_a_folder_that_cannot_be_used(folder: Path, name: str, content: str, said: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        push_capability(folder)
    assert not (folder.parent / "store").exists()


def test_a_capability_without_a_text_or_tools_leaves_each_conversation_its_own(folder: Path) -> None:
    (folder / "tools.json").unlink()
    assert read_capability(folder).tools is None
    push_capability(folder)
    assert resolve_capability("support-agent@1.0.0").tools is None
    (folder / "system_prompt.md").unlink()
    with pytest.raises(UserError, match=r"holds neither system_prompt.md nor tools.json"):
        read_capability(folder)


@pytest.mark.parametrize("rows", [ROWS, CHATS], ids=["sharegpt", "openai"])
def test_every_prepared_row_has_it_and_says_so(folder: Path, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    capability = read_capability(folder)
    report = prepare_dataset(path, name="d", folder=tmp_path / "data", capability=capability)
    made = [json.loads(line) for line in report.data_path.read_text().splitlines()]
    assert [row["system"] for row in made] == [PROMPT, PROMPT]
    assert [json.loads(row["tools"]) for row in made] == [[{"type": "function", "function": TOOL}]] * 2
    assert [[turn["from"] for turn in row["conversations"]] for row in made] == [["human", "gpt"]] * 2
    assert any("put support-agent@1.0.0 before it" in line for line in report.lines())
    (folder / "tools.json").unlink()
    prepare_dataset(path, name="d", folder=tmp_path / "data", capability=read_capability(folder))
    own = json.loads(report.data_path.read_text().splitlines()[1])["tools"]
    assert bool(own) == ("tools" in rows[1])


def scaffold_module() -> Any:
    """What runs inside vLLM's server, which needs nothing of it."""
    spec = importlib.util.spec_from_file_location("scaffold", INSIDE / "agent_sft_scaffold.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def answered(app: Any, path: str, chunks: list[bytes]) -> tuple[dict[bytes, bytes], bytes]:
    """The headers and the body that an application behind it gets."""
    parts = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    parts.append({"type": "http.request"})

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: dict[str, Any]) -> None:
        raise AssertionError(message)

    await app({"type": "http", "path": path, "headers": [(b"Content-Length", b"1"), (b"x", b"y")]}, receive, send)
    headers, body = app.seen
    return headers, body


def around(folder: Path, tmp_path: Path) -> Any:
    """An application with the capability around one that notes what it gets."""

    async def inner(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], _send: object) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        app.seen = dict(scope["headers"]), body

    file = tmp_path / "capability.json"
    file.write_text(json.dumps({**read_capability(folder).record, "left_alone": ["base"]}))
    app = scaffold_module().Scaffold(inner, str(file))
    return app


def test_a_server_puts_it_before_what_requests_carry(folder: Path, tmp_path: Path) -> None:
    app = around(folder, tmp_path)
    asked = {"model": "m", "messages": [{"role": "system", "content": "Other."}, {"role": "user", "content": "é"}]}
    text = json.dumps(asked, ensure_ascii=False).encode()
    headers, body = asyncio.run(answered(app, "/v1/chat/completions", [text[:20], text[20:]]))
    got = json.loads(body)
    assert got["messages"] == [{"role": "system", "content": PROMPT}, {"role": "user", "content": "é"}]
    assert got["tools"] == [{"type": "function", "function": TOOL}]
    assert headers == {b"content-length": str(len(body)).encode(), b"x": b"y"}
    for path, content in (
        ("/v1/completions", b'{"model": "m", "prompt": "x"}'),
        ("/v1/chat/completions", json.dumps({**asked, "model": "base"}).encode()),
        ("/v1/chat/completions", b"{"),
        ("/tokenize", b'{"model": "m", "prompt": "x"}'),
    ):
        assert asyncio.run(answered(app, path, [content]))[1] == content


@pytest.mark.parametrize(
    "command",
    [
        ("serve", "org/model", "--dry-run"),
        ("eval", "run", "--model", "org/model", "--evaluator", "tasks", "--task", "."),
    ],
    ids=["serve", "eval"],
)
def test_commands_refuse_one_that_is_not_there(command: tuple[str, ...], call_cli: RunCli) -> None:
    out = ("--out", "out") if command[0] == "eval" else ()
    done = call_cli(*command, *out, "--capability", "nothing@1.0.0")
    assert (done.returncode, "there is no capability 'nothing'" in done.stderr) == (2, True)
    assert not Path("out").exists()
