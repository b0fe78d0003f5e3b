"""The salts of rows, by row id: those of the log, and new ones for rows that it does not know.

A row keeps its salt, so its images keep their ids. Holds 24 bytes for each image that the log knows.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from array import array
from collections.abc import Callable, Mapping, Sequence

import numpy as np

SALT_BYTES = 16
Salts = Callable[[Sequence[str]], Sequence[str]]
"""The salts of rows with these ids: 32 hex digits each, or "" in an output without salts."""


def plain(row_ids: Sequence[str]) -> Sequence[str]:
    """No salts: those of an output that began before record version 4."""
    return [""] * len(row_ids)


class KnownSalts:
    """Feed it what the log says with `add`; ask it any time with `of`."""

    def __init__(self) -> None:
        self._rows, self._salts = np.zeros(0, np.uint64), np.zeros((0, SALT_BYTES), np.uint8)
        self._new_rows, self._new_salts = array("Q"), bytearray()
        self._fresh = secrets.token_bytes(32)
        self._asked = False

    def add(self, row_id: object, salt: object) -> None:
        """One record's row and salt. Later ones win, until `of` is asked: from then on only rows of its own giving are new."""
        if isinstance(row_id, str) and isinstance(salt, str) and len(salt) == 2 * SALT_BYTES:
            self._new_rows.append(row_hash(row_id))
            self._new_salts += bytes.fromhex(salt)

    def of(self, row_ids: Sequence[str]) -> list[str]:
        """The salts of these rows. A row that is not known gets a random one, the same whenever this object is asked."""
        if not self._asked:
            self._settle()
            self._asked = True
        digests = [hashlib.sha256(row_id.encode("utf-8", "surrogatepass")).digest()[:8] for row_id in row_ids]
        hashes = np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)  # as `row_hash` gives them, in half the time
        places = np.searchsorted(self._rows, hashes, "right") - 1
        known = (places >= 0) & (self._rows[places] == hashes) if len(self._rows) else np.zeros(len(hashes), bool)
        salts = self._salts[places].tobytes().hex() if len(self._rows) else ""
        width, found = 2 * SALT_BYTES, known.tolist()
        return [salts[width * at : width * (at + 1)] if found[at] else self._fresh_salt(row_id) for at, row_id in enumerate(row_ids)]

    def _fresh_salt(self, row_id: str) -> str:
        return hmac.digest(self._fresh, row_id.encode("utf-8", "surrogatepass"), "sha256")[:SALT_BYTES].hex()

    def _settle(self) -> None:
        """Sorts what came by row, the last one of a row behind the others."""
        rows, salts = self._all()
        order = np.argsort(rows, kind="stable")
        self._rows, self._salts = rows[order], salts[order]
        self._new_rows, self._new_salts = array("Q"), bytearray()

    def _all(self) -> tuple[np.ndarray, np.ndarray]:
        new = np.frombuffer(bytes(self._new_salts), np.uint8).reshape(-1, SALT_BYTES)
        return np.concatenate([self._rows, np.array(self._new_rows, np.uint64)]), np.concatenate([self._salts, new])

    def dump(self) -> dict[str, np.ndarray]:
        """Everything in it as arrays, for a snapshot."""
        rows, salts = self._all()
        return {"salt_rows": rows, "salts": salts}

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray]) -> KnownSalts:
        """`dump` backwards. Raises: KeyError or ValueError for arrays of another kind."""
        known = cls()
        known._new_rows = array("Q", arrays["salt_rows"].astype(np.uint64).tobytes())
        known._new_salts = bytearray(arrays["salts"].reshape(-1, SALT_BYTES).tobytes())
        return known


def row_hash(row_id: str) -> int:
    """64 bits of a row's id."""
    return int.from_bytes(hashlib.sha256(row_id.encode("utf-8", "surrogatepass")).digest()[:8], "big")
