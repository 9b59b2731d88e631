"""Every command that the documentation shows does what it says, in a fresh clone, in the order shown."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
PAGES = ["README.md", *DOCS, "examples/data/README.md", "examples/mini_telecom/README.md"]
BLOCK = re.compile(r"(?:<!--\s*(?P<mark>.*?)\s*-->\n)?```bash\n(?P<code>.*?)```", re.DOTALL)


def blocks(page: str) -> list[tuple[str | None, str]]:
    """The shell blocks of a page, each with the comment before it."""
    return [(match["mark"], match["code"]) for match in BLOCK.finditer((ROOT / page).read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, train_python: Path) -> Path:
    """The working tree's files as git would give them, with this environment in place of a new one."""
    folder = tmp_path_factory.mktemp("clone")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
        target.chmod((ROOT / name).stat().st_mode)
    subprocess.run(["bash", "scripts/env.sh", "core"], cwd=folder, capture_output=True, check=True)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_says_why(page: str) -> None:
    for mark, code in blocks(page):
        assert mark is None or re.fullmatch(r"not run: \S.{8,}", mark), f"{page}: {code}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(mark is None for mark, _ in blocks(page))])
def test_the_commands_of(page: str, clone: Path, train_python: Path, serve_python: Path, tmp_path: Path) -> None:
    script = "\n".join(code for mark, code in blocks(page) if mark is None)
    engines = {"AGENT_SFT_TRAIN_PYTHON": str(train_python), "AGENT_SFT_SERVE_PYTHON": str(serve_python)}
    folders = {"XDG_STATE_HOME": str(tmp_path), "AGENT_SFT_HOME": str(tmp_path)}
    done = subprocess.run(
        # However it ends, no server is left running.
        ["bash", "-euxo", "pipefail", "-c", f"trap '.venv/bin/agent-sft serve stop --all' EXIT\n{script}"],
        cwd=clone,
        env={**os.environ, **engines, **folders},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize("page", [page for page in PAGES if page.endswith(".md")])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_every_option_stands_in_the_readme() -> None:
    from agent_sft.cli.sft_options import SFT_OPTIONS

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    import click

    @click.command()
    def bare() -> None:
        """Takes the options."""

    for option in SFT_OPTIONS:
        option(bare)
    names = {name for parameter in bare.params for name in parameter.opts}
    assert {name for name in names if name not in readme} == set()
