"""A report that reads the same as Markdown, on a page, and on a terminal."""

from __future__ import annotations

from agent_sft.report.document import Code, Section, as_markdown, as_page, as_text
from agent_sft.report.tables import Table

SECTIONS = [
    Section("The answer", ["Run `agent-sft deploy` if a < b.", Table("Scores", ["model", "loss"], [["a|b", "1.5"]])]),
    Section("How", [Code(["curl <address>", "  more"])]),
]


def test_as_markdown_it_has_headings_tables_and_code() -> None:
    told = as_markdown("A plan", SECTIONS)
    assert told.startswith("# A plan\n\n## The answer\n\nRun `agent-sft deploy` if a < b.\n")
    assert "| a\\|b | 1.5 |" in told
    assert "```text\ncurl <address>\n  more\n```" in told


def test_as_a_page_nothing_of_it_is_taken_for_html() -> None:
    told = as_page("A <plan>", SECTIONS)
    assert "<title>A &lt;plan&gt;</title>" in told
    assert "<p>Run <code>agent-sft deploy</code> if a &lt; b.</p>" in told
    assert "<pre>curl &lt;address&gt;\n  more</pre>" in told
    assert "http" not in told


def test_on_a_terminal_it_is_plain() -> None:
    told = as_text(SECTIONS)
    assert told.startswith("THE ANSWER\n\nRun")
    assert "  curl <address>" in told
