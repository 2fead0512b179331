"""The other end of `lincodegen.compile.child`: a process that answers lines by lines of JSON."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Mapping

READY = "ready"


def serve(answer: Callable[[str], Mapping[str, object]]) -> None:
    """Answers each line of standard input until it ends.

    What else is printed, such as the whole PTX after an error of ptxas, goes to standard error.
    """
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(READY, file=replies, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(line)), file=replies, flush=True)
        _forget_output()


def _forget_output() -> None:
    """Empties the file behind standard error: its last words should be those of the next job."""
    sys.stdout.flush()
    sys.stderr.flush()
    if stat.S_ISREG(os.fstat(2).st_mode):
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
