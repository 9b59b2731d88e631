"""A browser without a screen, for tests of pages: Chromium, where the machine has one."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=60000"),
)


def evaluate(page: Path, script: str, scratch: Path, *, width: int = 1200, options: tuple[str, ...] = ()) -> Any:
    """Return the JSON value that a script finds in a page, as `found(value)`; the page is left alone."""
    tell = "const found = v => { const p = document.createElement('pre'); p.id = 'told';"
    tell += " p.textContent = JSON.stringify(v); document.body.replaceChildren(p); };"
    changed = scratch / "page.html"
    text = page.read_text(encoding="utf-8")
    changed.write_text(text.replace("</body>", f"<script>{tell}\n{script}</script></body>"), encoding="utf-8")
    command = [
        *(str(CHROMIUM), *OPTIONS, *options, f"--user-data-dir={scratch / 'profile'}"),
        *(f"--window-size={width},900", "--dump-dom", changed.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told is not None, done.stderr[-2000:]
    return json.loads(html.unescape(told[1]))


def accessibility(page: Path, scratch: Path, *, width: int = 1200, dark: bool = False) -> list[str]:
    """Return what axe-core finds wrong with a page, by WCAG 2.1 AA and good practice; all details are opened."""
    axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    script = axe + (
        "\nfor (const one of document.querySelectorAll('details')) one.open = true;"
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}).then(r => found("
        "r.violations.map(v => `${v.id}: ${v.nodes.length} times, ${v.nodes[0].html.slice(0, 200)}`)));"
    )
    options = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    wrong: list[str] = evaluate(page, script, scratch, width=width, options=options)
    return wrong
