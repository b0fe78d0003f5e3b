"""Prompts without columns: a text file with one a line, or a folder of text files with one each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from renderfarm.errors import ManifestError
from renderfarm.sources.encoding import encoding_of
from renderfarm.sources.headers import meaning
from renderfarm.sources.types import CELL_CHARS_MAX, Brief, SourceRow

FILES_MAX = 1_000_000
_BULLET = re.compile(r"\s*(?:[-*•–·]|\d{1,4}[.)])\s+(?=\S)")
"""What text programs put before the lines of a list."""
_SETTINGS = re.compile(r"\s*(?:Negative prompt:|Steps:\s*\d+\s*,)")


def lines(path: Path, source: Brief) -> Iterator[SourceRow]:
    """A prompt a line; blank lines and those that begin with `#` are left out, and the latter counted.

    Lines of settings, as A1111 writes them below a prompt, belong to it. Raises: ManifestError, OSError.
    """
    comments = bullets = 0
    with path.open(encoding=encoding_of(path, source)) as file:
        number = 0
        held: SourceRow | None = None
        while line := file.readline(CELL_CHARS_MAX + 1):
            number += 1
            if len(line) > CELL_CHARS_MAX:
                raise ManifestError(f"line {number} has more than {CELL_CHARS_MAX} characters", str(path), "write one prompt a line")
            if line.lstrip().startswith("#"):
                comments += 1
            elif number == 1 and meaning(line, {}) == "prompt":
                source.notes.append("line 1 names the column")
            elif held is not None and _SETTINGS.match(line):
                held.cells["prompt"] += f"\n{line.strip()}"
            elif line.strip():
                if held is not None:
                    yield held
                marked = _BULLET.match(line)
                bullets += bool(marked)
                held = SourceRow(number, {"prompt": line[marked.end() if marked else 0 :].strip()})
    if held is not None:
        yield held
    if bullets:
        source.notes.append(f"marks of a list before {bullets} prompt(s) were left out")
    if comments:
        source.notes.append(f"{comments} line(s) that begin with # are comments and were left out")


def folder_files(folder: Path) -> list[Path]:
    """The .txt files of a folder by name, numbers in it as numbers. Raises: ManifestError where there is none."""
    files = sorted((path for path in folder.iterdir() if path.suffix.lower() == ".txt" and path.is_file()), key=_natural)
    if not files:
        raise ManifestError("a folder without .txt files", str(folder), "name a folder with one prompt a file, or a table")
    if len(files) > FILES_MAX:
        raise ManifestError(f"more than {FILES_MAX} files", str(folder), "write the prompts into one .jsonl or .csv")
    return files


def folder(files: list[Path], source: Brief) -> Iterator[SourceRow]:
    """One prompt a file, whose name is the id. Raises: ManifestError, OSError."""
    source.ids = True
    for number, path in enumerate(files, 1):
        if path.stat().st_size > 4 * CELL_CHARS_MAX:
            yield SourceRow(number, {}, f"{path.name} has more than {4 * CELL_CHARS_MAX} bytes; write one prompt a file")
            continue
        text = path.read_text(encoding=encoding_of(path, source)).strip()
        yield SourceRow(number, {"id": path.stem, "prompt": text} if text else {"id": path.stem})


def _natural(path: Path) -> tuple[int, int, str]:
    """`2.txt` before `10.txt`."""
    return (0, int(path.stem), path.name) if path.stem.isdecimal() and len(path.stem) < 19 else (1, 0, path.name)
