"""What is done again and again is not done more often than it can be afforded."""

from __future__ import annotations

import time

import pytest

from agent_sft.sweep.sparing import Sparing


def test_what_takes_long_is_done_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    work = Sparing()
    assert work.cheap
    with work:
        clock += 1.0
    assert not work.cheap
    clock += 0.9 / Sparing.SHARE
    assert not work.cheap
    clock += 0.2 / Sparing.SHARE
    assert work.cheap
    assert work.since == pytest.approx(1.1 / Sparing.SHARE)
