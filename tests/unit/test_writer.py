"""The log's writer: what it commits, what it refuses to append to, and what survives a crash at any step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from renderfarm import notes
from renderfarm.errors import AlreadyStored, Fenced, LogDamaged, NotStored, StorageAway
from renderfarm.log import parts
from renderfarm.log.reading import read_state, records
from renderfarm.log.state import CountsDiffer
from renderfarm.log.writer import LogWriter
from renderfarm.notes import Signer
from renderfarm.output import CHECKPOINT, PARTS, WITNESSED, part_key
from renderfarm.schema import Record, Verdict
from renderfarm.storage import LocalStorage, Storage, Stored
from tests.salted import salted

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer.of("renderfarm/test", KEY)
OTHER = Signer.of("renderfarm/test", Ed25519PrivateKey.from_private_bytes(bytes(32)))


def image_id(number: int) -> str:
    return f"{number:032x}"


def plan(count: int) -> Record:
    return Record("plan", job="mugs", plan_digest=f"p{count}", manifest_digest="m", settings_digest="s", planned=count)


def attempt(number: int, outcome: str = "accepted", attempt: int = 1, **fields: object) -> Record:
    verdicts = (Verdict("text", "rejected", "gibberish"),) if outcome == "rejected" else ()
    record = Record("attempt", job="mugs", image_id=image_id(number), row_id=f"row {number}", index=0, attempt=attempt)
    record = dataclasses.replace(record, prompt="a mug", outcome=outcome, verdicts=verdicts, pdq=f"{number:064x}")  # type: ignore[arg-type]
    return salted(dataclasses.replace(record, **fields))  # type: ignore[arg-type]


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return LocalStorage(tmp_path / "out", create=True)


def three_parts(storage: Storage, signer: Signer = SIGNER) -> LogWriter:
    writer = LogWriter.open(storage, "mugs", signer)
    writer.append([plan(5)])
    writer.append([attempt(1), attempt(2, "rejected")])
    writer.append([attempt(2, attempt=2), attempt(3, "failed")])
    return writer


def test_what_is_appended_is_read_back_and_folded(storage: Storage) -> None:
    writer = three_parts(storage)
    again = LogWriter.open(storage, "mugs", SIGNER)
    assert again.size == 3 and again.checkpoint == writer.checkpoint
    assert [record.kind for record in records(storage)] == ["plan"] + ["attempt"] * 4
    for state in (writer.state, again.state, read_state(storage)):
        counts = state.counts(4)
        assert (counts.planned, counts.accepted, counts.failed, counts.exhausted, counts.remaining) == (5, 2, 1, 0, 2)
        assert state.image(image_id(2)).rejected == 1 and state.image(image_id(2)).last_attempt == 2
        assert state.rejects == {"text": 1}
        assert state.row_pdqs("row 2") == [f"{2:064x}"]
        assert state.plan is not None and state.plan.settings_digest == "s"


def test_the_footer_holds_a_checkpoint_that_includes_the_part(storage: Storage) -> None:
    commit = three_parts(storage).append([attempt(4)])
    footer = parts.read_footer(storage.get(part_key(3)), 3)
    assert footer.checkpoint == commit.checkpoint and footer.checkpoint.size == 4
    assert parts.check_head(footer, {"renderfarm/test": KEY.public_key()}) == "renderfarm/test"
    assert notes.parse(storage.get(CHECKPOINT)) == commit.checkpoint
    assert footer.checkpoint.origin == "renderfarm/mugs"


def test_a_second_driver_loses_cleanly(storage: Storage) -> None:
    one, other = LogWriter.open(storage, "mugs", SIGNER), LogWriter.open(storage, "mugs", SIGNER)
    one.append([plan(5)])
    with pytest.raises(Fenced, match="another driver owns"):
        other.append([plan(6)])
    assert LogWriter.open(storage, "mugs", SIGNER).state.plan == one.state.plan


def test_two_drivers_with_the_same_words_both_commit_once(storage: Storage) -> None:
    one, other = LogWriter.open(storage, "mugs", SIGNER), LogWriter.open(storage, "mugs", SIGNER)
    assert one.append([plan(5)]) == other.append([plan(5)])


class Flaky:
    """A storage that fails once on keys that begin with `prefix`, before or after it has persisted the bytes."""

    def __init__(self, inner: Storage, prefix: str, after: bool) -> None:
        self.inner, self.prefix, self.after, self.armed, self.uri = inner, prefix, after, True, inner.uri

    def put_new(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        self._guard(key, lambda: self.inner.put_new(key, data, media_type))

    def put(self, key: str, data: bytes, media_type: str = "application/octet-stream") -> None:
        self._guard(key, lambda: self.inner.put(key, data, media_type))

    def _guard(self, key: str, write: object) -> None:
        assert callable(write)
        fails = self.armed and key.startswith(self.prefix)
        if not fails or self.after:
            write()
        if fails:
            self.armed = False
            raise StorageAway("gone")

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        return self.inner.get(key, bytes_max)

    def stat(self, key: str) -> Stored | None:
        return self.inner.stat(key)

    def list(self, prefix: str) -> Iterator[Stored]:
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        self.inner.delete(key)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("prefix", [part_key(1), CHECKPOINT])
@pytest.mark.parametrize("restart", ["same records", "other records", "new process"])
def test_a_storage_that_fails_before_or_after_persisting(storage: Storage, prefix: str, after: bool, restart: str) -> None:
    LogWriter.open(storage, "mugs", SIGNER).append([plan(5)])
    writer = LogWriter.open(flaky := Flaky(storage, "nothing", after), "mugs", SIGNER)
    flaky.prefix = prefix
    with pytest.raises(StorageAway):
        writer.append([attempt(1)])
    if restart == "new process":
        writer = LogWriter.open(storage, "mugs", SIGNER)
        if not writer.state.image(image_id(1)).accepted:
            writer.append([attempt(1)])
    elif restart == "same records":
        assert writer.append([attempt(1)]).number == 1
    else:
        assert writer.append([attempt(2)]).number == 2
    final = LogWriter.open(storage, "mugs", SIGNER)
    accepted = [record.image_id for record in records(storage) if record.outcome == "accepted"]
    assert accepted[0] == image_id(1) and len(accepted) == len(set(accepted)) == final.size - 1
    assert notes.parse(storage.get(CHECKPOINT)) == final.checkpoint


def _edit(storage: Storage, key: str, data: bytes) -> None:
    storage.delete(key)
    storage.put_new(key, data)


@pytest.mark.parametrize(
    ("damage", "finding", "word"),
    [
        ("gap", "part-missing", "missing"),
        ("flip", "part-altered", "rows cannot be read|Parquet"),
        ("swap", "part-altered", "says that it is part"),
        ("foreign key", "checkpoint-bad-signature", "signature by renderfarm/test|known key"),
        ("another job", "part-altered", "belongs to renderfarm/cups"),
        ("another history", "history-rewritten", "another history"),
    ],
)
def test_a_damaged_log_is_not_appended_to(storage: Storage, tmp_path: Path, damage: str, finding: str, word: str) -> None:
    three_parts(storage)
    other = LocalStorage(tmp_path / "other", create=True)
    middle = part_key(1)
    if damage == "gap":
        storage.delete(middle)
    elif damage == "flip":
        data = bytearray(storage.get(middle))
        data[len(data) // 4] ^= 1
        _edit(storage, middle, bytes(data))
    elif damage == "swap":
        _edit(storage, middle, storage.get(part_key(2)))
    else:
        signer = OTHER if damage == "foreign key" else SIGNER
        writer = LogWriter.open(other, "cups" if damage == "another job" else "mugs", signer)
        for number in range(3):
            writer.append([plan(number)])
        _edit(storage, middle, other.get(middle))
    with pytest.raises(parts.PartDamaged, match=word) as caught:
        LogWriter.open(storage, "mugs", SIGNER)
    assert caught.value.finding == finding


def test_a_foreign_file_among_the_parts_is_refused(storage: Storage) -> None:
    three_parts(storage)
    storage.put_new(PARTS + "notes.txt", b"hello")
    with pytest.raises(LogDamaged, match=r"notes\.txt"):
        LogWriter.open(storage, "mugs", SIGNER)


@pytest.mark.parametrize("cache", [b"", b"rubbish", None, "older"])
def test_the_cache_is_only_a_cache(storage: Storage, cache: bytes | str | None) -> None:
    first = LogWriter.open(storage, "mugs", SIGNER).append([plan(5)]).checkpoint
    writer = three_parts(storage)
    storage.delete(CHECKPOINT)
    if cache is not None:
        storage.put(CHECKPOINT, first.to_bytes() if isinstance(cache, str) else cache)
    assert LogWriter.open(storage, "mugs", SIGNER).checkpoint == writer.checkpoint
    assert notes.parse(storage.get(CHECKPOINT)) == writer.checkpoint


def test_cosignatures_in_the_cache_survive_an_open(storage: Storage) -> None:
    head = three_parts(storage).checkpoint
    assert head is not None
    witness = Signer.of("witness.example", Ed25519PrivateKey.from_private_bytes(bytes([7] * 32)))
    storage.put(CHECKPOINT, notes.sign(head, witness).to_bytes())
    LogWriter.open(storage, "mugs", SIGNER)
    assert len(notes.parse(storage.get(CHECKPOINT)).signatures) == 2


def test_old_keys_stay_good_where_they_are_trusted(storage: Storage) -> None:
    three_parts(storage)
    new = Signer.of("renderfarm/next", Ed25519PrivateKey.from_private_bytes(bytes([9] * 32)))
    with pytest.raises(parts.PartDamaged, match="no signature by a known key"):
        LogWriter.open(storage, "mugs", new)
    writer = LogWriter.open(storage, "mugs", new, {SIGNER.name: SIGNER.public_key})
    writer.append([attempt(4)])
    assert LogWriter.open(storage, "mugs", new, {SIGNER.name: SIGNER.public_key}).size == 4


def test_states_of_images(storage: Storage) -> None:
    writer = LogWriter.open(storage, "mugs", SIGNER)
    writer.append([plan(4), attempt(1), attempt(2, "rejected"), attempt(2, "rejected", 2), attempt(3, "failed")])
    counts = writer.state.counts(2)
    assert (counts.accepted, counts.exhausted, counts.failed, counts.remaining) == (1, 1, 1, 1)
    assert writer.state.counts(3).exhausted == 0, "a higher limit opens an exhausted image again"
    writer.append([attempt(3, attempt=2)])
    assert writer.state.image(image_id(3)).standing(2) == "accepted"
    gone = Record("superseded", job="mugs", image_id=image_id(1))
    writer.append([gone, plan(3)])
    assert writer.state.counts(2).accepted == 1 and writer.state.row_pdqs("row 1") == []
    writer.append([plan(4), dataclasses.replace(gone, kind="reinstated")])
    assert writer.state.counts(2).accepted == 2 and len(writer.state.row_pdqs("row 1")) == 1
    assert {name for name, _ in writer.state.images()} == {image_id(1), image_id(2), image_id(3)}


def test_counts_that_cannot_be(storage: Storage) -> None:
    writer = LogWriter.open(storage, "mugs", SIGNER)
    writer.append([plan(1), attempt(1), attempt(2)])
    with pytest.raises(CountsDiffer, match="1 images are planned, but 2 that were"):
        writer.state.counts(4)


@pytest.mark.parametrize(
    "record",
    [attempt(1, image_id="xyz"), attempt(1, image_id=None), attempt(1, "maybe"), attempt(1, pdq="12"), plan(-1)],
)
def test_records_that_no_driver_writes(storage: Storage, record: Record) -> None:
    writer = LogWriter.open(storage, "mugs", SIGNER)
    with pytest.raises(LogDamaged):
        writer.append([record])
    assert writer.append([plan(1)]).number == 0, "nothing of it was written"


def test_limits_and_missing_things(storage: Storage) -> None:
    writer = LogWriter.open(storage, "mugs", SIGNER)
    with pytest.raises(ValueError, match="1 to"):
        writer.append([])
    with pytest.raises(NotStored):
        storage.get(CHECKPOINT)
    storage.put_new("x", b"1")
    with pytest.raises(AlreadyStored):
        storage.put_new("x", b"2")


@pytest.mark.parametrize("witness", [False, True])
@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_tail_that_is_gone_is_not_written_over(storage: Storage, left: int, witness: bool) -> None:
    """The last parts deleted, the checkpoint over them still there: going on would fork the log, and the audit would pass."""
    head = three_parts(storage).checkpoint
    assert head is not None
    if witness:
        storage.put(WITNESSED, head.to_bytes())
        storage.delete(CHECKPOINT)
    for number in range(left, 3):
        storage.delete(part_key(number))
    with pytest.raises(parts.PartDamaged, match=part_key(left)) as caught:
        LogWriter.open(storage, "mugs", SIGNER)
    assert caught.value.finding == "part-missing"
    assert notes.parse(storage.get(WITNESSED if witness else CHECKPOINT)) == head, "the evidence is left as it is"


def test_a_log_that_was_replaced_is_not_appended_to(storage: Storage, tmp_path: Path) -> None:
    three_parts(storage)
    other = LocalStorage(tmp_path / "other", create=True)
    writer = LogWriter.open(other, "mugs", SIGNER)
    for number in range(4):
        writer.append([plan(number)])
    for number in range(4):
        storage.delete(part_key(number))
        storage.put_new(part_key(number), other.get(part_key(number)))
    with pytest.raises(parts.PartDamaged, match="another history") as caught:
        LogWriter.open(storage, "mugs", SIGNER)
    assert caught.value.finding == "history-rewritten"


class Overtaken:
    """A storage in which another writer commits between the listing of the parts and the reading of the checkpoint."""

    def __init__(self, inner: Storage, other: LogWriter) -> None:
        self._inner, self._other, self._done = inner, other, False

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        if key == CHECKPOINT and not self._done:
            self._done = True
            self._other.append([attempt(2)])
        return self._inner.get(key, bytes_max)


def test_a_commit_while_the_log_is_opened_is_taken_in_and_the_cache_not_rolled_back(storage: Storage) -> None:
    other = three_parts(storage)
    writer = LogWriter.open(Overtaken(storage, other), "mugs", SIGNER)  # type: ignore[arg-type]
    assert writer.size == other.size == 4
    assert notes.parse(storage.get(CHECKPOINT)) == other.checkpoint
