"""A machine's slots: in turn, never more at once than there are, and free again whatever becomes of who had them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_sft.runs.processes import Interrupted, StopSignal
from agent_sft.runs.queue import join_queue, slots, waiting


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.slow
def test_fifty_that_wait_for_two_slots_come_in_turn(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    command = [sys.executable, "-m", "tests.job_queue", str(noted), "50"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    statuses = json.loads(done.stdout)
    assert [number for number, status in enumerate(statuses) if status] == [2, 49], "only those that were killed"
    words = noted.read_text().split()
    came = [int(word[1:]) for word in words if word.startswith("+")]
    # Who is second may say so before who is first: both have their slots by then.
    assert all(abs(place - number) <= 1 for place, number in enumerate(came))
    assert sorted(came) == list(range(49))
    held = 0
    for word in words:
        held += 1 if word.startswith("+") else -1
        # The third was killed in its slot, which is free then: nobody says so.
        assert held <= 3
    assert waiting() == []


def test_a_place_in_the_queue_is_left_when_a_signal_comes(tmp_path: Path) -> None:
    first, second = join_queue("first"), join_queue("second")
    assert waiting() == ["first", "second"]
    asked = StopSignal()
    asked.number, asked.count = 15, 1
    with pytest.raises(Interrupted), slots(second, ["slot-0"], 1, asked):
        pass
    assert waiting() == ["first"]
    with slots(first, ["slot-0"], 1, StopSignal()) as taken:
        assert taken.names == ("slot-0",)
        assert waiting() == []
        third = join_queue("third")
        with pytest.raises(Interrupted), slots(third, ["slot-0"], 1, asked):
            pass


def test_one_that_needs_two_slots_holds_up_those_behind_it() -> None:
    names = ["slot-0", "slot-1"]
    asked = StopSignal()
    asked.number, asked.count = 15, 1
    with slots(join_queue("one"), names, 1, StopSignal()):
        both, later = join_queue("both"), join_queue("later")
        with pytest.raises(Interrupted), slots(later, names, 1, asked):
            pytest.fail("it overtook one that waits")
        with pytest.raises(Interrupted), slots(both, names, 2, asked):
            pytest.fail("it had a slot that another has")
    with slots(join_queue("both"), names, 2, StopSignal()) as taken:
        assert set(taken.names) == set(names)


def test_what_a_dead_process_left_in_the_queue_is_cleared_away() -> None:
    left = join_queue("dead")
    os.close(left.descriptor)
    assert waiting() == []
    ticket = join_queue("alive")
    assert [path.name for path in ticket.path.parent.iterdir()] == [ticket.path.name]
    ticket.give_up()
