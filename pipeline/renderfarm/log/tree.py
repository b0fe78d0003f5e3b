"""The Merkle trees of the provenance log, their proofs, and how those are checked. Pure: bytes in, bytes out.

RFC 6962 section 2.1 with SHA-256: a leaf is SHA-256(00 || data), a node SHA-256(01 || left || right), the empty tree
SHA-256 of nothing. Proof checking is RFC 9162 sections 2.1.3.2 and 2.1.4.2. There are two levels: a part's *row tree* has a
leaf for the canonical bytes of each of its records, the *log tree* has a leaf for each part (`part_leaf`). What the bytes
mean is for `canonical`, and who signed a root is for `notes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

HASH_BYTES = 32
PROOF_MAX = 64
"""More hashes than a proof over 2**63 leaves can need."""

EMPTY_ROOT = hashlib.sha256().digest()


def leaf_hash(data: bytes | memoryview) -> bytes:
    """SHA-256(00 || data)."""
    digest = hashlib.sha256(b"\x00")
    digest.update(data)
    return digest.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def part_leaf(number: int, rows: int, row_root: bytes, index_root: bytes | None = None) -> bytes:
    """The log tree's leaf for one part: a leaf hash over its number, its row count, the root of its row tree and, from record version 4
    on, of its index tree, as text lines."""
    if index_root is None:
        return leaf_hash(f"renderfarm-part/1\n{number}\n{rows}\n{row_root.hex()}\n".encode())
    return leaf_hash(f"renderfarm-part/2\n{number}\n{rows}\n{row_root.hex()}\n{index_root.hex()}\n".encode())


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes. Pairing neighbours and lifting a last odd node gives the tree that RFC 6962 splits from
    the top."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        level = _next_level(level)
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The sibling hashes from leaf `index` up to the root.

    Raises: ValueError when there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"no leaf {index} among {len(leaves)}")
    level, proof = list(leaves), []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        level, index = _next_level(level), index >> 1
    return tuple(proof)


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that a leaf and its proof lead to; equal to the tree's root if, and only if, the leaf is in it at that
    place.

    Raises: ValueError when the proof has the wrong number or size of hashes for that place.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    _check_hashes(proof)
    node, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ValueError("the proof is too long")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ValueError("the proof is too short")
    return root


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof shows the leaf at `index` of the tree of `size` leaves with this root. Malformed proofs are
    just false."""
    try:
        return root_from_inclusion(leaf, index, size, proof) == root
    except ValueError:
        return False


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """Shows that the tree over `leaves` begins with the tree over the first `old_size` of them (RFC 6962 section
    2.1.2).

    Raises: ValueError when `old_size` is below 1 or more than there are leaves.
    """
    if not 1 <= old_size <= len(leaves):
        raise ValueError(f"no tree of {old_size} within {len(leaves)}")
    return tuple(_subproof(leaves, old_size, whole=True))


def _subproof(leaves: Sequence[bytes], old_size: int, whole: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if whole else [tree_root(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = leaves[:split], leaves[split:]
    if old_size <= split:
        return [*_subproof(left, old_size, whole), tree_root(right)]
    return [*_subproof(right, old_size - split, False), tree_root(left)]


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree of `new_size` extends the tree of `old_size`. Malformed proofs are just
    false."""
    try:
        _check_hashes(proof)
    except ValueError:
        return False
    if not 1 <= old_size <= new_size:
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    hashes = list(proof)
    if old_size & (old_size - 1) == 0:
        hashes.insert(0, old_root)
    if not hashes:
        return False
    return _walk_consistency(old_size, new_size, old_root, new_root, hashes)


def _walk_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, hashes: list[bytes]) -> bool:
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


@dataclass(frozen=True, slots=True)
class Frontier:
    """What must be kept of a tree to append to it: the roots of the perfect subtrees that `size` falls into, largest
    first.

    It is also the inclusion proof of the *next* leaf in the tree that this leaf completes, read backwards.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Raises: ValueError when the number or size of the hashes does not fit `size`."""
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"{len(self.hashes)} hashes are no frontier of a tree of {self.size}")
        _check_hashes(self.hashes)

    def append(self, leaf: bytes) -> Frontier:
        """The frontier with one leaf more; O(log n)."""
        hashes, size = list(self.hashes), self.size
        while size & 1:
            leaf, size = node_hash(hashes.pop(), leaf), size >> 1
        return Frontier(self.size + 1, (*hashes, leaf))

    def root(self) -> bytes:
        """The root of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def _next_level(level: list[bytes]) -> list[bytes]:
    sha256 = hashlib.sha256
    paired = [sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        paired.append(level[-1])
    return paired


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if len(hashes) > PROOF_MAX:
        raise ValueError(f"{len(hashes)} hashes are more than any proof needs")
    if any(len(item) != HASH_BYTES for item in hashes):
        raise ValueError("a hash that is not 32 bytes")
