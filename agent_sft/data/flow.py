"""Rows on their way through a pipeline: read as transforms take them, and what comes out written where it belongs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pickle import PickleBuffer
from typing import IO, Any

from agent_sft.data import examples
from agent_sft.data.amounts import measure
from agent_sft.data.blocks import Block
from agent_sft.data.conversation import Origin
from agent_sft.data.formats import FORMATS, Format
from agent_sft.data.jsontext import loads_all
from agent_sft.data.ledger import Ledger, Taken, encoded
from agent_sft.data.opening import open_rows_of
from agent_sft.data.parallel import Lines, Pool, Sink, results_of, workers_for
from agent_sft.data.pipeline import Pipeline, run_pipeline
from agent_sft.data.reading import describe
from agent_sft.data.rewards import LeftOut, Rewards
from agent_sft.data.rows import to_row
from agent_sft.data.sources import Source
from agent_sft.data.trail import ProcessTrail
from agent_sft.data.transforms.contract import Row
from agent_sft.data.transforms.split import SPLIT
from agent_sft.data.turns import Unusable
from agent_sft.files import WriteBehind

READ, REWARD = "read", "reward"
"""What ends a row before the first transform: it cannot be read, or its reward is too low."""

Rows = Iterable[tuple[Origin, Any]]
"""Rows as values, or as the bytes of their JSON texts."""


@dataclass(frozen=True)
class Made:
    """What came of a block of rows."""

    kept: PickleBuffer | memoryview
    held_out: bytes
    count_held_out: int
    rejects: bytes
    entered: Taken
    trail: bytes
    prepared: examples.Made | None


class Flow:
    """Takes rows through a pipeline and writes what becomes of them."""

    def __init__(
        self,
        pipeline: Pipeline,
        ledger: Ledger,
        kept: IO[bytes] | Lines,
        held_out: Sink,
        rejects: Sink,
        *,
        rewards: Rewards,
        trail: IO[bytes] | None = None,
        prepared: examples.Writing | None = None,
    ) -> None:
        self.held_out = 0
        """How many rows `split` held out."""
        self._pipeline = pipeline
        self._ledger = ledger
        self._kept = kept
        self._held_out = held_out
        self._rejects = rejects
        self._rewards = rewards
        self._trail = ProcessTrail(trail) if trail is not None else None
        self._prepared = prepared

    def through(self, sources: Sequence[Source], asked: Format | None) -> Iterator[Format | None]:
        """Take all rows of sources through; yield what each is read as.

        Several processes share the work where it is much and every transform looks at one row at a time.

        Raises:
            UserError: a source cannot be read, or a transform failed.
        """
        raw = self._pipeline.takes_raw_rows
        count = workers_for(one.path for one in sources) if self._pipeline.is_row_by_row else 0
        if not count:
            forms: list[Format | None] = []

            def rows() -> Iterator[tuple[Origin, Row, Any]]:
                for one in sources:
                    opened = open_rows_of(one, asked, self._rewards, raw=raw)
                    forms.append(opened.form)
                    yield from self._read(opened.rows(), opened.form)

            self._run(rows())
            yield from forms
            return
        written = (self._kept, self._prepared.lines) if self._prepared is not None else (self._kept,)
        files = [one for one in written if not isinstance(one, Lines)]
        with Pool(self._work, count) as pool, WriteBehind(*files) as behind:
            for one in sources:
                opened = open_rows_of(one, asked, self._rewards, raw=raw)
                yield opened.form
                self._run(self._read(opened.first, opened.form))
                if opened.cutter is not None:
                    after, form = opened.first[-1][0].row, opened.form.name if opened.form else None
                    for made in results_of(pool, opened.cutter, after, opened.name, form):
                        self._add(made)
                        behind.wrote(memoryview(made.kept).nbytes)
                self._run(self._read(opened.rest, opened.form))

    def _run(self, rows: Iterator[tuple[Origin, Row, Any]]) -> None:
        for origin, row in run_pipeline(self._pipeline, rows, self._ledger, self._on_reject):
            is_eval = row.pop(SPLIT, "train") == "eval"
            self.held_out += is_eval
            if self._trail is not None:
                self._trail.note(origin, is_eval)
            line = encoded(row)
            if is_eval:
                self._held_out.write(line)
                continue
            self._kept.write(line)
            if self._prepared is not None:
                self._prepared.take(row, line)

    def _work(self, item: tuple[Block, str, str | None]) -> Made:
        """Do in another process what `through` does with a block's rows here."""
        block, name, form = item
        with contextlib.closing(Ledger(self._pipeline.names)) as ledger:
            kept, held_out, rejects, trail = Lines(), BytesIO(), BytesIO(), BytesIO()
            flow = Flow(
                self._pipeline,
                ledger,
                kept,
                held_out,
                rejects,
                rewards=self._rewards,
                trail=trail if self._trail is not None else None,
                prepared=self._prepared.elsewhere() if self._prepared is not None else None,
            )
            rows = ((Origin(file=name, row=number), text) for number, text in block.texts())
            flow._run(flow._read(rows, FORMATS[form] if form is not None else None))
            return Made(
                kept=kept.together(),
                held_out=held_out.getvalue(),
                count_held_out=flow.held_out,
                rejects=rejects.getvalue(),
                entered=ledger.taken(),
                trail=trail.getvalue(),
                prepared=flow._prepared.made() if flow._prepared is not None else None,
            )

    def _add(self, made: Made) -> None:
        self._kept.write(made.kept)
        self._held_out.write(made.held_out)
        self._rejects.write(made.rejects)
        self.held_out += made.count_held_out
        self._ledger.add(made.entered)
        if self._trail is not None:
            self._trail.append(made.trail)
        if self._prepared is not None and made.prepared is not None:
            self._prepared.add(made.prepared, behind=self._prepared.tally.rows_read)

    def _read(self, rows: Rows, form: Format | None) -> Iterator[tuple[Origin, Row, Any]]:
        """Yield rows as transforms take them; those that are no conversation are entered as rejects.

        Raises:
            ValueError: a row that is given as its JSON text is none.
        """
        for origin, given in rows:
            chat = None
            if isinstance(given, bytes) and (form is None or not (chat := form.chat_text(given))):
                given = loads_all(given)
            row = chat or (given if isinstance(given, dict) else {"": given})
            try:
                if form is not None and chat is None:
                    row = form.chat(given) or to_row(form.read(given, origin))
                elif form is None and not isinstance(given, dict):
                    raise Unusable(f"the row is {describe(given)}, not an object")
                self._rewards.check(origin, row)
            except LeftOut as left_out:
                self._ledger.read(amounts := measure(row))
                self._ledger.ended(origin, "left out", REWARD, str(left_out), amounts)
            except Unusable as unusable:
                self._ledger.read(amounts := measure(row))
                self._ledger.ended(origin, "rejected", READ, str(unusable), amounts)
                self._on_reject(origin, READ, str(unusable), given)
            else:
                yield origin, row, given

    def _on_reject(self, origin: Origin, by: str, reason: str, row: Any) -> None:
        row = loads_all(row) if isinstance(row, bytes) else row
        part = {"part": origin.part} if origin.part else {}
        place = {"file": origin.file, "row": origin.row, **part}
        self._rejects.write(encoded({**place, "by": by, "reason": reason, "data": row}))
