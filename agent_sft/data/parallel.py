"""Blocks of rows worked on in several processes, with the results in order.

The processes are forks, so that whatever the work needs is there: transforms of the user's, too. Nothing is decided in
them: a block that raises anything there is read again here, row by row, where faults are told with their place. What
is wrapped in a `PickleBuffer` goes through memory that they share, the rest through pipes.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import pickle
import select
import signal
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from agent_sft.data.blocks import Block, Cutter

R = TypeVar("R")
Bytes = bytes | memoryview | pickle.PickleBuffer

LARGE = 8 << 20
"""Bytes of the files together from which on further processes are worth their start."""
MOST = 4
"""Processes; one more thread of this one cuts and writes, and could not keep up with many."""
AHEAD = 3
"""Blocks for each process that are under way or wait for those before them."""
QUEUED = 2
"""Items that a process has at once: it need not wait for the next one."""
UNREAD = 16 << 10
"""Bytes that a pipe takes at once though nobody reads them yet."""
LENGTH = struct.Struct("<Q")
SHARED = 4 << 20
"""Bytes of memory shared for a block and then for its result; what does not fit goes through the pipe."""
KEPT = 8 << 20
"""Bytes of a piece of memory that glibc unmaps when it is freed; from then on it keeps twice as much of what is."""
COLLECTED = 200
"""Blocks after which a process looks for garbage that refers to itself, which is next to none."""


def cpus() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(paths: Iterable[Path | None]) -> int:
    """Return how many processes to start for files; none where they would not be faster or a fork is not safe."""
    size = sum(path.stat().st_size for path in paths if path is not None and path.is_file())
    if size < LARGE or sys.platform != "linux" or threading.active_count() > 1:
        return 0
    return min(cpus(), MOST) if cpus() > 1 else 0


def results_of(pool: Pool[R], cutter: Cutter, after: int, *details: Any) -> Iterator[R]:
    """Yield what processes make of the blocks of a source; what they cannot take is left where it was read from.

    Args:
        pool: the processes; their work is given a block and `details`.
        cutter: what cuts the blocks.
        after: the number of the last row that was read.
        details: what else the work has to know of the source.
    """
    waiting: deque[Block] = deque()

    def items() -> Iterator[tuple[Any, ...]]:
        last = after
        while (block := cutter.take(last)) is not None:
            last = block.first + block.count - 1
            waiting.append(block)
            yield block, *details

    with contextlib.closing(pool.map(items())) as results:
        for result in results:
            if result is None:
                cutter.hand_back(waiting)
                return
            waiting.popleft()
            yield result


class Lines:
    """Lines written in memory, and put together once: a buffer that grows would copy them with each of them."""

    def __init__(self) -> None:
        self._lines: list[Bytes] = []

    def write(self, lines: Bytes) -> None:
        """Take in lines."""
        self._lines.append(lines)

    def together(self) -> pickle.PickleBuffer:
        """Return all that was written, to be sent through shared memory."""
        return pickle.PickleBuffer(b"".join(self._lines))


class Sink(Protocol):
    """What lines are written to: a file, or memory."""

    def write(self, lines: Bytes, /) -> object:
        """Take in lines."""


class Pool(Generic[R]):
    """Processes that do one kind of work. They end with this one, however it ends: their pipe from it closes."""

    def __init__(self, work: Callable[[Any], R], count: int) -> None:
        _keep_freed_memory()
        self._workers: list[_Worker] = []
        self._shared = [mmap.mmap(-1, SHARED) for _ in range(AHEAD * count)]
        try:
            for _ in range(count):
                self._workers.append(_Worker(work, self._workers, self._shared))
        except BaseException:
            self.close()
            raise

    def map(self, items: Iterator[Any]) -> Generator[R | None, None, None]:
        """Yield what the work makes of each item, in order; None where it failed, or its process did.

        Buffers in a result hold what they held until the next one is asked for.
        """
        done: dict[int, R | None] = {}
        following = yielded = 0
        message: bytes | None = None
        more = True
        try:
            while True:
                while more and following - yielded < len(self._shared):
                    if message is None:
                        if (item := next(items, None)) is None:
                            more = False
                            break
                        message = _packed(item, following % len(self._shared), self._shared)
                    worker = min(self._workers, key=lambda one: len(one.numbers))
                    if len(worker.numbers) >= (QUEUED if len(message) <= UNREAD else 1):
                        break
                    worker.send(message)
                    worker.numbers.append(following)
                    following += 1
                    message = None
                if yielded in done:
                    yield done.pop(yielded)
                    yielded += 1
                    continue
                busy = {worker.source: worker for worker in self._workers if worker.numbers}
                if not busy:
                    return
                for source in select.select(list(busy), [], [])[0]:
                    number, result = busy[source].receive()
                    done[number] = result
        finally:
            for worker in self._workers:
                while worker.numbers:
                    worker.receive()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()
        for worker in self._workers:
            worker.wait()
        self._workers, self._shared = [], []

    def __enter__(self) -> Pool[R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Worker:
    """One process, and the pipes to and from it."""

    def __init__(self, work: Callable[[Any], Any], others: list[_Worker], shared: list[mmap.mmap]) -> None:
        self._shared = shared
        self.numbers: deque[int] = deque()
        """Of the items that are under way here."""
        items, self.sink = os.pipe()
        self.source, results = os.pipe()
        self._process = os.fork()
        if self._process:
            os.close(items)
            os.close(results)
            return
        try:
            for descriptor in (self.sink, self.source, *chain.from_iterable((o.sink, o.source) for o in others)):
                os.close(descriptor)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # ends with the one that started it
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _serve(work, items, results, shared)
        finally:
            os._exit(0)  # nothing of what the other process left open is closed twice

    def send(self, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # a process that died gives no result
            _write(self.sink, message)

    def receive(self) -> tuple[int, Any]:
        """Return the number and the result of the item that was sent first of those under way."""
        found = _read(self.source, self._shared)
        return self.numbers.popleft(), found[1] if found is not None else None

    def close(self) -> None:
        os.close(self.sink)
        os.close(self.source)

    def wait(self) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._process, 0)


def _keep_freed_memory() -> None:
    """Let the buffers of a block take the memory of the last one's.

    To give it back to the system, and get it again page by page, would take a fifth of the time.
    """
    bytes(KEPT)


def _serve(work: Callable[[Any], Any], items: int, results: int, shared: list[mmap.mmap]) -> None:
    gc.disable()
    gc.freeze()
    number = 0
    while (found := _read(items, shared)) is not None:
        place, item = found
        result = None
        with contextlib.suppress(Exception):
            result = work(item)
        _write(results, _packed(result, place, shared))
        number += 1
        if number % COLLECTED == 0:
            gc.collect()


def _packed(value: Any, place: int, shared: list[mmap.mmap]) -> bytes:
    """Return what to send of a value; its buffers are put into the shared memory of that place, one after another."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    raw = [buffer.raw() for buffer in buffers]
    ends = list(accumulate((len(one) for one in raw), initial=0))
    if ends[-1] > SHARED:
        data, raw, ends = pickle.dumps(value, pickle.HIGHEST_PROTOCOL), [], []
    for one, (start, end) in zip(raw, pairwise(ends), strict=True):
        shared[place][start:end] = one
    return pickle.dumps((place, ends, data))


def _write(descriptor: int, message: bytes) -> None:
    for part in (LENGTH.pack(len(message)), message):
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _read(descriptor: int, shared: list[mmap.mmap]) -> tuple[int, Any] | None:
    """Return the next value from a pipe, after its place in the shared memory; None where the pipe was closed."""
    head = _exactly(descriptor, LENGTH.size)
    message = _exactly(descriptor, *LENGTH.unpack(head)) if head is not None else None
    if message is None:
        return None
    place, ends, data = pickle.loads(message)  # noqa: S301 - from a process of our own
    memory = memoryview(shared[place])
    buffers = [memory[start:end] for start, end in pairwise(ends)]
    return place, pickle.loads(data, buffers=buffers)  # noqa: S301


def _exactly(descriptor: int, size: int) -> bytearray | None:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        count = os.readv(descriptor, [rest])
        if count == 0:
            return None
        rest = rest[count:]
    return data
