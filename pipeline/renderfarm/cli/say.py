"""The one place where the command line prints: whatever manifests, logs, servers and file names say, a terminal is never told to do it.

A control character could move the cursor or forge a line, a bidirectional one could turn a name around. So each line is escaped as it is
printed, and only then: everything behind this passes texts on as they are. Nothing else in the package calls `print`; a test sees to it.
"""

from __future__ import annotations

import json
from typing import TextIO


def printable(text: object) -> str:
    r"""The text as one line that shows what it holds: `\n`, `\x1b`, `\u202e`; also lone surrogates, of a name that is no UTF-8."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def say(*lines: object, file: TextIO | None = None, flush: bool = False) -> None:
    """Print these lines, each as one line. `file`: stdout where none is named."""
    for line in lines:
        print(printable(line), file=file, flush=flush)


def say_json(content: object, *, file: TextIO | None = None, flush: bool = False, indent: int | None = None) -> None:
    r"""Print one JSON document, on one line unless `indent`: the same values, with what a terminal would obey as `\u001b`."""
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1].replace("\x7f", r"\u007f") for c in text)
    print(text, file=file, flush=flush)
