"""Rows to the lines of a training file, each kept or rejected with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pickle import PickleBuffer
from typing import IO, Any

import orjson

from agent_sft.data.blocks import Block
from agent_sft.data.carrier import carry
from agent_sft.data.common import example_of_chat
from agent_sft.data.conversation import Origin
from agent_sft.data.dialects import Dialect
from agent_sft.data.formats import FORMATS, Format, openai, sharegpt
from agent_sft.data.jsontext import loads_all
from agent_sft.data.ledger import encoded
from agent_sft.data.opening import open_rows_of
from agent_sft.data.parallel import Lines, Pool, results_of, workers_for
from agent_sft.data.report import Tally
from agent_sft.data.rewards import LeftOut, Rewards
from agent_sft.data.scaffold import Scaffold
from agent_sft.data.sharegpt import Example, normalise
from agent_sft.data.sources import Source
from agent_sft.data.trail import PrepareTrail
from agent_sft.data.turns import Unusable, has_plain_roles
from agent_sft.files import WriteBehind


@dataclass(frozen=True)
class Reading:
    """How rows become examples."""

    dialect: Dialect
    rewards: Rewards
    forms: dict[str, Format]
    """By source."""
    scaffold: Scaffold | None = None
    """What is put before every conversation."""

    def examples(self, origin: Origin, row: Any) -> tuple[Example, ...]:
        """Return what is trained on of a row.

        A ShareGPT row that can be used as it stands keeps its texts to the byte.

        Raises:
            Unusable: nothing can be; the message is the reason.
            LeftOut: its reward is below the one that was asked for.
        """
        found = self._own_examples(origin, row)
        return found if self.scaffold is None else self.scaffold.around(found)

    def _own_examples(self, origin: Origin, row: Any) -> tuple[Example, ...]:
        form = self.forms[origin.file]
        if form is FORMATS[sharegpt.NAME]:
            self.rewards.check(origin, row)
            try:
                return (normalise(row, self.dialect),)
            except Unusable as unusable:
                try:
                    return carry(form.read(row, origin), self.dialect)
                except Unusable as carried:
                    # Roles by other names are understood by the second reading alone: it knows what is wrong.
                    raise (unusable if has_plain_roles(row) else carried) from None
        conversation = form.read(row, origin)
        self.rewards.check(origin, conversation.metadata)
        return carry(conversation, self.dialect)

    def common_example(self, origin: Origin, row: Any) -> dict[str, Any] | None:
        """Return the only row to write for a row to which nothing has to be done; None where `examples` has to look."""
        if self.forms[origin.file] is not FORMATS[openai.NAME] or self.rewards.minimum is not None or self.scaffold:
            return None
        return example_of_chat(row, self.dialect)


@dataclass(frozen=True)
class Made:
    """What came of a block of rows."""

    lines: PickleBuffer | memoryview
    rejects: bytes
    tally: Tally
    trail: bytes

    def moved(self, by: int) -> Made:
        """Return the same of rows whose numbers are that much higher."""
        first_rejects = [(number + by, reason) for number, reason in self.tally.first_rejects]
        tally = replace(self.tally, first_rejects=first_rejects)
        return Made(self.lines, _moved(self.rejects, by), tally, _moved(self.trail, by))


class Writing:
    """Writes examples, and the rows of which none can be made."""

    def __init__(
        self,
        reading: Reading,
        *,
        name: str,
        lines: IO[bytes] | Lines,
        rejects: IO[bytes],
        trail: IO[bytes] | None = None,
    ) -> None:
        self.tally = Tally()
        self._reading = reading
        self._name = name
        self.lines = lines
        self._rejects = rejects
        self._trail = PrepareTrail(trail) if trail is not None else None

    def write_all(self, sources: Sequence[Source], asked: Format | None) -> None:
        """Write what becomes of all rows of sources; several processes share the work where it is much.

        Raises:
            UserError: a source cannot be read.
        """
        many = len(sources) > 1
        count = workers_for(one.path for one in sources)
        assert not isinstance(self.lines, Lines)
        with Pool(self._work, count) as pool, WriteBehind(self.lines) as behind:
            for one in sources:
                opened = open_rows_of(one, asked, self._reading.rewards)
                assert opened.form is not None
                self._reading.forms[one.name] = opened.form
                self._write(opened.first, many)
                if count and opened.cutter is not None:
                    after = opened.first[-1][0].row
                    for made in results_of(pool, opened.cutter, after, one.name, opened.form.name, many):
                        self.add(made)
                        behind.wrote(memoryview(made.lines).nbytes)
                self._write(opened.rest, many)

    def take(self, row: Any, line: bytes) -> None:
        """Write what becomes of the next row of the one source of OpenAI rows, which a pipeline just made.

        Args:
            row: the row.
            line: the same as it stands in the file.
        """
        [source] = self._reading.forms
        origin = Origin(file=source, row=self.tally.rows_read + 1)
        if not self._write_common(origin, row):
            self._look_at(origin, loads_all(line), many=False)

    def elsewhere(self) -> Writing:
        """Return one that does the same in memory, for a part of the rows."""
        trail = BytesIO() if self._trail is not None else None
        return Writing(self._reading, name=self._name, lines=Lines(), rejects=BytesIO(), trail=trail)

    def made(self) -> Made:
        """Return what was written in memory."""
        assert isinstance(self.lines, Lines) and isinstance(self._rejects, BytesIO)
        trail = self._trail.stream if self._trail is not None else None
        told = trail.getvalue() if isinstance(trail, BytesIO) else b""
        return Made(self.lines.together(), self._rejects.getvalue(), self.tally, told)

    def add(self, made: Made, *, behind: int = 0) -> None:
        """Write what another one made of the rows that follow.

        Args:
            made: that.
            behind: how many rows came before, if they were numbered from 1 there.
        """
        made = made.moved(behind) if behind else made
        self.lines.write(made.lines)
        self._rejects.write(made.rejects)
        self.tally.add(made.tally)
        if self._trail is not None:
            self._trail.append(made.trail)

    def _write(self, rows: Iterable[tuple[Origin, Any]], many: bool) -> None:
        for origin, row in rows:
            if not self._write_common(origin, row):
                self._look_at(origin, row, many)

    def _write_common(self, origin: Origin, row: Any) -> bool:
        """Write the example of a row to which nothing has to be done; tell whether it is one."""
        common = self._reading.common_example(origin, row)
        line = _line_or_none(common) if common else None
        if common is None or line is None:
            return False
        self.lines.write(line)
        self.tally.keep_unchanged(len(common["conversations"]))
        if self._trail is not None:
            self._trail.note_unchanged(origin, row, common)
        return True

    def _look_at(self, origin: Origin, row: Any, many: bool) -> None:
        """Write the examples of a row, or why there are none."""
        ended: Unusable | LeftOut | None = None
        try:
            examples = self._reading.examples(origin, row)
            lines = [_line(example.as_row()) for example in examples]
        except (Unusable, LeftOut) as unusable:
            ended, reason, examples = unusable, str(unusable), ()
            left_out = isinstance(unusable, LeftOut)
            self.tally.reject(origin.row, reason, left_out=left_out)
            place = {"source": origin.file} if many else {}
            further = {"left_out": True} if left_out else {}
            reject = {"dataset": self._name, **place, "row": origin.row}
            self._rejects.write(encoded({**reject, "reason": reason, **further, "data": row}))
        else:
            self.tally.keep(examples)
            self.lines.write(b"".join(lines))
        if self._trail is not None:
            self._trail.note(origin, row, examples, ended)

    def _work(self, item: tuple[Block, str, str, bool]) -> Made:
        """Do in another process what `write_all` does with a block's rows here."""
        block, source, form, many = item
        self._reading.forms[source] = FORMATS[form]
        writing = self.elsewhere()
        writing._write(((Origin(file=source, row=number), row) for number, row in block.rows()), many)
        return writing.made()


def _line(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        raise Unusable("one of its texts holds half a character (a lone \\ud800 to \\udfff)") from error


def _line_or_none(row: dict[str, Any]) -> bytes | None:
    try:
        return _line(row)
    except Unusable:
        return None


def _moved(lines: bytes, by: int) -> bytes:
    return _NUMBER.sub(lambda found: b"%b%d" % (found[1], int(found[2]) + by), lines)


_NUMBER = re.compile(rb'^(.*?"row": ?)(\d+)', re.MULTILINE)
"""The number of a row, the first that stands under this key: no text holds a quote that is not escaped."""
