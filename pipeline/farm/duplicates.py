"""Near-duplicates as the loop asks for them: judged in log order, remembered at once, rebuilt from the parts at resume."""

from __future__ import annotations

from pipeline.checks.duplicates import DuplicateIndex
from pipeline.checks.fingerprint import Fingerprint
from pipeline.finish import Checked
from pipeline.job import JobSettings
from pipeline.provenance import reading
from pipeline.provenance.state import LogState
from pipeline.schema import PlannedImage, Verdict
from pipeline.storage import Storage

COLUMNS = ("kind", "outcome", "image_id", "row_id", "index", "pdq", "pdq_quality", "signature")


class JobDuplicates:
    """`farm.loop.Duplicates` over one job's accepted images."""

    def __init__(self, job: JobSettings) -> None:
        self._index = DuplicateIndex(job.checks.duplicates)
        self._enabled = job.checks.duplicates.enabled
        self._open: dict[str, tuple[str, str]] = {}

    @classmethod
    def of(cls, job: JobSettings, storage: Storage, state: LogState) -> JobDuplicates:
        """The index over what the log has accepted; superseded images are left out."""
        made = cls(job)
        if not state.attempts or not made._enabled:
            return made
        for _, table in reading.tables(storage, COLUMNS):
            for row in table.select(COLUMNS).to_pylist():  # type: ignore[attr-defined]
                if row["outcome"] not in ("accepted", "rejected") or state.image(row["image_id"]).superseded:
                    continue
                name = _name(row["row_id"], row["index"])
                if row["outcome"] == "accepted":
                    made._index.add(row["row_id"], name, Fingerprint(row["pdq"], row["pdq_quality"], row["signature"]))
                elif row["kind"] == "review":  # a person took it back; a confirmed rejection was never here
                    made._index.remove(row["row_id"], name)
        return made

    def judge(self, image: PlannedImage, checked: Checked) -> tuple[Verdict, ...]:
        """One verdict; an image that passes is remembered as its row's until it is forgotten."""
        self.forget(image.image_id)
        verdict = self._index.judge(image.row_id, checked.fingerprint)
        if verdict.outcome != "rejected" and self._enabled:
            name = _name(image.row_id, image.index)
            self._index.add(image.row_id, name, checked.fingerprint)
            self._open[image.image_id] = (image.row_id, name)
        return (verdict,)

    def keep(self, image_id: str) -> None:
        """An image that was judged acceptable is stored: it stays remembered."""
        self._open.pop(image_id, None)

    def forget(self, image_id: str) -> None:
        """An image that was judged acceptable was lost before it was stored."""
        if image_id in self._open:
            self._index.remove(*self._open.pop(image_id))


def _name(row_id: str, index: int) -> str:
    """What a person is shown: row and index."""
    return f"{row_id} #{index}"
