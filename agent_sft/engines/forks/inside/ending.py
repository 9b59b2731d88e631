"""How a program ends at once that has an engine imported."""

import atexit
import gc
import io
import os
import sys
import threading
from typing import NoReturn

WRITERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def end(status: int) -> NoReturn:
    """End this process after all that is left for its end: threads, what was registered, files that nobody closed.

    The interpreter is not taken apart. That takes half a second where an engine is imported, most of it for memory that
    a forked process shares until it touches it. And a thread of gloo's that asks for Python's lock meanwhile is ended
    where C++ allows none to be, and the process with it, by abort: a training that is finished is told as failed.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for one in gc.get_objects():
        if type(one) in WRITERS and not one.closed:
            try:
                one.flush()
            except (OSError, ValueError):  # as at any program's end: nobody is left to be told
                continue
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(status)


def status_of(asked: SystemExit) -> int:
    """Return the status of a program that ends by this; what it says in its place is printed."""
    if asked.code is None or isinstance(asked.code, int):
        return asked.code or 0
    print(asked.code, file=sys.stderr)
    return 1
