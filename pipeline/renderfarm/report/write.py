"""Records + summary → `report/`: chunks of lines, chunks of full records, and last the page that names them.

A crash between two writes leaves the old page with some new chunks; every chunk carries the build it belongs to, so
the page says that the report was cut off instead of mixing two. The next `write` repairs it. Chunks of a longer, older
report are removed at the end.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from renderfarm.output import REPORT, REPORT_INDEX
from renderfarm.report.encode import Plain, href, script_json
from renderfarm.report.page import page_html
from renderfarm.report.sheet import LINE, OUTCOMES, Sheet
from renderfarm.report.spool import REVIEWS, ImageRecords, Spool
from renderfarm.report.summary import Summary
from renderfarm.schema import RECORD_FIELDS, Record
from renderfarm.storage import Storage

LINES_PER_CHUNK = 1000
REASONS_MAX = 8
"""Reasons that the page offers; one that was given once is no pattern."""
UNSEEN = frozenset({"salt", "commitment", "signed", "subjects", "statement", "reviewer", "reviewed_digest", "withdrawn_key"})
FIELDS = (*(name for name in RECORD_FIELDS if name not in UNSEEN), REVIEWS)
"""What the page shows of an attempt: its record, and what people said of it."""
IMAGES_PER_CHUNK = 100
_CHUNK = re.compile(r"report/(index|data)-([0-9]{4,})\.js")


def write(storage: Storage, records: Iterable[Record], summary: Summary) -> str:
    """Writes the contact sheet under `report/` and returns the key of its page. Reads no picture.

    `records` in log order, read once, in memory that does not grow with them (they pass through a temporary file).
    Raises: StorageAway, StorageRefused.
    """
    with Spool() as spool:
        spool.fill(records)
        sheet = Sheet(summary.attempts_limit)
        chunks = _Chunks(storage, _build(spool.digest, summary))
        for image in spool.images():
            chunks.add(sheet.line(image), image)
        chunks.flush()
        meta = _meta(summary, sheet, chunks, spool)
    storage.put(REPORT_INDEX, page_html(meta).encode(), "text/html; charset=utf-8")
    _remove_stale(storage, chunks)
    return REPORT_INDEX


def _build(records_digest: str, summary: Summary) -> str:
    """Names what the chunks say: equal records, limit and layout give equal chunks."""
    layout = (records_digest, summary.attempts_limit, LINE, FIELDS, LINES_PER_CHUNK, IMAGES_PER_CHUNK)
    return hashlib.sha256(repr(layout).encode()).hexdigest()[:16]


class _Chunks:
    """Collects lines and images and puts each chunk when it is full."""

    def __init__(self, storage: Storage, build: str) -> None:
        self._storage = storage
        self.build = build
        self._pending: dict[str, list[Any]] = {"index": [], "data": []}
        self.written = {"index": 0, "data": 0}
        self.images = 0
        self.current = 0

    def add(self, line: list[Any], image: ImageRecords) -> None:
        self._pending["index"].append(line)
        self._pending["data"].append(image)
        self.images += 1
        self.current += not image.superseded
        for kind, full in (("index", LINES_PER_CHUNK), ("data", IMAGES_PER_CHUNK)):
            if len(self._pending[kind]) == full:
                self._put(kind)

    def flush(self) -> None:
        for kind, pending in self._pending.items():
            if pending:
                self._put(kind)

    def _put(self, kind: str) -> None:
        pending, self._pending[kind] = self._pending[kind], []
        payload = pending if kind == "index" else record_chunk(pending)
        arguments = ",".join(script_json(value) for value in (kind, self.written[kind], self.build, payload))
        key = f"report/{kind}-{self.written[kind]:04d}.js"
        self._storage.put(key, f"renderfarm.chunk({arguments});\n".encode(), "text/javascript; charset=utf-8")
        self.written[kind] += 1


def record_chunk(images: list[ImageRecords]) -> dict[str, Any]:
    """Full records of some images. Most fields repeat through a job: each stands as its difference to the first."""
    base = images[0].attempts[0]
    return {"base": base, "images": [[_difference(base, attempt) for attempt in image.attempts] for image in images]}


def _difference(base: Plain, attempt: Plain) -> dict[str, Any]:
    """Fields in which `attempt` differs; null where only `base` has one; and the links to the picture and its thumb."""
    changed = {name: value for name, value in attempt.items() if base.get(name) != value}
    changed.update((name, None) for name in base.keys() - attempt.keys())
    return {"r": changed, "links": [href(attempt.get("object_key")), href(attempt.get("thumb_key"))]}


def _meta(summary: Summary, sheet: Sheet, chunks: _Chunks, spool: Spool) -> dict[str, Any]:
    """The inert JSON block of the page: everything but lines and records."""
    counts = {name: value for name, value in asdict(summary).items() if name not in ("rejects_by_reason", "reasons")}
    counts["started_us"] = summary.started_us or spool.started_us
    counts["finished_us"] = summary.finished_us or spool.finished_us
    rejects = sorted(summary.rejects_by_reason.items(), key=lambda item: (-item[1], item[0]))
    return {
        "build": chunks.build,
        "job": summary.job,
        "summary": counts,
        "rejects": [list(item) for item in rejects],
        "reasons": [list(item) for item in summary.reasons if item[1] and item[2] > 1][:REASONS_MAX],
        "models": sheet.models(),
        "plan": spool.plan or {},
        "filters": sheet.filters(),
        "outcomes": OUTCOMES,
        "line": LINE,
        "fields": FIELDS,
        "images": chunks.images,
        "current": chunks.current,
        "lines_per_chunk": LINES_PER_CHUNK,
        "images_per_chunk": IMAGES_PER_CHUNK,
    }


def _remove_stale(storage: Storage, chunks: _Chunks) -> None:
    for kind, number in list(_chunk_keys(storage)):
        if number >= chunks.written[kind]:
            storage.delete(f"report/{kind}-{number:04d}.js")


def _chunk_keys(storage: Storage) -> Iterator[tuple[str, int]]:
    for stored in storage.list(REPORT):
        match = _CHUNK.fullmatch(stored.key)
        if match:
            yield match[1], int(match[2])
