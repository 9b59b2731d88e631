"""What the linters do not look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("agent_sft", "benchmarks", "configs", "docs", "ds_configs", "examples", "requirements", "scripts", "tests")
TEXT = {".cfg", ".in", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}
MAX_LINES = 400
MACHINE_PATH = re.compile(r"(?<![\w./-])/(?:work|root|home|opt|mnt|Users)/\w")


def written_files(repo: Path) -> Iterator[Path]:
    for folder in (repo, *(repo / name for name in FOLDERS)):
        found = folder.glob("*") if folder == repo else folder.rglob("*")
        yield from (path for path in found if path.suffix in TEXT and path.is_file())


def test_no_source_file_is_longer_than_one_can_read_at_once(repo: Path) -> None:
    sources = [path for path in written_files(repo) if path.suffix in {".py", ".sh"}]
    assert len(sources) > 40
    counted = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    assert not {str(path): lines for path, lines in counted.items() if lines > MAX_LINES}


def test_no_file_speaks_of_one_machine(repo: Path) -> None:
    found = {
        f"{path.relative_to(repo)}:{number}": line
        for path in written_files(repo)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    }
    assert not found


def test_a_machine_path_is_recognised() -> None:
    assert MACHINE_PATH.search('open("/' + 'home/someone/data.json")')
    assert not MACHINE_PATH.search("see saves/work/x and https://example.org/home/page")
