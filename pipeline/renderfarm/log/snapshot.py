"""What a log said up to a checkpoint, so that a start need not read a hundred thousand parts. A cache, signed by the log's key.

It can be deleted at any time. A start believes it if the log's key signed it, if it is of this log, and if the part that it
ends with is there and signs the same root; it then reads only the parts behind it. Parts before it are not verified again
by that start: this is what `audit` is for, which never looks at a snapshot.

    renderfarm-snapshot/3
    renderfarm/mugs                    origin
    2048                               number of parts it covers
    9f3b...                            root of the log tree over them, hex
    6a0c...                            SHA-256 of the body, hex

    \u2014 key name, signature             as in a signed note
    <body: NumPy arrays, npz without pickles>
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from renderfarm.log.state import LogState
from renderfarm.log.tree import HASH_BYTES, Frontier
from renderfarm.notes import Checkpoint, Signer, key_id

FORMAT = "renderfarm-snapshot/3"
BYTES_MAX = 4 << 30
PARTS_BEHIND = 2048
ROWS_BEHIND, SHARE_BEHIND = 100_000, 10
"""A snapshot is renewed when so many parts have come since, or so many rows that are also a tenth of all: a start verifies some 30,000
rows a second, and what all snapshots of a long log write together stays below eleven times the last one."""

_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state, and the log tree that it was folded from."""

    state: LogState
    frontier: Frontier
    leaves: tuple[bytes, ...]


def dump(state: LogState, leaves: Sequence[bytes], origin: str, signer: Signer) -> bytes:
    """The signed snapshot of a state that was folded from the parts with these leaves."""
    body, frontier = io.BytesIO(), _frontier(leaves)
    hashes = np.frombuffer(b"".join(leaves), np.uint8).reshape(-1, HASH_BYTES)
    np.savez(body, leaves=hashes, **state.dump())  # type: ignore[arg-type]
    data = body.getvalue()
    text = _text(origin, frontier, hashlib.sha256(data).hexdigest())
    line = f"{signer.name} {(key_id(signer.name, signer.public_key) + signer.sign(text)).hex()}"
    return text + f"\n\u2014 {line}\n".encode() + data


def load(data: bytes, origin: str, keys: Mapping[str, Ed25519PublicKey]) -> Snapshot:
    """The snapshot, if one of `keys` signed it for this log. Whether the log agrees with it is the caller's to see.

    Raises: ValueError for anything else.
    """
    head, mark, rest = data[:_HEAD_BYTES].partition("\n\u2014 ".encode())
    line, end, _ = rest.partition(b"\n")
    if not mark or not end:
        raise ValueError("no signature")
    body = data[len(head) + len(mark) + len(line) + 1 :]
    lines = head.decode().split("\n")
    if len(lines) != 6 or lines[0] != FORMAT or lines[1] != origin or lines[4] != hashlib.sha256(body).hexdigest():
        raise ValueError("not a snapshot of this log")
    name, _, signature = line.decode().partition(" ")
    _verify(head, name, bytes.fromhex(signature), keys)
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            hashes = arrays["leaves"].tobytes()
            state = LogState.restore(arrays)
    except (KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"malformed: {error}") from error
    leaves = tuple(hashes[start : start + HASH_BYTES] for start in range(0, len(hashes), HASH_BYTES))
    snapshot = Snapshot(state, _frontier(leaves), leaves)
    if snapshot.frontier.root().hex() != lines[3] or len(leaves) != int(lines[2]):
        raise ValueError("its tree does not give its root")
    return snapshot


def _frontier(leaves: Sequence[bytes]) -> Frontier:
    frontier = Frontier()
    for leaf in leaves:
        frontier = frontier.append(leaf)
    return frontier


def agrees(snapshot: Snapshot, head: Checkpoint, before: Frontier, leaf: bytes) -> bool:
    """Whether the part that the snapshot ends with (its checkpoint, the tree before it, its leaf) leads to the same tree."""
    return before.append(leaf) == snapshot.frontier and head.root == snapshot.frontier.root()


def _text(origin: str, frontier: Frontier, digest: str) -> bytes:
    return f"{FORMAT}\n{origin}\n{frontier.size}\n{frontier.root().hex()}\n{digest}\n".encode()


def _verify(text: bytes, name: str, signature: bytes, keys: Mapping[str, Ed25519PublicKey]) -> None:
    public_key = keys.get(name)
    if public_key is None or signature[:4] != key_id(name, public_key):
        raise ValueError("signed by an unknown key")
    try:
        public_key.verify(signature[4:], text)
    except InvalidSignature as error:
        raise ValueError("a bad signature") from error
