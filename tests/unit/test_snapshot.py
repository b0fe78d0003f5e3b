"""Snapshots: a start that uses one ends where a start without one does, and a bad one is as good as none."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from renderfarm.log import parts, snapshot
from renderfarm.log.state import LogState
from renderfarm.log.writer import LogWriter
from renderfarm.output import SALTED_SNAPSHOT, part_key, part_number
from renderfarm.records.tables import to_table
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage, Storage, Stored
from tests.unit.test_writer import KEY, OTHER, SIGNER, attempt, image_id, plan


class Counting(LocalStorage):
    """A folder that remembers which parts were read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, create=True)
        self.read: list[int] = []

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        """As `Storage.get`."""
        number = part_number(key)
        if number is not None:
            self.read.append(number)
        return super().get(key, bytes_max)

    def list(self, prefix: str) -> Iterator[Stored]:
        """As `Storage.list`."""
        return super().list(prefix)


@pytest.fixture
def storage(tmp_path: Path) -> Counting:
    made = Counting(tmp_path / "out")
    writer = LogWriter.open(made, "mugs", SIGNER)
    writer.append([plan(9)])
    for number in range(1, 6):
        writer.append([attempt(number, "rejected" if number == 3 else "accepted"), attempt(number + 10, "failed")])
    made.put(SALTED_SNAPSHOT, snapshot.dump(writer.state, writer._leaves, writer.origin, SIGNER))
    writer.append([Record("superseded", job="mugs", image_id=image_id(2)), attempt(6), attempt(3, attempt=2)])
    return made


def _told(writer: LogWriter) -> tuple[object, ...]:
    state = writer.state
    pdqs = [state.row_pdqs(f"row {number}") for number in range(8)]
    return (
        writer.size, writer.checkpoint, writer._leaves, dict(state.images()), state.plan, dict(state.rejects), state.attempts,
        state.failed_attempts, state.reviews, state.reasons, state.twice, pdqs, state.accepted_pdqs().tolist(),
    )  # fmt: skip


def _without(storage: Storage) -> tuple[object, ...]:
    data = storage.get(SALTED_SNAPSHOT)
    storage.delete(SALTED_SNAPSHOT)
    told = _told(LogWriter.open(storage, "mugs", SIGNER))
    storage.put(SALTED_SNAPSHOT, data)
    return told


def test_a_start_with_a_snapshot_ends_where_one_without_does(storage: Counting) -> None:
    expected = _without(storage)
    storage.read.clear()
    writer = LogWriter.open(storage, "mugs", SIGNER)
    assert storage.read == [5, 6], "the part that it ends with, and the ones behind it"
    assert _told(writer) == expected
    writer.append([attempt(7)])
    assert LogWriter.open(storage, "mugs", SIGNER).size == 8


def _bad(storage: Storage, tmp_path: Path, how: str) -> bytes:
    data = storage.get(SALTED_SNAPSHOT)
    if how == "flipped":
        return data[:-50] + bytes([data[-50] ^ 1]) + data[-49:]
    if how == "text flipped":
        return data.replace(b"\n6\n", b"\n5\n")
    if how == "cut":
        return data[: len(data) // 2]
    if how == "empty":
        return b""
    if how == "noise":
        return b"\xff" * 5000
    writer = LogWriter.open(storage, "mugs", SIGNER)
    if how == "a wrong key":
        return snapshot.dump(writer.state, writer._leaves, writer.origin, OTHER)
    if how == "another job":
        return snapshot.dump(writer.state, writer._leaves, "renderfarm/cups", SIGNER)
    other = LogWriter.open(LocalStorage(tmp_path / "other", create=True), "mugs", SIGNER)
    for number in range(4 if how == "another history" else 12):
        other.append([plan(number)])
    return snapshot.dump(other.state, other._leaves, other.origin, SIGNER)


@pytest.mark.parametrize(
    "how",
    ["flipped", "text flipped", "cut", "empty", "noise", "a wrong key", "another job", "another history", "a longer log"],
)
def test_a_bad_snapshot_is_as_good_as_none(storage: Counting, tmp_path: Path, how: str) -> None:
    expected = _without(storage)
    storage.put(SALTED_SNAPSHOT, _bad(storage, tmp_path, how))
    storage.read.clear()
    assert _told(LogWriter.open(storage, "mugs", SIGNER)) == expected
    assert set(storage.read) == set(range(7))


def test_snapshots_come_by_themselves(tmp_path: Path) -> None:
    storage = Counting(tmp_path / "out")
    writer = LogWriter.open(storage, "mugs", SIGNER, snapshot_parts=3)
    for number in range(7):
        writer.append([plan(number)])
    storage.read.clear()
    assert LogWriter.open(storage, "mugs", SIGNER, snapshot_parts=3).size == 7
    assert storage.read == [5, 6]
    storage.delete(SALTED_SNAPSHOT)
    LogWriter.open(storage, "mugs", SIGNER, snapshot_parts=3)
    storage.read.clear()
    LogWriter.open(storage, "mugs", SIGNER, snapshot_parts=3)
    assert storage.read == [6], "a start that read many parts leaves a snapshot"


def test_the_audit_and_a_gap_do_not_care(storage: Counting) -> None:
    from renderfarm.audit.audit import audit
    from renderfarm.keys import Trust

    data = storage.get(part_key(1))
    storage.delete(part_key(1))
    with pytest.raises(parts.PartDamaged, match="missing"):
        LogWriter.open(storage, "mugs", SIGNER)
    report = audit(storage, Trust({SIGNER.name: KEY.public_key()}, b"", ()))
    assert report.found == {"part-missing": 1}
    storage.put(part_key(1), data)


def test_a_snapshot_of_an_earlier_program_is_used_where_it_lacks_nothing() -> None:
    """What it does not hold, it may be short of: when people spoke, and which images lost their values."""
    later = ("spoken_images", "spoken", "saltless")
    state = LogState()
    state.fold(to_table([plan(2), attempt(1)]))
    arrays = {name: array for name, array in state.dump().items() if name not in later}
    assert _told_of(LogState.restore(arrays)) == _told_of(state)
    for more in (Record("review", image_id=image_id(1), attempt=1, outcome="rejected", finished_us=5), forgotten_attempt(2)):
        state = LogState()
        state.fold(to_table([plan(2), attempt(1), more]))
        again = LogState.restore(state.dump())
        assert _told_of(again) == _told_of(state)
        with pytest.raises(KeyError):
            LogState.restore({name: array for name, array in state.dump().items() if name not in later})


def forgotten_attempt(number: int) -> Record:
    return dataclasses.replace(attempt(number), version=4, salt=None, row_id=None)


def _told_of(state: LogState) -> tuple[object, ...]:
    return list(state.images()), state.spoken(image_id(1)), state.unknown(), state.forgotten, state.changing
