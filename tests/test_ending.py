"""A program that ends at once has done all that was left for its end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from agent_sft.engines.forks.sharing import INSIDE


def ended(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that can import what ends it."""
    text = f"import sys\nsys.path.insert(0, {str(INSIDE)!r})\n" + textwrap.dedent(program)
    command = [sys.executable, "-c", text]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_threads_what_was_registered_and_open_files_are_waited_for_and_written(tmp_path: Path) -> None:
    done = ended(
        """
        import atexit, os, threading, time
        from ending import end
        threading.Thread(target=lambda: (time.sleep(0.2), print("a thread"))).start()
        threading.Thread(target=time.sleep, args=(900,), daemon=True).start()
        atexit.register(print, "registered")
        text, binary, closed = open("text", "w"), open("binary", "wb"), open("closed", "w")
        text.write("one")
        binary.write(b"two")
        closed.close()
        nowhere = os.fdopen(os.pipe()[1], "w")
        nowhere.write("nobody reads it")
        os.close(nowhere.fileno())
        sys.stdout.write("at the end ")
        end(7)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == "at the end a thread\nregistered\n"
    assert [(tmp_path / name).read_text() for name in ("text", "binary")] == ["one", "two"]


def test_a_program_that_asks_to_end_has_the_status_that_it_would_have(tmp_path: Path) -> None:
    for asked, status, said in (("", 0, ""), ("3", 3, ""), ("None", 0, ""), ("'a reason'", 1, "a reason\n")):
        program = f"""
        from ending import end, status_of
        try:
            sys.exit({asked})
        except SystemExit as asked:
            end(status_of(asked))
        """
        done = ended(program, tmp_path)
        assert (done.returncode, done.stderr) == (status, said)
