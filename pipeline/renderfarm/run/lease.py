"""A lease object, for storages where several writers of one new object may win: the second driver is refused while the first one lives.

Such a storage cannot fence, so this is a courtesy, not a proof: two drivers whose writes are apart by more than SETTLE_S in the storage may
both read their own lease back. The holder writes `provenance/lease` again and again; one that is older than TTL_S is taken over.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence

from renderfarm.errors import Fenced, NotStored, StorageAway, StorageRefused
from renderfarm.logs import get_logger
from renderfarm.output import LEASE
from renderfarm.run.loop import Committer
from renderfarm.schema import Record
from renderfarm.storage import Storage

log = get_logger()

BYTES_MAX = 4096
TTL_S = 90.0
RENEW_S = 20.0
SETTLE_S = 2.0


class Lease:
    """One driver's claim on an output. `take` it, `guard` the writer with it, `release` it at the end."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.time, renew_s: float = RENEW_S) -> None:
        self._storage, self._clock, self._renew_s = storage, clock, renew_s
        self.owner = secrets.token_hex(8)
        self._lost = ""
        self._renewed = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Claim the output, and go on renewing in a thread. Raises: Fenced while another driver holds it, StorageAway."""
        self._require_free()
        self._write()
        sleep(SETTLE_S)
        self._require_mine()
        self._thread.start()

    def _read(self) -> tuple[str, float]:
        """Owner and time of the lease that lies there; nobody's where there is none, or it says nothing."""
        try:
            found = json.loads(self._storage.get(LEASE, BYTES_MAX))
            return str(found["owner"]), float(found["at"])
        except (NotStored, ValueError, KeyError, TypeError):
            return "", 0.0

    def _write(self) -> None:
        self._renewed = self._clock()
        self._storage.put(LEASE, json.dumps({"owner": self.owner, "at": self._renewed}).encode(), "application/json")

    def _require_free(self) -> None:
        owner, at = self._read()
        left_s = at + TTL_S - self._clock()
        if owner not in ("", self.owner) and left_s > 0:
            raise Fenced(
                f"another driver holds the lease of {self._storage.uri}; if it was killed, the lease ends in {left_s:.0f} s: try again then"
            )

    def _require_mine(self) -> None:
        owner, _ = self._read()
        if owner != self.owner:
            raise Fenced(f"another driver took the lease of {self._storage.uri}; let one driver at a time write to an output")

    def _keep(self) -> None:
        while not self._ended.wait(self._renew_s):
            try:
                self._require_mine()
                self._write()
            except Fenced as error:
                self._lost = str(error)
                log.warning("lease.lost", reason=self._lost)
                return
            except (StorageAway, StorageRefused) as error:  # the next time, or the commit, which says so itself
                log.warning("lease.not_renewed", reason=str(error))

    def hold(self) -> None:
        """That it is still ours, asked before every commit. Raises: Fenced, StorageAway."""
        if self._lost:
            raise Fenced(self._lost)
        self._require_mine()

    def guard(self, writer: Committer) -> Committer:
        """The writer, each of whose commits asks the lease first."""
        return _Guarded(self, writer)

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
            log.warning("lease.not_removed", reason=str(error), ends_in_s=TTL_S)


class _Guarded:
    def __init__(self, lease: Lease, writer: Committer) -> None:
        self._lease, self._writer = lease, writer

    def append(self, records: Sequence[Record]) -> object:
        """Raises: Fenced, StorageAway."""
        self._lease.hold()
        return self._writer.append(records)
