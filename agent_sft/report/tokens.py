"""The tokens of a row, those that carry loss coloured: on a terminal, as plain text, and as HTML."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

    from agent_sft.engines.llamafactory.encoding import EncodedRow

OPENS, CLOSES = "⟦", "⟧"
"""Stand around what carries loss where there are no colours."""
TURNS_TEXT_AROUND = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the text after them, and with it the order that is seen."""
STYLES = {(False, 0): "", (False, 1): "on grey11", (True, 0): "black on green3", (True, 1): "black on pale_green3"}
"""By loss, and by whether the token is an even or an odd one, so that neighbours can be told apart."""


def figures(row: EncodedRow) -> str:
    """Return the number of tokens of a row, and of those that carry loss."""
    share = row.loss_tokens / len(row.ids) if row.ids else 0.0
    return f"{len(row.ids):,} tokens, {row.loss_tokens:,} with loss ({share:.0%})"


def plain(row: EncodedRow) -> str:
    """Return the text, with what carries loss between brackets."""
    parts: list[str] = []
    inside = False
    for text, _, _, loss in _pieces(row):
        if loss != inside:
            parts.append(OPENS if loss else CLOSES)
            inside = loss
        parts.append(text)
    return "".join(parts) + (CLOSES if inside else "")


def coloured(row: EncodedRow) -> Text:
    """Return the text for a terminal."""
    from rich.text import Text

    shown = Text()
    for number, (text, _, _, loss) in enumerate(_pieces(row)):
        # A colour that goes over the end of a line would fill it up.
        for index, line in enumerate(text.split("\n")):
            if index:
                shown.append("↵", STYLES[loss, number % 2])
                shown.append("\n")
            shown.append(line, STYLES[loss, number % 2])
    return shown


LEGEND = (
    '<ul class="legend"><li><span class="l">to</span><span class="l o">kens</span> carry loss: underlined</li>'
    '<li><span>to</span><span class="o">kens</span> are read only</li>'
    "<li>the shade changes with every token; ↵ is a line break</li></ul>"
)
"""What the marks of `as_html` mean."""


def as_html(row: EncodedRow) -> str:
    """Return the text as HTML; each token tells its id to the pointer that rests on it."""
    spans = []
    for number, (text, first, count, loss) in enumerate(_pieces(row)):
        kinds = " ".join(name for name, holds in (("l", loss), ("o", number % 2)) if holds)
        mark = f' class="{kinds}"' if kinds else ""
        ids = " ".join(str(token) for token in row.ids[first : first + count])
        spans.append(f'<span{mark} title="{ids}">{escape(text).replace(chr(10), "↵" + chr(10))}</span>')
    return f"<pre>{''.join(spans)}</pre>"


def _pieces(row: EncodedRow) -> Iterator[tuple[str, int, int, bool]]:
    """Yield each piece's text, without control characters, its first token, their number, and whether it has loss."""
    position = 0
    for text, count in row.pieces:
        yield _visible(text), position, count, row.labels[position] >= 0
        position += count


def _visible(text: str) -> str:
    """Return the text with control characters as pictures: those of a terminal must not reach it."""
    if text.isprintable():
        return text
    return "".join(_picture(character) for character in text)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20 and character not in "\n\t":
        return chr(0x2400 + code)
    if character in TURNS_TEXT_AROUND:
        return f"⟨U+{code:04X}⟩"
    return "␡" if 0x7F <= code < 0xA0 else character
