"""Records in log order → the records of one image together, in the order of the sheet; in constant memory.

The records of one image may lie millions of rows apart, so they go through a temporary SQLite file: bodies by arrival,
images by a compact index. The file is deleted on close. Log order is kept inside an image.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from renderfarm.report.encode import Plain, plain
from renderfarm.schema import Record, is_review

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
CREATE TABLE images (number INTEGER PRIMARY KEY, name BLOB UNIQUE, place BLOB, superseded INTEGER NOT NULL DEFAULT 0);
CREATE TABLE bodies (image INTEGER NOT NULL, body TEXT NOT NULL);
"""


REVIEWS = "reviews"


@dataclass(frozen=True, slots=True)
class ImageRecords:
    """What the log says of one image. `attempts` in log order, never empty; what people said of one stands under REVIEWS in it."""

    attempts: tuple[Plain, ...]
    superseded: bool


class Spool:
    """Groups records by image. `fill` once, then iterate `images()`; use as a context manager."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="renderfarm-report-")
        self._db = sqlite3.connect(Path(self._folder.name) / "spool.sqlite")
        self._db.executescript(_TABLES)
        self._nameless = 0
        self._digest = hashlib.sha256()
        self.plan: Plain | None = None
        self.started_us: int | None = None
        self.finished_us: int | None = None

    @property
    def digest(self) -> str:
        """Hex SHA-256 over everything that `fill` took."""
        return self._digest.hexdigest()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._db.close()
        self._folder.cleanup()

    def fill(self, records: Iterable[Record]) -> None:
        """Takes every record. The newest plan record stays in `plan`; superseded images are marked, not dropped.

        `started_us` and `finished_us` become the first start and the last end of any attempt.
        """
        for record in records:
            if record.kind == "plan":
                self.plan = plain(record)
            elif record.kind == "attempt":
                self._add_attempt(record)
            elif is_review(record):
                self._add_body(self._image(record.image_id or ""), record)
            elif record.kind in ("superseded", "reinstated"):
                image = self._image(record.image_id or "")
                left = int(record.kind == "superseded")
                self._digest.update(f"{record.kind} {record.image_id}\n".encode(errors="replace"))
                self._db.execute("UPDATE images SET superseded = ? WHERE number = ?", (left, image))
        self._db.execute("CREATE INDEX by_image ON bodies (image)")

    def images(self) -> Iterator[ImageRecords]:
        """Each image that has an attempt: those of the newest plan by row id and index, then the superseded ones."""
        order = "SELECT number, superseded FROM images WHERE place IS NOT NULL ORDER BY superseded, place, name"
        for number, superseded in self._db.execute(order):
            bodies = self._db.execute("SELECT body FROM bodies WHERE image = ? ORDER BY rowid", (number,))
            yield ImageRecords(_with_reviews([json.loads(body) for (body,) in bodies]), bool(superseded))

    def _add_attempt(self, record: Record) -> None:
        image = self._image(self._name(record))
        place = _place(record.row_id or "", record.index or 0)
        self._db.execute("UPDATE images SET place = ? WHERE number = ? AND place IS NULL", (place, image))
        started = record.started_us or record.finished_us
        if started:
            self.started_us = min(started, self.started_us or started)
            self.finished_us = max(record.finished_us, self.finished_us or started)
        self._add_body(image, record)

    def _add_body(self, image: int, record: Record) -> None:
        body = json.dumps(plain(record))
        self._digest.update(body.encode())
        self._db.execute("INSERT INTO bodies VALUES (?, ?)", (image, body))

    def _name(self, record: Record) -> str:
        """An invalid row that was skipped has no image id, and perhaps no row id: it still gets its own card."""
        if record.image_id:
            return record.image_id
        if record.row_id:
            return f"row {record.index or 0} {record.row_id}"
        self._nameless += 1
        return f"nameless {self._nameless}"

    def _image(self, name: str) -> int:
        key = (_bytes(name),)
        self._db.execute("INSERT OR IGNORE INTO images (name) VALUES (?)", key)
        (number,) = self._db.execute("SELECT number FROM images WHERE name = ?", key).fetchone()
        return int(number)


def _with_reviews(bodies: list[Plain]) -> tuple[Plain, ...]:
    """The attempts, each as the newest person's word left it: its outcome, the place of its picture, and who said what."""
    attempts = {body.get("attempt"): place for place, body in enumerate(bodies) if body.get("kind") == "attempt"}
    for body in bodies:
        place = attempts.get(body.get("attempt"))
        if body.get("kind") == "attempt" or place is None:
            continue
        word = [body.get("outcome", ""), body.get("reviewer", ""), body.get("reason", ""), body["finished_us"]]
        attempt = bodies[place]
        attempt["outcome"], attempt["object_key"] = word[0], body.get("object_key", attempt.get("object_key"))
        attempt["verdicts"] = [*attempt.get("verdicts", []), *body.get("verdicts", [])]
        attempt[REVIEWS] = [*attempt.get(REVIEWS, []), word]
    return tuple(body for body in bodies if body.get("kind") == "attempt")


def _place(row_id: str, index: int) -> bytes:
    """Sorts `mug-2` before `mug-10`: runs of digits padded to equal width, case aside, then the index."""
    padded = re.sub(r"[0-9]+", lambda digits: digits.group().zfill(20), row_id.casefold())
    return b"\0".join((_bytes(padded), _bytes(row_id), b"%010d" % index))


def _bytes(text: str) -> bytes:
    """SQLite text holds no lone surrogates and stops at NUL; blobs hold anything and sort by byte."""
    return text.encode("utf-8", "surrogatepass")
