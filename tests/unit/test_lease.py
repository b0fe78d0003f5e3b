"""The lease where put-if-absent does not hold: who may go on, who is refused, and when a dead driver's lease ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from renderfarm.errors import Fenced, StorageRefused
from renderfarm.log import lease as leases
from renderfarm.log.lease import Lease
from renderfarm.output import LEASE
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage
from tests.waiting import wait_for


class Clock:
    """Seconds since 1970, as the test says."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A committer that remembers."""

    def __init__(self) -> None:
        self.parts: list[list[Record]] = []

    def append(self, records: list[Record]) -> None:
        self.parts.append(records)


def lease_of(folder: Path, clock: Clock) -> Lease:
    return Lease(LocalStorage(folder, create=True), clock)


def test_the_second_driver_is_refused_until_the_first_one_is_done(tmp_path: Path) -> None:
    clock = Clock()
    first, second = lease_of(tmp_path, clock), lease_of(tmp_path, clock)
    first.take(sleep=lambda seconds: None)
    with pytest.raises(Fenced, match="try again then"):
        second.take(sleep=lambda seconds: None)
    first.release()
    second.take(sleep=lambda seconds: None)
    second.release()
    assert not (tmp_path / LEASE).exists()


def test_a_killed_drivers_lease_ends(tmp_path: Path) -> None:
    clock = Clock()
    killed = lease_of(tmp_path, clock)
    killed._write()
    clock.now += leases.TTL_S[leases.RUN] + 1
    following = lease_of(tmp_path, clock)
    following.take(sleep=lambda seconds: None)
    following.release()
    assert not (tmp_path / LEASE).exists(), "it was taken over, and given back"


def test_of_two_that_take_it_at_once_only_the_last_writer_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    first, second = lease_of(tmp_path, clock), lease_of(tmp_path, clock)
    with pytest.raises(Fenced, match="took the lease"):
        first.take(sleep=lambda seconds: second._write())


def test_a_driver_that_lost_its_lease_commits_nothing(tmp_path: Path) -> None:
    clock, log = Clock(), Log()
    first, second = lease_of(tmp_path, clock), lease_of(tmp_path, clock)
    first.take(sleep=lambda seconds: None)
    guarded = first.guard(log)
    guarded.append([Record("attempt")])
    second._write()
    with pytest.raises(Fenced):
        guarded.append([Record("attempt")])
    assert len(log.parts) == 1
    first.release()
    assert (tmp_path / LEASE).exists(), "another's lease is not removed"


class Refusing(LocalStorage):
    """A store whose policy refuses what `refuses` names; it counts how often."""

    refuses = ""
    refused = 0

    def _refuse(self, method: str) -> None:
        if method == self.refuses:
            self.refused += 1
            raise StorageRefused("explicit deny in a policy", self.uri, "change it")

    def get(self, key: str, bytes_max: int | None = None) -> bytes:
        self._refuse("get")
        return super().get(key, bytes_max)

    def delete(self, key: str) -> None:
        self._refuse("delete")
        super().delete(key)


def test_a_lease_that_may_not_be_removed_ends_no_finished_run(tmp_path: Path) -> None:
    storage = Refusing(tmp_path, create=True)
    lease = Lease(storage)
    lease.take(sleep=lambda seconds: None)
    storage.refuses = "delete"
    lease.release()
    assert storage.refused == 1 and (tmp_path / LEASE).exists(), "it ends by itself"


def test_a_refused_read_does_not_end_the_renewing(tmp_path: Path) -> None:
    storage = Refusing(tmp_path, create=True)
    lease = Lease(storage, ttl_s=0.045)
    lease.take(sleep=lambda seconds: None)
    storage.refuses = "get"
    wait_for(lambda: storage.refused >= 3)
    with pytest.raises(StorageRefused):
        lease.hold()
    storage.refuses = ""
    lease.hold()
    lease.release()
    assert not (tmp_path / LEASE).exists()


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2", '{"owner":"a","at":' + "9" * 400 + "}", '{"owner":"a","at":1e999}', '{"owner":"a","at":NaN}', "[" * 4000,
        '{"owner":"a","at":1000700,"ttl_s":90}', '{"owner":"a","at":1000000,"ttl_s":NaN}', '{"owner":"a","at":1000000,"ttl_s":-1}',
    ],
)  # fmt: skip
def test_what_lies_there_and_is_no_lease_holds_nobody_up(tmp_path: Path, text: str) -> None:
    clock = Clock()
    (tmp_path / "provenance").mkdir()
    (tmp_path / LEASE).write_text(text)
    assert not leases.held(LocalStorage(tmp_path, create=True), clock)
    found = lease_of(tmp_path, clock)
    found.take(sleep=lambda seconds: None)
    found.release()
    assert not (tmp_path / LEASE).exists()


@pytest.mark.parametrize(("ahead_s", "left_s"), [(-90, 0), (-60, 30), (0, 90), (599, 90), (601, 0)])
def test_a_clock_that_is_ahead_holds_a_log_no_longer_than_its_lease(ahead_s: float, left_s: float) -> None:
    assert leases.Held("a", 1000.0 + ahead_s, 90.0).left_s(1000.0) == left_s
