"""Taking in what people said: in order, once, whatever crashes; what cannot be taken in stays, and ends nothing."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from renderfarm import keys
from renderfarm.audit.audit import audit
from renderfarm.audit.findings import AuditReport
from renderfarm.cli import main
from renderfarm.errors import Fenced, StorageAway, StorageRefused
from renderfarm.log import reading
from renderfarm.log.lease import PEOPLE, Lease
from renderfarm.log.writer import LogWriter
from renderfarm.output import INBOX, PARTS
from renderfarm.records.canonical import sealed
from renderfarm.schema import Record, is_review
from renderfarm.statements import inbox
from renderfarm.statements.inbox import Letter
from renderfarm.statements.intake import LOOK_S, take_in
from renderfarm.storage import LocalStorage
from tests import inboxed, outputs, reviewed
from tests.inboxed import RULES, opened, tried
from tests.outputs import Output, attempt_record, image_id
from tests.statements import letter, note, person, review_letter

ADA, EVE = person("Ada"), person("Eve")


@pytest.fixture(scope="module")
def key_set(tmp_path_factory: pytest.TempPathFactory) -> keys.KeySet:
    return inboxed.trusting(tmp_path_factory.mktemp("inbox") / "keys", ADA)


@pytest.fixture
def output(key_set: keys.KeySet, tmp_path: Path) -> Output:
    return inboxed.build(tmp_path / "out", key_set)


def said(output: Output) -> list[Record]:
    return [record for record in reading.records(output.storage) if record.kind in ("statement", "review")]


def waiting(output: Output) -> list[str]:
    return list(inbox.keys(output.storage))


def report_of(output: Output) -> AuditReport:
    report = audit(output.storage, output.trust)
    assert report.ok, report.text()
    return report


def put(output: Output, *letters: Letter) -> None:
    for one in letters:
        inbox.put(output.storage, one)


def test_statements_are_taken_in_by_time_whatever_their_type(output: Output) -> None:
    later = review_letter(ADA, tried(1), "rejected", 2, "blurred", unknown_field=[1])
    salt = str(tried(2).salt)
    new = letter(note("photo-credit", ADA, (tried(1), tried(2, 2)), at=1, words="by Ada", salt=salt), "by Ada", salt)
    put(output, later, new, letter(note("approval", ADA, at=3, stage="legal")))
    assert opened(output)[1].take() == 3 and waiting(output) == []
    first, second, third = said(output)
    assert (first.statement, first.reviewer, first.reason, len(first.subjects)) == ("photo-credit", "Ada", "by Ada", 2)
    assert (second.statement, second.outcome, second.attempt, second.reason, second.row_id) == ("review", "rejected", 1, "blurred", "row-1")
    assert (third.statement, third.commitment, third.signed is None) == ("approval", None, False)
    assert not any("inbox" in line for line in report_of(output).notes)


def assert_stays(output: Output, one: Letter, why: str) -> None:
    put(output, one)
    writer, found = opened(output)
    size = writer.size
    assert found.take() == found.take() == 0 and writer.size == size
    assert why in found.troubles[one.key] and waiting(output) == [one.key]
    assert any("1 statements of people wait in the inbox" in line for line in report_of(output).notes)


STAY: dict[str, tuple[Callable[[], Letter], str]] = {
    "an unknown signer": (lambda: review_letter(EVE, tried(1), "rejected"), "no known person's key"),
    "another log": (lambda: letter(note("approval", ADA, job="bags")), "it is for the log renderfarm/bags"),
    "a record that is not in the log": (lambda: review_letter(ADA, tried(7), "rejected"), "does not hold"),
    "another record of an attempt": (lambda: review_letter(ADA, sealed(dataclasses.replace(tried(1), steps=5)), "rejected"), "not hold"),
    "another attempt than its record's": (
        lambda: letter(note("review", ADA, (tried(1),), attempt=2, outcome="rejected")), "about one attempt, which it names"),
    "a review of two": (lambda: letter(note("review", ADA, (tried(1), tried(2)), attempt=1, outcome="rejected")), "about one attempt"),
    "an outcome that is none": (lambda: letter(note("review", ADA, (tried(1),), attempt=1, outcome="splendid")), "accepts or rejects"),
    "words that do not print": (lambda: review_letter(ADA, tried(1), "rejected", words="\x1b[31m"), "not a usable text"),
    "another salt than the row's": (
        lambda: letter(note("review", ADA, (tried(1),), attempt=1, outcome="rejected", words="no", salt="0a" * 16), "no", "0a" * 16),
        "another salt than its row's"),
    "a picture that was not kept": (lambda: review_letter(ADA, tried(1), "accepted"), "no picture of this attempt was kept"),
}  # fmt: skip


@pytest.mark.parametrize("name", STAY)
def test_what_cannot_be_taken_in_stays_and_is_said(output: Output, name: str) -> None:
    make, why = STAY[name]
    assert_stays(output, make(), why)


def test_what_is_no_letter_stays_beside_one_that_is_taken_in(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    output.storage.put(f"{INBOX}0000.json", b"hello")
    put(output, review_letter(ADA, tried(2), "rejected"))
    assert opened(output)[1].take() == 1 and waiting(output) == [f"{INBOX}0000.json"]
    assert "1 of them cannot be taken in: malformed: no JSON" in report_of(output).notes
    assert main(["status", str(output.folder)]) == 0
    assert "1 statements of people wait in the inbox" in capsys.readouterr().out


@pytest.mark.parametrize("lead", [(), (0,), (1,), (2,), (99,), (1, 1)])
def test_a_wrong_lead_costs_a_search_and_nothing_else(output: Output, lead: tuple[int, ...]) -> None:
    put(output, dataclasses.replace(review_letter(ADA, tried(1, 2), "rejected"), parts=lead))
    assert opened(output)[1].take() == 1 and said(output)[0].attempt == 2


class Failing(LocalStorage):
    """A folder whose n-th writing request fails, before or after it did what it was asked."""

    def __init__(self, output: Output, at: int, after: bool) -> None:
        super().__init__(output.folder, create=False)
        self.left, self.after = at, after

    def _maybe(self, act: Callable[[], None]) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise StorageAway("before")
        act()
        if self.left == 0:
            raise StorageAway("after")

    def put_new(self, key: str, data: bytes, media_type: str = "") -> None:
        self._maybe(lambda: LocalStorage.put_new(self, key, data))

    def put(self, key: str, data: bytes, media_type: str = "") -> None:
        self._maybe(lambda: LocalStorage.put(self, key, data))

    def delete(self, key: str) -> None:
        self._maybe(lambda: LocalStorage.delete(self, key))


def test_whatever_fails_each_statement_is_taken_in_once(output: Output) -> None:
    """Every writing request of taking two statements in fails once, before and after: a retry, or the next holder, ends it."""
    expected = 0
    for at, after in itertools.product(range(1, 8), (False, True)):
        put(output, review_letter(ADA, tried(1), "rejected", 2 * expected), letter(note("approval", ADA, (tried(2),), at=2 * expected + 1)))
        expected += 2
        _, found = opened(output, Failing(output, at, after))
        found.listen()
        (found if at % 2 else opened(output)[1]).take()
        assert waiting(output) == [] and len({record.signed for record in said(output)}) == len(said(output)) == expected, (at, after)
    report_of(output)


class Keeping(LocalStorage):
    """A bucket whose policy lets nobody remove anything."""

    def delete(self, key: str) -> None:
        raise StorageRefused("explicit deny in a policy", self.uri, "change it")


def test_a_bucket_that_keeps_everything_ends_no_run_and_doubles_no_statement(output: Output) -> None:
    one, other = review_letter(ADA, tried(1), "rejected"), letter(note("approval", ADA, at=1))
    put(output, one)
    for _ in range(2):
        found = opened(output, Keeping(output.folder, create=False))[1]
        found.listen()
        put(output, other)
        found.listen()
        assert found.troubles.keys() == {one.key, other.key}
    assert len(said(output)) == 2 and waiting(output) == [one.key, other.key]
    assert "2 of them cannot be taken in: the log holds them already, and nobody took them away" in report_of(output).notes


def test_one_that_comes_back_late_is_no_second_one(output: Output) -> None:
    one = review_letter(ADA, tried(1), "rejected")
    for _ in range(3):
        put(output, one)
        opened(output)[1].take()
    assert len(said(output)) == 1 and waiting(output) == [] and report_of(output).ok


def test_a_review_waits_for_an_image_in_work_and_so_does_every_later_one(output: Output) -> None:
    first, second, other = (review_letter(ADA, tried(number), "rejected", at) for at, number in enumerate((3, 3, 1)))
    put(output, first, second, other, letter(note("approval", ADA, (tried(3),), at=9)))
    _, found = opened(output)
    assert found.take(lambda: {image_id(3)}) == 2
    assert waiting(output) == [first.key, second.key] == sorted(found.waiting) and not found.troubles
    assert found.take() == 2 and [record.image_id for record in said(output)] == [image_id(1), None, image_id(3), image_id(3)]
    assert "in the inbox" not in report_of(output).text()


def test_an_acceptance_of_an_image_that_will_be_drawn_again_waits_for_its_end(output: Output) -> None:
    one = review_letter(ADA, tried(3), "accepted")
    put(output, one)
    writer, found = opened(output)
    assert found.take() == 0 and found.waiting == {one.key}
    writer.append([attempt_record(3, 2, "accepted")])
    assert found.take() == 1
    (late,) = said(output)
    assert (late.outcome, late.image_id, late.subjects[0].image_id) == (None, None, image_id(3))
    assert late.verdicts[0].reason == f"too late: image {image_id(3)} is accepted already, with attempt 2"
    state = reading.read_state(output.storage)
    assert state.image(image_id(3)).chosen == 2 and state.reviews == 0 and not state.twice


def test_a_run_looks_only_now_and_then_and_goes_on_when_the_storage_is_away(output: Output) -> None:
    now = [0.0]
    storage = Failing(output, 1, False)
    _, found = opened(output, storage, clock=lambda: now[0])
    put(output, review_letter(ADA, tried(1), "rejected"))
    storage.left = 1
    assert found.hear(set) == Counter() and len(waiting(output)) == 1
    now[0] += LOOK_S / 2
    assert found.hear(set) == Counter() and len(waiting(output)) == 1
    now[0] += LOOK_S
    found.hear(set)
    assert waiting(output) == []


class NoDeletion(LocalStorage):
    """A bucket whose policy lets nobody delete."""

    def delete(self, key: str) -> None:
        raise StorageRefused("access denied", key, "ask for the right")


def test_a_policy_that_refuses_to_remove_ends_no_run(output: Output) -> None:
    storage = NoDeletion(output.folder, create=False)
    one = review_letter(ADA, tried(1), "rejected")
    put(output, one)
    for _ in range(2):  # the second finds it in the log
        _, found = opened(output, storage)
        found.listen()
        assert len(said(output)) == 1 and waiting(output) == [one.key]
        assert "denied" in found.troubles[one.key]
    lease = Lease(storage, fences=True)
    lease.take()
    lease.release()


def test_who_sees_that_somebody_holds_the_log_leaves_it_alone(output: Output) -> None:
    put(output, review_letter(ADA, tried(1), "rejected"))
    for holder in ("run", PEOPLE):
        lease = Lease(output.storage, fences=True, holder=holder)
        lease.take() if holder == "run" else lease.offer()
        assert take_in(output.storage, output.keys, RULES) is None
        lease.release()
    taken = take_in(output.storage, output.keys, RULES)
    assert taken is not None and len(taken) == 1 and waiting(output) == []


class Unfenced(LocalStorage):
    """A folder in which every writer of a new object wins, as on servers that ignore If-None-Match."""

    def put_new(self, key: str, data: bytes, media_type: str = "") -> None:
        self.put(key, data)


def test_where_nothing_fences_a_driver_waits_until_statements_are_taken_in(output: Output) -> None:
    storage, slept = Unfenced(output.folder, create=False), []
    people = Lease(storage, holder=PEOPLE)
    assert people.offer(sleep=lambda seconds: None)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            people.release()

    driver = Lease(storage)
    driver.take(sleep)
    assert len(slept) == 4 and not Lease(storage, holder=PEOPLE).offer(sleep)
    with pytest.raises(Fenced, match="another driver holds the lease"):
        Lease(storage).take(sleep)
    driver.release()


def test_a_driver_goes_on_behind_statements_that_came_first(output: Output) -> None:
    """Somebody who took it for dead wrote where the driver was about to."""
    driver, _ = opened(output)
    put(output, review_letter(ADA, tried(1), "rejected"), letter(note("approval", ADA, at=1)))
    assert opened(output)[1].take() == 2
    assert driver.append([attempt_record(3, 2, "rejected")]).number == 4 and len(driver.state.statements) == 2
    assert [part.number for part, _ in reading.tables(output.storage, ["kind"])] == [0, 1, 2, 3, 4]
    other, _ = opened(output)
    other.append([attempt_record(3, 3, "rejected")])
    with pytest.raises(Fenced, match="another driver owns"):
        driver.append([attempt_record(3, 4, "rejected")])
    report_of(output)


def test_a_log_of_earlier_records_takes_reviews_in_once_and_keeps_nothing_else(output: Output) -> None:
    """Records of version 3 have no place for the note: a review stands there as it always did, and the log is looked through for it."""
    for stored in list(output.storage.list("provenance/")):
        output.storage.delete(stored.key)
    writer = LogWriter.open(output.storage, outputs.JOB, output.signer)
    writer.record_version = 3
    old = dataclasses.replace(tried(1), version=3, salt=None, commitment=None)
    old = sealed(old)
    writer.append([dataclasses.replace(outputs.plan_record(1, reviewed.job_json()), version=3)])
    writer.append([old, sealed(dataclasses.replace(old, attempt=2))])
    one, other = review_letter(ADA, old, "rejected", words="no"), letter(note("approval", ADA, at=5))
    for _ in range(2):
        put(output, one, other)
        _, found = opened(output)
        found.take()
        assert found.troubles == {other.key: "this log, of record version 3, keeps reviews only"} and waiting(output) == [other.key]
    (word,) = said(output)
    assert (word.kind, word.version, word.reviewer, word.reason, word.signed, is_review(word)) == ("review", 3, "Ada", "no", None, True)
    assert len(list(output.storage.list(PARTS))) == 3
    report_of(output)
