"""How fast data is processed and prepared, and in how much memory: against a plain merge by `json`, and bare orjson.

    python benchmarks/data_speed.py

Makes a file of telecom conversations, an indented JSON array, and puts it through three programs, each a process of
its own, in turns: the whole of ours (the pipeline for telecom data, its ledger, the preparation); a merge that loads
all of it by `json`, joins turns, and writes it indented; and orjson's decoding and encoding of the same bytes, which
is as fast as JSON can be read and written from Python. No two texts of the file are the same (`--repeated` lets them
be, as policies and greetings are in real data), so that nothing is gained by remembering any. Memory is that of all
processes together. Exit 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "benchmarks" / "inside" / "data_program.py"
PROGRAMS = ("ours", "merge", "orjson")
EXAMPLE = ROOT / "examples" / "data" / "telecom_syc_10pct_500_processed.json"
MEGABYTE = 10**6
SIZE, LARGE = 150, 1500
SPEED_GOAL, PEAK_GOAL = 2.0, 250.0
POLICY = 12_000
"""Characters of a conversation's system text, as real policies have them."""
SCENARIOS = 7
"""Of the example's conversations that make one: some 28 kB together, with the policy."""


SAMPLED = 0.02
"""Seconds between two looks at the memory."""


def with_texts_of_its_own(row: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a conversation none of whose texts is in another one: a number stands before each."""
    turns = [{**turn, "value": f"{number}.{place} {turn['value']}"} for place, turn in enumerate(row["conversations"])]
    return {**row, "system": f"Case {number}. {row['system']}", "conversations": turns}


def make_file(path: Path, megabytes: int, *, unique: bool = False) -> int:
    """Write a file of about so many megabytes, with no text twice if `unique`; return how many conversations it has."""
    example = json.loads(EXAMPLE.read_text())
    chance = Random(7)
    policy = example[0]["system"]
    policy = (f"{policy}\n" * (POLICY // len(policy) + 1))[:POLICY]
    count = size = 0
    with path.open("w", encoding="utf-8") as stream:
        while size < megabytes * MEGABYTE:
            turns = [turn for row in chance.choices(example, k=SCENARIOS) for turn in row["conversations"]]
            row = {"id": f"telecom-{count}", "conversations": turns, "system": policy}
            row = with_texts_of_its_own(row, count) if unique else row
            text = json.dumps(row, ensure_ascii=False, indent=2).replace("\n", "\n  ")
            size += stream.write((",\n  " if count else "[\n  ") + text)
            count += 1
        stream.write("\n]\n")
    return count


def measure(program: str, source: Path) -> dict[str, float]:
    """Run a program in a process of its own.

    Return its seconds from start to end, those that processors worked for it, and its peak memory in MB.
    """
    with tempfile.TemporaryDirectory(dir=source.parent) as place:
        began, worked = time.monotonic(), processor_seconds()
        command = [sys.executable, str(PROGRAM), program, str(source), place]
        # Byte code is kept between runs, as it is where a package is installed.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        running = subprocess.Popen(command, env=environment)
        peak = 0.0
        while running.poll() is None:
            peak = max(peak, memory_of(running.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(SAMPLED)
        seconds = time.monotonic() - began
        if running.returncode:
            raise subprocess.CalledProcessError(running.returncode, command)
        return {"seconds": seconds, "processor": processor_seconds() - worked, "peak": peak}


def processor_seconds() -> float:
    """Return how long processors have worked for the programs that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_of(process: int) -> float:
    """Return the most memory that a process and each of its children that live have held, in MB, added up.

    What they share is counted for each of them.
    """
    total = 0.0
    with contextlib.suppress(psutil.Error, FileNotFoundError, StopIteration, ProcessLookupError):
        known = psutil.Process(process)
        for one in (known, *known.children(recursive=True)):
            with Path(f"/proc/{one.pid}/status").open() as status:
                total += int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024 / MEGABYTE
    return total


def compare(source: Path, programs: Sequence[str], repeats: int) -> dict[str, dict[str, float]]:
    """Return the median seconds and the largest peak of each program, run in turns."""
    runs: dict[str, list[dict[str, float]]] = {program: [] for program in programs}
    for _ in range(repeats):
        for program in programs:
            runs[program].append(measure(program, source))
    return {
        program: {
            "seconds": median(run["seconds"] for run in found),
            "processor": median(run["processor"] for run in found),
            "slowest": max(run["seconds"] for run in found),
            "peak": max(run["peak"] for run in found),
        }
        for program, found in runs.items()
    }


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, help=f"of the file (default: {SIZE}, with --large {LARGE})")
    parser.add_argument("--large", action="store_true", help="memory on a large file; the plain merge is left out")
    parser.add_argument("--repeated", action="store_true", help="let texts be the same in several conversations")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each program (default: %(default)s)")
    parser.add_argument("--goal", type=float, default=SPEED_GOAL, help="times the merge's speed (default: %(default)s)")
    parser.add_argument("--peak", type=float, default=PEAK_GOAL, help="MB that ours may take (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    parser.add_argument("--place", type=Path, help="folder for the files (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.place) as folder:
        source = Path(folder, "telecom.json")
        size = options.megabytes or (LARGE if options.large else SIZE)
        count = make_file(source, size, unique=not options.repeated)
        megabytes = source.stat().st_size / MEGABYTE
        # The plain merge, and orjson with all of it at once, would need some ten times the file's size.
        programs = ("ours",) if options.large else PROGRAMS
        load = os.getloadavg()[0]
        figures = compare(source, programs, 1 if options.large else options.repeats)
    print(f"{count:,} conversations, {megabytes:.0f} MB; load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    for program, found in figures.items():
        rate = megabytes / found["seconds"]
        print(
            f"{program:>6}: {found['seconds']:6.1f} s ({rate:5.1f} MB/s), {found['processor']:.1f} s of processor time,"
            f" at most {found['peak']:.0f} MB"
        )
    mine = figures["ours"]
    reached = mine["peak"] <= options.peak
    print(f"peak: goal at most {options.peak:g} MB: {'reached' if reached else 'missed'}")
    if not options.large:
        faster = figures["merge"]["seconds"] / mine["seconds"]
        slower = mine["seconds"] / figures["orjson"]["seconds"]
        print(f"ours is {faster:.2f} times as fast as the merge, and takes {slower:.1f} times as long as orjson alone")
        print(f"speed: goal {options.goal:g} times: {'reached' if faster >= options.goal else 'missed'}")
        reached = reached and faster >= options.goal
    if options.json is not None:
        content = {"conversations": count, "megabytes": megabytes, "load": load, "figures": figures}
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
