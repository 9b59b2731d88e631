"""The page of a sweep, as a reader gets it: whole without scripts and network, accessible, small."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from agent_sft.report.sweep.look import STYLE
from agent_sft.report.sweep.record import read_record, write_record
from agent_sft.report.sweep.writing import write_report
from tests import browser
from tests.sweeps import write_sweep

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Structure(HTMLParser):
    """What a page is made of; a tag that is closed in the wrong place is an error."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> is in the wrong place"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a finished sweep of four variants."""
    return write_report(write_sweep(tmp_path_factory.mktemp("sweep"), tasks=16))


@pytest.fixture(scope="module")
def structure(page: Path) -> Structure:
    parsed = Structure()
    parsed.feed(page.read_text(encoding="utf-8"))
    assert parsed.open == []
    return parsed


def test_nothing_is_fetched(page: Path, structure: Structure) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!#|report\.|viewer/)|url\(|@import', text)
    assert "http" not in text.replace("python3 -m http.server", "")
    assert not any(tag in ("link", "img", "iframe") for tag, _ in structure.tags)


def test_what_matters_is_there_without_scripts(page: Path) -> None:
    text = re.sub(r"<script>.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.search(r'class="answer">pass\^1 falls from 1\.00 to 0\.\d\d as', text)
    assert text.count('<details class="task">') > 3
    assert "agent calls</b> <code>add_data(" in text
    assert '<div class="tools" hidden>' in text, "what needs scripts is not shown without them"


def test_headings_go_down_step_by_step(structure: Structure) -> None:
    levels = [int(tag[1]) for tag, _ in structure.tags if re.fullmatch(r"h\d", tag)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_tables_have_captions_and_named_rows_and_columns(structure: Structure) -> None:
    tags = [tag for tag, _ in structure.tags]
    assert tags.count("caption") == tags.count("table") > 8
    scopes = [attributes.get("scope") for tag, attributes in structure.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}
    assert all(structure.text["th"])


def test_figures_tell_what_they_show_and_hold_their_numbers_as_a_table(structure: Structure) -> None:
    drawn = [attributes for tag, attributes in structure.tags if tag == "svg" and attributes.get("class") == "chart"]
    assert len(drawn) == sum(tag == "figure" for tag, _ in structure.tags) == 6
    assert all(one.get("role") == "img" and one.get("aria-label") for one in drawn)
    assert structure.text["summary"].count("the numbers") == 6


def test_ids_are_unique_and_links_lead_somewhere(structure: Structure) -> None:
    ids = [attributes["id"] for _, attributes in structure.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = [str(attributes["href"]) for tag, attributes in structure.tags if tag == "a"]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert {"report.md", "report.json", "report.csv"} <= set(links)


def test_names_and_logs_are_shown_as_text_never_as_html(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, tasks=4, shares=(0, 20), trials=1)
    known = read_record(folder)
    variants = [msgspec.structs.replace(one, group=f"<b>{one.group}") for one in known.variants]
    write_record(folder, msgspec.structs.replace(known, question="<script>alert(1)</script>", variants=variants))
    text = write_report(folder).read_text(encoding="utf-8")
    assert "<script>alert" not in text and "<b>0pct" not in text
    assert "&lt;script&gt;alert(1)" in text and "&lt;b&gt;0pct" in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_are_told_from_the_background(scheme: str) -> None:
    """4.5 to 1 for text, 3 to 1 for what is drawn (WCAG 2.1, 1.4.3 and 1.4.11)."""
    from agent_sft.report.page import STYLE as OF_ALL_PAGES

    blocks = re.findall(r":root \{([^}]*)\}", OF_ALL_PAGES + STYLE)
    wanted = blocks[:2] if scheme == "light" else blocks[:3]
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", " ".join(wanted)))
    for name in ("text", "soft", "link", "bad"):
        for ground in ("paper", "tint"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for number in range(8):
        assert contrast(colours[f"s{number}"], colours["paper"]) >= 3, number
    assert contrast(colours["s2"], colours["paper"]) >= 4.5, "of the word 'succeeded'"


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG 2.1's definition."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.slow
def test_eight_variants_of_a_hundred_tasks_stay_below_three_megabytes(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, shares=[5.0 * number for number in range(8)], tasks=100)
    size = write_report(folder).stat().st_size
    assert 200_000 < size < 3_000_000


needs_chromium = pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium on this machine")


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (500, True)])
def test_axe_finds_nothing_wrong(page: Path, tmp_path: Path, width: int, dark: bool) -> None:
    pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    assert browser.accessibility(page, tmp_path, width=width, dark=dark) == []


@needs_chromium
@pytest.mark.slow
def test_the_page_fits_a_phone(page: Path, tmp_path: Path) -> None:
    """Chromium without a screen is never narrower than 500, so the page is looked at in a frame of 360."""
    script = """
    const frame = document.createElement("iframe");
    frame.style.cssText = "width:360px;height:800px;border:0";
    frame.onload = () => {
      const inside = frame.contentDocument;
      for (const one of inside.querySelectorAll("details")) one.open = true;
      const widths = [inside.documentElement.scrollWidth, inside.body.getBoundingClientRect().width];
      const heads = [...inside.querySelectorAll("th")].map(one => one.getBoundingClientRect().height);
      found([Math.max(...widths), Math.max(...heads)]);
    };
    frame.srcdoc = document.documentElement.outerHTML.replace(/<script[^]*?<\\/script>/g, "");
    document.body.append(frame);
    """
    widest, tallest = browser.evaluate(page, script, tmp_path)
    assert widest <= 360
    assert tallest < 200, "a name that is broken letter by letter"


@needs_chromium
@pytest.mark.slow
def test_two_variants_can_be_chosen_and_tables_sorted(page: Path, tmp_path: Path) -> None:
    script = """
    const [one, other] = document.querySelectorAll(".tools select");
    one.value = "0pct"; other.value = "20pct"; other.dispatchEvent(new Event("change"));
    const shown = [...document.querySelectorAll("article")].filter(a => !a.hidden).map(a => a.dataset.of);
    const head = [...document.querySelectorAll("#variants thead th")].find(h => h.textContent.startsWith("train loss"));
    head.querySelector("button").click(); head.querySelector("button").click();
    const rows = [...head.closest("table").tBodies[0].rows].map(r => r.cells[0].textContent);
    found([[...new Set(shown)].sort(), rows, head.getAttribute("aria-sort")]);
    """
    shown, rows, direction = browser.evaluate(page, script, tmp_path)
    assert shown == ["0pct", "20pct"]
    assert rows == ["20pct", "10pct", "5pct", "0pct"] and direction == "descending"
