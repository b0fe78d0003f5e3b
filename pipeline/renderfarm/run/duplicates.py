"""Near-duplicates as the loop asks for them: judged in log order, remembered at once, rebuilt from the parts at resume.

Rebuilding takes some ten microseconds an image and is not needed before the first pictures come back, so it goes on in a thread while
they are rendered; the first judgement waits for it, unless the run is stopped. Whoever made one closes it, or its thread outlives the run.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from renderfarm.checks.duplicates import DuplicateIndex
from renderfarm.errors import Stopped
from renderfarm.job import JobSettings
from renderfarm.log import reading
from renderfarm.log.state import LogState
from renderfarm.records.tables import review_rows
from renderfarm.schema import PlannedImage, Verdict
from renderfarm.storage import Storage
from renderfarm.workers.finish import Checked

if TYPE_CHECKING:
    import pyarrow as pa

ASK_S = 0.2
COLUMNS = ("kind", "statement", "outcome", "image_id", "drawing_id", "row_id", "index", "pdq", "pdq_quality", "signature")
SHEET = Verdict("duplicates", "accepted", "another sheet of a drawing that was judged")


class JobDuplicates:
    """`run.loop.Duplicates` over one job's accepted images."""

    def __init__(self, job: JobSettings) -> None:
        self._index = DuplicateIndex(job.checks.duplicates)
        self._enabled = job.checks.duplicates.enabled
        self._open: dict[str, tuple[str, str]] = {}
        self._drawings: dict[str, str] = {}
        """Drawings with several sheets, each with the image that stands for it here."""
        self._rebuilt: Future[None] | None = None
        self._closed = threading.Event()
        self._stopped: Callable[[], bool] = lambda: False

    @classmethod
    def of(cls, job: JobSettings, storage: Storage, state: LogState, stopped: Callable[[], bool] = lambda: False) -> JobDuplicates:
        """The index over what the log has accepted; superseded images are left out. `stopped`: whether nobody waits for it any more."""
        made = cls(job)
        made._stopped = stopped
        if state.attempts and made._enabled:
            pool = ThreadPoolExecutor(1, "duplicates")
            made._rebuilt = pool.submit(made._rebuild, storage, state.superseded())
            pool.shutdown(wait=False)
        return made

    def _rebuild(self, storage: Storage, away: set[str]) -> None:
        for _, table in reading.tables(storage, COLUMNS):
            if self._closed.is_set():
                return
            self._take(table, away)

    def close(self) -> None:
        """Rebuild no further; the index is not to be used any more."""
        self._closed.set()

    def _settled(self) -> DuplicateIndex:
        """The index, once it is rebuilt. Raises: StorageAway, PartDamaged; Stopped when the run is stopped before."""
        if self._rebuilt is not None:
            while not wait([self._rebuilt], ASK_S).done:
                if self._stopped():
                    raise Stopped("stopped while the pictures that were accepted before were looked through: run the same command again")
            self._rebuilt.result()
            self._rebuilt = None
        return self._index

    def _take(self, table: pa.Table, away: set[str]) -> None:
        """One part's accepted images but those that are `away`; what a person took back in it leaves again."""
        import pyarrow as pa
        import pyarrow.compute as pc

        said = table.filter(pc.is_in(table.column("outcome"), pa.array(["accepted", "rejected"])))
        said = said.filter(pc.or_(pc.equal(said.column("outcome"), "accepted"), review_rows(said)))
        rows = [row for row in zip(*(said.column(name).to_pylist() for name in COLUMNS), strict=True) if row[3] not in away]
        for taken_back, group in itertools.groupby(rows, lambda row: row[2] == "rejected"):
            _, _, _, images, drawings, rows_said, indices, pdqs, qualities, signatures = zip(*group, strict=True)
            row_ids = [row_id or image for row_id, image in zip(rows_said, images, strict=True)]  # a forgotten row is known by its image
            names = [_name(row_id, index) for row_id, index in zip(row_ids, indices, strict=True)]
            self._drawings.update((drawing, image) for drawing, image in zip(drawings, images, strict=True) if drawing not in (None, image))
            if not taken_back:
                self._index.extend(row_ids, names, pdqs, qualities, signatures)
                continue
            for row_id, name in zip(row_ids, names, strict=True):  # a confirmed rejection was never here
                self._index.remove(row_id, name)

    def judge(self, image: PlannedImage, checked: Checked) -> tuple[Verdict, ...]:
        """One verdict; an image that passes is remembered as its row's until it is forgotten."""
        self.forget(image.image_id)
        index, several = self._settled(), image.drawing_id not in ("", image.image_id)
        if several and self._drawings.get(image.drawing_id, image.image_id) != image.image_id:
            return (SHEET,)
        verdict = index.judge(image.row_id, checked.fingerprint)
        if verdict.outcome != "rejected" and self._enabled:
            name = _name(image.row_id, image.index)
            index.add(image.row_id, name, checked.fingerprint)
            self._open[image.image_id] = (image.row_id, name)
            if several:
                self._drawings[image.drawing_id] = image.image_id
        return (verdict,)

    def keep(self, image_id: str) -> None:
        """An image that was judged acceptable is stored: it stays remembered."""
        self._open.pop(image_id, None)

    def forget(self, image_id: str) -> None:
        """An image that was judged acceptable was lost before it was stored."""
        if image_id in self._open:
            self._settled().remove(*self._open.pop(image_id))
            self._drawings = {drawing: image for drawing, image in self._drawings.items() if image != image_id}


def _name(row_id: str, index: int) -> str:
    """What a person is shown: row and index."""
    return f"{row_id} #{index}"
