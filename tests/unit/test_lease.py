"""The lease where put-if-absent does not hold: who may go on, who is refused, and when a dead driver's lease ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from renderfarm.errors import Fenced
from renderfarm.output import LEASE
from renderfarm.run import lease as leases
from renderfarm.run.lease import Lease
from renderfarm.schema import Record
from renderfarm.storage import LocalStorage


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


def test_what_lies_there_and_is_no_lease_holds_nobody_up(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "provenance").mkdir()
    (tmp_path / LEASE).write_text("[1, 2")
    found = lease_of(tmp_path, clock)
    found.take(sleep=lambda seconds: None)
    found.release()
    assert not (tmp_path / LEASE).exists()
