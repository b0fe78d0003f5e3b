"""A lease object: who holds the log just now, a driver or somebody who takes in statements.

Where the storage cannot fence (several writers of one new object may win) it keeps a second driver away while the first one lives. That is
a courtesy, not a proof: two drivers whose writes are apart by more than SETTLE_S in the storage may both read their own lease back. The
holder writes `provenance/lease` again and again; one that is older than it says it may get is taken over.

Where the storage fences, the log itself keeps writers apart, and a driver takes the lease only to be seen: so whoever leaves a statement in
the inbox knows that somebody comes to take it in, and does not open the log.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from renderfarm.errors import AlreadyStored, Fenced, NotStored, StorageAway, StorageRefused
from renderfarm.log.writer import Committer
from renderfarm.logs import get_logger
from renderfarm.output import LEASE
from renderfarm.schema import Record
from renderfarm.storage import Storage

log = get_logger()

BYTES_MAX = 4096
RUN, PEOPLE = "run", "people"
"""Who holds it: a driver, or somebody who takes in statements, which is done in seconds."""
TTL_S = {RUN: 90.0, PEOPLE: 20.0}
PEOPLE_TURNS = 6
"""A driver waits so many times that long: several people may take turns, and one of them may have been killed."""
RENEWALS = 4.5
"""How often a lease is written in the time after which it would end."""
SETTLE_S = 2.0
TTL_MAX_S = 600.0
AHEAD_MAX_S = 600.0
"""So far the clock of who wrote it may be ahead of ours."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the lease says: whose it is, "" for nobody's; when it was written, by its writer's clock; after how long it ends; what for."""

    owner: str = ""
    at: float = 0.0
    ttl_s: float = 0.0
    holder: str = RUN

    def left_s(self, now: float) -> float:
        """How long it still counts; 0 for nobody's, one that ended, or one from so far ahead that no clock explains it."""
        counts = self.owner and now - self.ttl_s < self.at <= now + AHEAD_MAX_S
        return max(0.0, min(self.at + self.ttl_s - now, self.ttl_s)) if counts else 0.0


def read(storage: Storage) -> Held:
    """The lease that lies there; nobody's where there is none, or it says nothing. Raises: StorageAway."""
    try:
        found = json.loads(storage.get(LEASE, BYTES_MAX))
        holder = PEOPLE if found.get("holder") == PEOPLE else RUN
        return Held(str(found["owner"]), float(found["at"]), min(float(found.get("ttl_s", TTL_S[RUN])), TTL_MAX_S), holder)
    except (NotStored, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return Held()


def held(storage: Storage, clock: Callable[[], float] = time.time) -> bool:
    """Whether somebody holds the log who will look into the inbox once more before the end. Raises: StorageAway."""
    return read(storage).left_s(clock()) > 0


class Lease:
    """One claim on an output. `take` it (a driver) or `offer` (for statements), `guard` the writer with it, `release` it at the end.

    fences: whether the storage keeps writers apart by itself.
    """

    def __init__(
        self,
        storage: Storage,
        clock: Callable[[], float] = time.time,
        *,
        fences: bool = False,
        holder: str = RUN,
        ttl_s: float | None = None,
        renew_s: float | None = None,
    ) -> None:
        self._storage, self._clock, self._fences, self._holder = storage, clock, fences, holder
        self._ttl_s = ttl_s or TTL_S[holder]
        self._renew_s = renew_s or self._ttl_s / RENEWALS
        self.owner = secrets.token_hex(8)
        self._lost = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Claim the output for a driver, and go on renewing in a thread; whoever takes in statements is waited for.

        Raises: Fenced while another driver holds it and nothing but the lease keeps drivers apart; StorageAway.
        """
        give_up = self._clock() + PEOPLE_TURNS * TTL_S[PEOPLE]
        while True:
            found = read(self._storage)
            left_s = found.left_s(self._clock())
            if found.holder == PEOPLE and left_s > 0 and self._clock() < give_up:
                sleep(min(left_s, SETTLE_S) / 4)
                continue
            if left_s > 0 and found.owner != self.owner and not self._fences:
                raise Fenced(
                    f"another driver holds the lease of {self._storage.uri}; if it was killed, the lease ends in {left_s:.0f} s: "
                    "try again then"
                )
            self._write()
            if self._fences:
                break
            sleep(SETTLE_S)
            if (found := read(self._storage)).owner == self.owner:
                break
            if found.holder == RUN:
                self._require_mine()
        self._thread.start()

    def offer(self, sleep: Callable[[float], None] = time.sleep) -> bool:
        """Claim the output for taking in statements; False where somebody else holds it, who takes them in. Raises: StorageAway."""
        found = read(self._storage)
        if found.left_s(self._clock()) > 0:
            return False
        if self._fences and not found.owner:
            try:
                self._storage.put_new(LEASE, self._said(), "application/json")
            except AlreadyStored:
                return False
        else:
            self._write()
            sleep(SETTLE_S)
            if read(self._storage).owner != self.owner:
                return False
        self._thread.start()
        return True

    def _said(self) -> bytes:
        return json.dumps({"owner": self.owner, "at": self._clock(), "ttl_s": self._ttl_s, "holder": self._holder}).encode()

    def _write(self) -> None:
        self._storage.put(LEASE, self._said(), "application/json")

    def _require_mine(self) -> None:
        if read(self._storage).owner != self.owner:
            raise Fenced(f"another driver took the lease of {self._storage.uri}; let one driver at a time write to an output")

    def _keep(self) -> None:
        while not self._ended.wait(self._renew_s):
            try:
                if self._fences:
                    self._show()
                else:
                    self._require_mine()
                    self._write()
            except Fenced as error:
                self._lost = str(error)
                log.warning("lease.lost", reason=self._lost)
                return
            except (StorageAway, StorageRefused) as error:  # the next time, or the commit, which says so itself
                log.warning("lease.not_renewed", reason=str(error))

    def _show(self) -> None:
        """Renews a lease that only shows that we are here; another driver's is left, until it ends."""
        found = read(self._storage)
        if found.owner == self.owner or not found.left_s(self._clock()):
            self._write()

    def hold(self) -> None:
        """That it is still ours, asked before every commit where nothing else keeps drivers apart. Raises: Fenced, StorageAway."""
        if self._lost:
            raise Fenced(self._lost)
        self._require_mine()

    def guard(self, writer: Committer) -> Committer:
        """The writer, each of whose commits asks the lease first; the writer itself where the storage fences."""
        return writer if self._fences else _Guarded(self, writer)

    def release(self) -> None:
        """End renewing, and remove the lease if it is ours; one that may not be removed ends by itself after TTL_S."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self._require_mine()
            self._storage.delete(LEASE)
        except (Fenced, StorageAway):
            pass
        except StorageRefused as error:
            log.warning("lease.not_removed", reason=str(error), ends_in_s=self._ttl_s)


class _Guarded:
    def __init__(self, lease: Lease, writer: Committer) -> None:
        self._lease, self._writer = lease, writer

    def append(self, records: Sequence[Record]) -> object:
        """Raises: Fenced, StorageAway."""
        self._lease.hold()
        return self._writer.append(records)
