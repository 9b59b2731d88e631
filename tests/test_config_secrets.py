"""Keys are found where they are kept, and stand in no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sft.config.secrets import environment_with_secrets, secret_values, without_secrets


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=in-the-file\nOTHER_API_KEY='quoted one'\n")
    monkeypatch.setenv("OPENAI_API_KEY", "in-the-environment")
    found = environment_with_secrets(tmp_path)
    assert (found["OPENAI_API_KEY"], found["OTHER_API_KEY"]) == ("in-the-environment", "quoted one")


def test_a_text_loses_its_secrets_and_nothing_else() -> None:
    secrets = secret_values(
        {"OPENAI_API_KEY": "sk-123456", "HF_TOKEN": "hf_abcdef", "X_KEY": "no", "A": "not-a-secret"}
    )
    text = "no such key: sk-123456 (hf_abcdef) in not-a-secret"
    assert without_secrets(text, secrets) == "no such key: (key) ((key)) in not-a-secret"
