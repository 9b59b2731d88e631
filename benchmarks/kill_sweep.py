"""Kill parts of a small sweep at random moments, run the same command again, compare with one that nobody disturbed.

    python benchmarks/kill_sweep.py --count 30

Driver, trainer, server, scorer, and the process that forks trainings (or what it forked) are killed by SIGKILL, in
turns. What dies under a living driver is tried again by itself; after the driver's death the same command goes on. When
a sweep has ended, its numbers must be those of the undisturbed one: every loss of the trainings, every answer at
temperature 0, all that the report makes of them. And nothing may be left of what was killed: no process, no port, no
lock.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from agent_sft.engines.forks.sharing import FORKS
from agent_sft.runs.lock import is_held

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "examples" / "data" / "telecom_small_24.json"
MOMENTS = {"driver": 0.8, "trainer": 0.2, "server": 0.4, "scorer": 0.5, "forks": 0.5}
"""The time from when a part is first seen, within which it is killed, as a share of an undisturbed sweep's."""
MARKS = {
    "trainer": "inside/train.py",
    "server": "agent_sft_server.py",
    "scorer": "agent_sft.sweep.scoring",
    "forks": "inside/fork_server.py",
}
GONE_SECONDS = 15.0
AT_MOST = 4
"""Kills of one sweep, which then ends undisturbed."""


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30, help="how many kills (default: 30)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--without-server", action="store_true", help="measure held-out loss alone, serve nothing")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agent-sft-kills-") as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        Kills(folder, options.count, options.seed, serve=not options.without_server).run()


class Sweep:
    """One sweep in a folder of its own, started by the same command each time."""

    def __init__(self, place: Path, base: Path, *, serve: bool) -> None:
        self.place = place
        self.out = place / "sweep"
        place.mkdir(parents=True)
        rows = json.loads(DATA.read_text(encoding="utf-8"))
        for share, part in ((0, rows[:8]), (50, rows[8:16])):
            (place / f"v_{share}pct.json").write_text(json.dumps(part))
        (place / "held_out.json").write_text(json.dumps(rows[16:]))
        (place / "tasks").mkdir()
        tasks = [
            {"task_id": str(number), "instruction": text, "verifier": {"fn_name": "regex", "pattern": "[aeiou]"}}
            for number, text in enumerate(["My line is slow.", "Which plan is mine?", "I move.", "Cancel it!"] * 4)
        ]
        (place / "tasks" / "tasks.jsonl").write_text("\n".join(map(json.dumps, tasks)))
        asked = {"evaluator": "tasks", "task": "tasks", "name": "tasks", "max_tokens": 24, "concurrency": 4}
        loss = {"evaluator": "loss", "task": "held_out.json", "name": "loss"}
        config = {
            "name": "small",
            "out": str(self.out),
            "sft": {"model": str(base), "steps": 4, "lr": 0.01, "checkpoint_interval": 2, "cutoff_len": 512},
            "data": ["v_{0,50}pct.json"],
            "evaluators": [asked if serve else loss],
            "resources": {"cores": 2, "cores_per_train": 1},
            "retries": 9,
        }
        (place / "small.yaml").write_text(json.dumps(config))
        self.log = place / "driver.log"

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command, with processes of its own that trainings are forked from: they are killed, too."""
        own = {name: value for name, value in os.environ.items() if name != FORKS}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "agent_sft", "sweep", "run", "small.yaml"],
                cwd=self.place,
                env={**own, "OMP_NUM_THREADS": "1", "AGENT_SFT_RETRY_SECONDS": "0.2"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def numbers(self) -> dict[str, Any]:
        """Return every figure that must not depend on what happened on the way."""
        found: dict[str, Any] = {}
        for log in sorted(self.out.glob("variants/*/trainer_state.json")):
            state = json.loads(log.read_text())
            found[log.parent.name] = [(entry["step"], entry.get("loss")) for entry in state["log_history"]]
        for results in sorted(self.out.glob("evaluations/*/*/*/results.jsonl")):
            trials = {(trial["task"], trial["trial"]): trial for trial in map(json.loads, results.open())}
            for (task, number), trial in sorted(trials.items()):
                said = _answer(results.parent, trial)
                found[f"{results.parent.relative_to(self.out)} {task} {number}"] = [trial["score"], said]
        report = json.loads((self.out / "report" / "report.json").read_text().replace(str(self.place), ""))
        return {**found, "the report's answer": report["answer"], "the report's scores": report["scores"]}


class Kills:
    """The whole measurement."""

    def __init__(self, folder: Path, count: int, seed: int, *, serve: bool) -> None:
        self._folder = folder
        self._count = count
        self._chance = random.Random(seed)
        self._serve = serve
        self._sweeps = 0
        self._seen: dict[str, int] = {}
        self._undisturbed = 0.0

    def run(self) -> None:
        """Measure; raises AssertionError where something is not as it should be."""
        base = self._folder / "base"
        command = [sys.executable, "-P", "-m", "agent_sft", "sft", str(DATA), "--model", "tiny", "--steps", "2"]
        subprocess.run([*command, "--lr", "0.01", "--cutoff-len", "512", "--output-dir", str(base)], check=True)
        undisturbed = Sweep(self._folder / "undisturbed", base, serve=self._serve)
        begun = time.monotonic()
        assert undisturbed.start().wait() == 0, undisturbed.log.read_text()
        self._undisturbed = time.monotonic() - begun
        print(f"undisturbed: {self._undisturbed:.0f} s", flush=True)
        expected = undisturbed.numbers()
        assert expected
        kills = 0
        while kills < self._count:
            self._sweeps += 1
            sweep = Sweep(self._folder / f"sweep-{self._sweeps}", base, serve=self._serve)
            begun = time.monotonic()
            added = self._one(sweep, kills)
            kills += added
            if added == 0:  # the first one found nothing in the caches and took longer
                self._undisturbed = min(self._undisturbed, time.monotonic() - begun)
            found = sweep.numbers()
            different = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
            assert not different, f"{sweep.out}: other numbers: {different}"
        print(f"{kills} kills in {self._sweeps} sweeps, {', '.join(f'{n} of {t}' for t, n in self._seen.items())}")
        print(f"all {self._sweeps} ended with the {len(expected)} numbers of the undisturbed one; nothing was left")

    def _one(self, sweep: Sweep, before: int) -> int:
        """Kill parts of one sweep until there were enough, let it end, and return how many there were."""
        kills = 0
        targets = ["driver", "trainer", "forks", *(["server", "scorer"] if self._serve else [])]
        driver = sweep.start()
        while kills < AT_MOST and before + kills < self._count and driver.poll() is None:
            target = targets[(before + kills) % len(targets)]
            victim = self._victim(driver, target)
            if victim is None:
                break
            family, ports = _family(driver.pid)
            with contextlib.suppress(psutil.Error):
                victim.kill()
            kills += 1
            self._seen[target] = self._seen.get(target, 0) + 1
            print(f"kill {before + kills}: {target} ({victim.pid})", flush=True)
            if target == "driver":
                driver.wait()
                _check_gone(family, ports, sweep.out / ".lock")
                driver = sweep.start()
        code = driver.wait()
        assert code == 0, f"exit code {code}: {sweep.log.read_text()[-3000:]}"
        assert not is_held(sweep.out / ".lock")
        assert not _with_words(str(sweep.out)), "something is left"
        return kills

    def _victim(self, driver: subprocess.Popen[bytes], target: str) -> psutil.Process | None:
        """Wait until the part is there, and a random while; None when the sweep ended before."""
        seen, wait = None, self._chance.uniform(0, MOMENTS[target] * self._undisturbed)
        while driver.poll() is None:
            found = [psutil.Process(driver.pid)] if target == "driver" else _parts(driver.pid, MARKS[target])
            if found:
                seen = seen or time.monotonic()
                if time.monotonic() - seen >= wait:
                    return self._chance.choice(found)
            time.sleep(0.1)  # a look takes twenty milliseconds of a processor
        return None


def _parts(pid: int, mark: str) -> list[psutil.Process]:
    found = []
    for process in _family(pid)[0]:
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if any(mark in word for word in words) and not any("keeper.py" in word for word in words):
                found.append(process)
    return found


def _family(pid: int) -> tuple[list[psutil.Process], list[int]]:
    """Return all processes below one, and the ports they listen at."""
    processes: list[psutil.Process] = []
    ports: list[int] = []
    with contextlib.suppress(psutil.Error):
        processes = psutil.Process(pid).children(recursive=True)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            ports += [one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    return processes, ports


def _check_gone(processes: list[psutil.Process], ports: list[int], lock: Path) -> None:
    left = psutil.wait_procs(processes, timeout=GONE_SECONDS)[1]
    assert not left, f"left: {left}"
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, f"port {port} is in use"
    assert not is_held(lock), "the lock is held"


def _with_words(words: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(words in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


def _answer(folder: Path, trial: dict[str, Any]) -> Any:
    if not trial.get("transcript"):
        return trial["detail"].get("loss")
    lines = (folder / trial["transcript"].partition("#")[0]).read_text().splitlines()
    kept = [row for row in map(json.loads, lines) if (row["task"], row["trial"]) == (trial["task"], trial["trial"])]
    return [message.get("content") for message in kept[-1]["messages"] if message["role"] == "assistant"]


if __name__ == "__main__":
    main()
