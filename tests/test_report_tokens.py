"""How the tokens of a row look."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from agent_sft.engines.llamafactory.encoding import EncodedRow
from agent_sft.report.page import STYLE, columns, page, section, table
from agent_sft.report.tokens import LEGEND, as_html, coloured, figures, plain

ROW = EncodedRow(
    row=1,
    ids=(5, 6, 7, 8, 9),
    labels=(-100, -100, 7, 8, -100),
    pieces=(("Hi\n", 1), ("\x1b[31m", 1), ("<b>é", 2), (" end", 1)),
)


def test_loss_stands_between_brackets_where_there_is_no_colour() -> None:
    assert plain(ROW) == "Hi\n␛[31m⟦<b>é⟧ end"


def test_the_figures_count_tokens_not_pieces() -> None:
    assert figures(ROW) == "5 tokens, 2 with loss (40%)"


def test_an_escape_sequence_in_the_data_never_reaches_the_terminal() -> None:
    shown = coloured(ROW)
    assert "\x1b" not in shown.plain
    assert shown.plain == "Hi↵\n␛[31m<b>é end"


def test_what_would_show_tokens_in_another_order_is_shown_itself() -> None:
    row = EncodedRow(row=1, ids=(5,), labels=(5,), pieces=(("a\u202eb", 1),))
    assert plain(row) == "⟦a⟨U+202E⟩b⟧"
    assert "\u202e" not in as_html(row)


def test_only_what_carries_loss_is_green_on_a_terminal() -> None:
    shown = coloured(ROW)
    green = "".join(shown.plain[span.start : span.end] for span in shown.spans if "green" in str(span.style))
    assert green == "<b>é"


class Spans(HTMLParser):
    """The class, the title and the text of each span."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self._open: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = dict(attrs) if tag == "span" else None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.found.append((self._open.get("class") or "", self._open.get("title") or "", data))
            self._open = None


def test_the_page_holds_every_token_with_its_id() -> None:
    spans = Spans()
    spans.feed(as_html(ROW))
    assert [title for _, title, _ in spans.found] == ["5", "6", "7 8", "9"]
    assert [text for kind, _, text in spans.found if "l" in kind.split()] == ["<b>é"]


def test_a_page_fetches_nothing_and_escapes_its_title() -> None:
    text = page("a < b", [table(("name", "count"), [("<i>", "1")])])
    assert "<h1>a &lt; b</h1>" in text
    assert '<th scope="row">&lt;i&gt;</th>' in text
    assert "http" not in text
    assert "<script" not in text


def test_a_reader_who_sees_no_colours_can_tell_what_carries_loss() -> None:
    assert "carry loss: underlined" in LEGEND
    assert re.search(r"\.l \{[^}]*border-bottom: 2px solid", STYLE)


def test_pages_are_dark_on_light_and_fit_a_telephone() -> None:
    text = page("a", ["b"])
    assert "color-scheme: light;" in text and "prefers-color-scheme" not in text
    assert 'content="width=device-width, initial-scale=1"' in text


def test_a_block_has_a_heading_and_escapes_it() -> None:
    assert columns([section("a < b", table((), [("x", "1")]))]).count("<h2>a &lt; b</h2>") == 1
    assert "<thead>" not in table((), [("x", "1")])
