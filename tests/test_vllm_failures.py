"""A server that fails says what to do where the cause is a known one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from agent_sft.engines.failures import server_remedy
from agent_sft.engines.vllm.failures import KNOWN
from agent_sft.errors import WorkFailed
from agent_sft.runs.processes import catch_signals
from agent_sft.stages.serving import ServeRequest, serve
from tests.conftest import RunCli
from tests.serving import rewritten, train


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "--gpus 0,1"),
        ("ValueError: No available memory for the cache blocks. Try increasing", "--set max_model_len"),
        ("ValueError: Free memory on device cuda:0 (3/80 GiB) on startup is less than desired", "nvidia-smi"),
        (
            "ValueError: To serve at least one request with the model's max seq len (32768), (9 GiB KV",
            "max_model_len=8192",
        ),
        ("OSError: [Errno 98] Address already in use", "leave --port out"),
        ("number of attention heads (28) must be divisible by tensor parallel size (8)", "--gpus"),
        ("ValueError: LoRA rank 64 is greater than max_lora_rank 16.", "--set max_lora_rank"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
    ],
)
def test_known_causes(tmp_path: Path, line: str, word: str) -> None:
    (tmp_path / "log").write_text(f"Traceback ...\n{line}\nmore\n")
    assert word in (server_remedy(tmp_path / "log", KNOWN, 1) or "")


def test_a_server_killed_by_the_system(tmp_path: Path) -> None:
    assert "memory ran out" in (server_remedy(tmp_path / "absent", KNOWN, 137) or "")


def test_an_unknown_cause_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("ValueError: something else\n")
    assert server_remedy(tmp_path / "log", KNOWN, 1) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, run_cli: RunCli) -> Path:
    return train(run_cli, tmp_path_factory.mktemp("runs") / "full")


def failing(model: Path, place: Path, **options: Any) -> WorkFailed:
    """Serve what cannot be served; return how that ended."""
    request = ServeRequest(model=str(model), backend="vllm", **options)
    with (
        catch_signals() as stop,
        pytest.raises(WorkFailed) as failed,
        serve(request, place=place, stop=stop),
    ):
        pass
    return failed.value


@pytest.mark.slow
def test_more_tokens_than_the_model_is_made_for(run: Path, serve_python: Path, tmp_path: Path) -> None:
    error = failing(run, tmp_path, set={"max_model_len": 99999})
    assert "the server ended before it was ready (exit code 1)" in str(error)
    assert "a lower --set max_model_len=N" in str(error)
    assert error.log == tmp_path / "server.log"


@pytest.mark.slow
def test_an_architecture_that_vllm_does_not_have(run: Path, serve_python: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoint-*", "base"))
    rewritten(other / "config.json", architectures=["NobodyForCausalLM"], model_type="nobody")
    assert "--backend llamafactory" in str(failing(other, tmp_path))


@pytest.mark.slow
def test_more_memory_than_there_is(run: Path, serve_python: Path, tmp_path: Path) -> None:
    assert "memory does not suffice" in str(failing(run, tmp_path, set={"kv_cache_memory_bytes": 1 << 50}))


@pytest.mark.slow
def test_a_model_without_a_chat_template(run: Path, serve_python: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoint-*", "base", "*.jinja"))
    error = failing(other, tmp_path, tools=False)
    assert "the server is up and completes nothing" in str(error)
    assert "the tokenizer has no chat template" in str(error)
